"""Starts the demo's processes, restarts those that die, and ends all of them.

Everything happens in one thread that polls ten times a second: there is nothing to lock, and a signal only sets a flag.
Each process leads its own process group, so that Ctrl-C reaches only this process, which ends the others in order.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO

from .home import HOST
from .log import Log

START_SECONDS = 60.0
STOP_SECONDS = 12.0
_FIRST_BACKOFF_SECONDS, _MAX_BACKOFF_SECONDS = 0.5, 15.0
# Run time after which a process that dies is restarted with the shortest backoff.
_STEADY_SECONDS = 30.0
_LOOK_SECONDS = 0.1


class StartError(Exception):
    """A process did not start, or a step failed; the message contains its last lines."""


class StoppedError(Exception):
    """Somebody asked the demo to stop (Ctrl-C, SIGTERM, SIGHUP)."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number


@dataclass(frozen=True)
class Part:
    """A process that runs for the whole demo. It is up when its `port` answers, or when it has written `ready_words`.

    `after_restart`: called when it is up again after a restart; may raise `StartError`.
    """

    name: str
    command: tuple[str, ...]
    port: int = 0
    ready_words: str = ""
    after_restart: Callable[[], None] | None = None


@dataclass
class _Running:
    part: Part
    process: subprocess.Popen[str]
    reader: threading.Thread
    started_at: float
    is_up: threading.Event = field(default_factory=threading.Event)
    backoff_seconds: float = 0.0
    starts_again_at: float | None = None
    is_followed_up: bool = True


class Supervisor:
    """A context manager that ends all started processes on exit. A process may have only one at a time."""

    def __init__(self, folder: Path, environment: dict[str, str], log: Log) -> None:
        self._folder = folder
        self._environment = environment
        self._log = log
        self._running: dict[str, _Running] = {}
        self._stop_signals: list[int] = []
        self._former_handlers: dict[int, object] = {}

    def __enter__(self) -> Supervisor:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._former_handlers[number] = signal.signal(number, self._note_signal)
        self._watchdog = _start_watchdog()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._stop_all()
        finally:
            self._watchdog.stdin.close()
            self._watchdog.wait()
            for number, handler in self._former_handlers.items():
                signal.signal(number, handler)

    def start(self, *parts: Part) -> None:
        """Start `parts` and return when all are up. Raises `StartError` or `StoppedError`."""
        for part in parts:
            self._running[part.name] = self._start(part)
        gives_up_at = time.monotonic() + START_SECONDS
        for part in parts:
            running = self._running[part.name]
            while not _is_up(running):
                if running.process.poll() is not None:
                    running.reader.join(timeout=1)
                    raise StartError(
                        f"{part.name} {_ending(running.process)} while starting:\n{self._last_words(part.name)}"
                    )
                if time.monotonic() > gives_up_at:
                    raise StartError(f"{part.name} did not start:\n{self._last_words(part.name)}")
                self._pause()

    def run_step(self, name: str, command: Iterable[str]) -> None:
        """Run a command to its end, with its output in the log. Raises `StartError` if it fails, or `StoppedError`."""
        step = self._start(Part(name, tuple(command)))
        try:
            while step.process.poll() is None:
                self._pause()
        finally:
            self._end([step])
        if step.process.returncode:
            raise StartError(f"{name} {_ending(step.process)}:\n{self._last_words(name)}")

    def run_beside(self, command: Iterable[str]) -> int:
        """Run a command that writes to the terminal, keep the parts running meanwhile, and return its exit code."""
        process = self._spawn(command, stdout=None)
        try:
            while process.poll() is None:
                self._look_after_parts()
                self._pause()
        finally:
            _signal_group(process, signal.SIGTERM)
            process.wait()
            self._tell_watchdog("-", process)
        return process.returncode

    def run_until_stopped(self) -> None:
        """Keep the parts running until a signal raises `StoppedError`."""
        while True:
            self._look_after_parts()
            self._pause()

    def pids(self) -> dict[str, int]:
        return {name: running.process.pid for name, running in self._running.items()}

    def _look_after_parts(self) -> None:
        now = time.monotonic()
        for running in list(self._running.values()):
            if running.starts_again_at is None and running.process.poll() is not None:
                self._plan_restart(running, now)
            elif running.starts_again_at is not None and now >= running.starts_again_at:
                self._restart(running)
            elif not running.is_followed_up and _is_up(running):
                self._follow_up(running)

    def _plan_restart(self, running: _Running, now: float) -> None:
        self._tell_watchdog("-", running.process)
        was_steady = now - running.started_at >= _STEADY_SECONDS
        following = _FIRST_BACKOFF_SECONDS if was_steady else running.backoff_seconds * 2 or _FIRST_BACKOFF_SECONDS
        running.backoff_seconds = min(following, _MAX_BACKOFF_SECONDS)
        running.starts_again_at = now + running.backoff_seconds
        self._log.note(
            f"{running.part.name} (pid {running.process.pid}) {_ending(running.process)};"
            f" it is started again in {running.backoff_seconds:g} s."
        )

    def _restart(self, running: _Running) -> None:
        again = self._start(running.part)
        again.backoff_seconds = running.backoff_seconds
        again.is_followed_up = running.part.after_restart is None
        self._running[running.part.name] = again
        self._log.note(f"{running.part.name} started again, pid {again.process.pid}.")

    def _follow_up(self, running: _Running) -> None:
        running.is_followed_up = True
        try:
            running.part.after_restart()
        except StartError as error:
            self._log.note(f"The steps after a restart of {running.part.name} failed: {error}")

    def _start(self, part: Part) -> _Running:
        process = self._spawn(part.command, stdout=subprocess.PIPE)
        is_up = threading.Event()
        reader = threading.Thread(target=self._read, args=(part, process.stdout, is_up), daemon=True)
        reader.start()
        return _Running(part, process, reader, time.monotonic(), is_up)

    def _spawn(self, command: Iterable[str], *, stdout: int | None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            list(command),
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT if stdout else None,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self._tell_watchdog("+", process)
        return process

    def _read(self, part: Part, stream: IO[str], is_up: threading.Event) -> None:
        for line in stream:
            if part.ready_words and part.ready_words in line:
                is_up.set()
            self._log.write(part.name, line)
        stream.close()

    def _pause(self) -> None:
        if self._stop_signals:
            raise StoppedError(self._stop_signals[0])
        time.sleep(_LOOK_SECONDS)

    def _note_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop_signals.append(number)

    def _last_words(self, name: str) -> str:
        return "\n".join(f"  {line}" for line in self._log.last_lines(name, 15)) or "  (it wrote nothing)"

    def _stop_all(self) -> None:
        # In reverse order, so that a worker in the middle of a call still reaches the phone and the site.
        parts = [running for running in self._running.values() if running.starts_again_at is None]
        self._end(parts[2:])
        self._end(parts[:2])

    def _end(self, ending: list[_Running]) -> None:
        """End processes with SIGTERM; with SIGKILL if they take too long, or another signal arrives meanwhile."""
        signals_before = len(self._stop_signals)
        for running in ending:
            _signal_group(running.process, signal.SIGTERM)
        gives_up_at = time.monotonic() + STOP_SECONDS
        while any(running.process.poll() is None for running in ending):
            if time.monotonic() > gives_up_at or len(self._stop_signals) > signals_before:
                break
            time.sleep(0.02)
        for running in ending:
            # The group and not only the process, which may have left children behind.
            _signal_group(running.process, signal.SIGKILL)
            running.process.wait()
            running.reader.join(timeout=2)
            self._tell_watchdog("-", running.process)

    def _tell_watchdog(self, sign: str, process: subprocess.Popen[str]) -> None:
        try:
            self._watchdog.stdin.write(f"{sign}{process.pid}\n")
            self._watchdog.stdin.flush()
        except BrokenPipeError:
            # The watchdog was killed; the demo itself continues.
            pass


def _start_watchdog() -> subprocess.Popen[str]:
    script = Path(__file__).with_name("watchdog.py")
    return subprocess.Popen(
        [sys.executable, "-IS", str(script)], stdin=subprocess.PIPE, text=True, start_new_session=True
    )


def _is_up(running: _Running) -> bool:
    if running.part.ready_words:
        return running.is_up.is_set()
    try:
        socket.create_connection((HOST, running.part.port), timeout=1).close()
    except OSError:
        return False
    return True


def _ending(process: subprocess.Popen[str]) -> str:
    code = process.returncode
    return f"was killed by signal {-code}" if code and code < 0 else f"ended with exit code {code}"


def _signal_group(process: subprocess.Popen[str], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        pass
