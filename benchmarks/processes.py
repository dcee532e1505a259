"""CPU time and memory of processes: ours with their children, and separately the database's."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from .result import Sample
from .servers import database_pid

ROOT = Path(__file__).resolve().parent.parent
_IS_LINUX = sys.platform == "linux"


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, its living children and those it has waited for."""
    total = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess, OSError):
                times = one.cpu_times()
                # `cpu_times()` is rounded to hundredths, and an idle process takes no more than that in a minute.
                total += time.clock_gettime(~one.pid << 3 | 2) if _IS_LINUX else times.user + times.system
                total += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return total


def memory_mib(pid: int) -> float:
    """Resident memory of a process and its children, in MiB; memory that they share is counted for each."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += one.memory_info().rss
    return total / 2**20


class Watched:
    """CPU and memory that processes and the database use during the `with` block; `sample(units)` returns both."""

    def __init__(self, pids: Sequence[int] = (), database: str = "") -> None:
        self.pids = list(pids) or [os.getpid()]
        self.database_pid = database_pid(database) if database else None
        self.peak_mib = 0.0
        self._ended = threading.Event()

    def __enter__(self) -> Watched:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        self._before = self._cpu()
        self._began_at = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_seconds = time.perf_counter() - self._began_at
        # A server process that ended with its connection counts only once the server has waited for it.
        time.sleep(0.1)
        after = self._cpu()
        self.cpu, self.database_cpu = (now - before for now, before in zip(after, self._before, strict=True))
        self._ended.set()
        self._thread.join()

    def sample(self, units: int) -> Sample:
        return Sample(units, self.wall_seconds, self.cpu, self.database_cpu, self.peak_mib)

    def _cpu(self) -> tuple[float, float]:
        return sum(map(cpu_seconds, self.pids)), cpu_seconds(self.database_pid) if self.database_pid else 0.0

    def _watch(self) -> None:
        while True:
            self.peak_mib = max(self.peak_mib, sum(map(memory_mib, self.pids)))
            if self._ended.wait(1.0):
                return


@contextlib.contextmanager
def started(arguments: Sequence[str], ready: str = "", **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process of this Python in the project's folder until the block ends. Waits until it has written `ready`."""
    log = Path(os.environ.get("BENCH_LOGS", "/dev/null"))
    is_watched = bool(ready)
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE if is_watched else file,
            stderr=subprocess.STDOUT,
        )
    try:
        if is_watched:
            _wait_for(process, ready.encode(), log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(process: subprocess.Popen[bytes], ready: bytes, log: Path) -> None:
    assert process.stdout is not None
    said = b""
    for line in process.stdout:
        said += line
        if ready in line:
            break
    else:
        raise RuntimeError(f"{process.args} ended before it was ready:\n{said.decode(errors='replace')[-4000:]}")
    # Its further output has to be read, because the process would block on a full pipe.
    stream = process.stdout

    def drain() -> None:
        with log.open("ab") as file:
            for line in stream:
                file.write(line)

    threading.Thread(target=drain, daemon=True).start()


@contextlib.contextmanager
def celery_worker(*options: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Celery worker of the benchmarks' site, ready; `options` are those of `celery worker`."""
    with started(
        # It need not look for other workers, which takes a second.
        [
            "-m",
            "celery",
            "-A",
            "benchmarks.site.celery_app",
            "worker",
            "--loglevel=WARNING",
            "--without-mingle",
            *options,
        ],
        ready="benchmark worker ready",
        **environment,
    ) as process:
        yield process
