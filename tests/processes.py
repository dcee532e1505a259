"""The processes of the test site: `manage.py` commands, Celery workers and beats, on the test database.

    @pytest.mark.django_db(transaction=True)
    def test_…():
        kpwa = {"GATEWAY": "django_kpwa.gateway.http.HttpGateway", "BASE_URLS": [sandbox.base_url]}
        with start_celery_worker(servers.redis_url(), kpwa=kpwa) as worker: …

The test needs a transactional database, because other processes see only committed data.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

from django.db import connection

ROOT = Path(__file__).resolve().parent.parent
STARTUP_SECONDS = 90
STOP_SECONDS = 30


def site_environment(
    *, broker_url: str = "", broker_folder: str | Path = "", kpwa: dict | None = None
) -> dict[str, str]:
    """Return the environment for a process that shares this test's database.

    `kpwa`: changes to `KPWA` of tests/settings.py. `broker_folder`: the folder of a filesystem broker's files.
    """
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": _test_database_url(),
        "CELERY_BROKER_URL": broker_url,
        # System checks take a third of a worker's start, and always check the same settings. Other tests cover them.
        "CELERY_SKIP_CHECKS": "true",
        "KPWA_TEST_BROKER_FOLDER": str(broker_folder),
        "KPWA_TEST_SETTINGS": json.dumps(kpwa or {}),
        "PYTHONUNBUFFERED": "1",
    }


def run_manage(
    *arguments: str, stdin: str = "", seconds: float = 60, environment: dict[str, str] | None = None, **site: object
) -> subprocess.CompletedProcess[str]:
    """Run `manage.py` until it exits. `site`: arguments of `site_environment()`."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=seconds,
        cwd=ROOT,
        env=environment or site_environment(**site),
        check=False,
    )


@contextlib.contextmanager
def start_manage(
    *arguments: str, environment: dict[str, str] | None = None, **site: object
) -> Iterator[RunningProcess]:
    """Start `manage.py` in the background, and kill it at the end if it still runs."""
    with _running([sys.executable, "manage.py", *arguments], environment or site_environment(**site)) as process:
        yield process


@contextlib.contextmanager
def start_celery_worker(
    broker_url: str,
    *,
    pool: str = "prefork",
    concurrency: int = 2,
    queues: str = "",
    environment: dict[str, str] | None = None,
    **site: object,
) -> Iterator[RunningProcess]:
    """Start a worker, and wait until it takes tasks.

    `pool`: `prefork`, `threads` or `solo`. `queues`: the queues that it consumes, if not the default.
    """
    command = [
        *_celery("worker"),
        "--pool", pool, "--concurrency", str(concurrency), "--loglevel", "INFO",
        "--without-gossip", "--without-mingle", "--without-heartbeat", *(["--queues", queues] if queues else []),
    ]  # fmt: skip
    with _running(command, environment or site_environment(broker_url=broker_url, **site)) as process:
        process.wait_for_output(" ready.")
        yield process


@contextlib.contextmanager
def start_celery_beat(
    broker_url: str,
    *,
    schedule_file: str | Path,
    environment: dict[str, str] | None = None,
    waits: bool = True,
    **site: object,
) -> Iterator[RunningProcess]:
    """Start a beat that keeps its state in `schedule_file`. If `waits` is true, wait until it runs."""
    command = [*_celery("beat"), "--schedule", str(schedule_file), "--pidfile", "", "--loglevel", "INFO"]
    with _running(command, environment or site_environment(broker_url=broker_url, **site)) as process:
        if waits:
            process.wait_for_output("beat: Starting")
        yield process


class RunningProcess:
    """A process and its output so far. Standard output and error are combined."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        # Started in a new session, so that the children of a prefork worker are killed with it.
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._has_ended = False
        self._grown = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        with self._grown:
            return "".join(self._lines)

    def wait_for_output(self, text: str, seconds: float = STARTUP_SECONDS) -> str:
        """Wait until the output contains `text`, and return it. Fails on exit or after `seconds`."""
        with self._grown:
            found = self._grown.wait_for(
                lambda: any(text in line for line in self._lines) or self._has_ended, timeout=seconds
            )
        assert found, f"No {text!r} within {seconds} s in:\n{self.output}"
        assert text in self.output, f"It exited with {self.process.wait(5)}, without {text!r}:\n{self.output}"
        return self.output

    def stop(self, number: int = signal.SIGTERM, seconds: float = STOP_SECONDS) -> int:
        """Send a signal to the process itself, and return its exit code. Fails if it does not exit in time."""
        self.process.send_signal(number)
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"It did not exit within {seconds} s of signal {number}:\n{self.output}") from None

    def kill_all(self) -> None:
        """Kill the process and its children with SIGKILL, as a power loss would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        self.kill_all()
        self._reader.join(timeout=10)
        self.process.stdout.close()

    def _read(self) -> None:
        for line in self.process.stdout:
            with self._grown:
                self._lines.append(line)
                self._grown.notify_all()
        with self._grown:
            self._has_ended = True
            self._grown.notify_all()


def wait_until(condition, seconds: float = 20, what: str = "the expected state", *, every: float = 0.05) -> object:
    """Call `condition()` every `every` seconds until it is true, and return its value. Fails after `seconds`."""
    until = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < until, f"Waited {seconds} s for {what}."
        time.sleep(every)


@contextlib.contextmanager
def _running(command: list[str], environment: dict[str, str]) -> Iterator[RunningProcess]:
    process = RunningProcess(command, environment)
    try:
        yield process
    finally:
        process.close()


def _celery(command: str) -> list[str]:
    return [sys.executable, "-m", "celery", "-A", "tests.celery_app", command]


def _test_database_url() -> str:
    parts = urlsplit(os.environ["DATABASE_URL"])
    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    return parts._replace(path=f"/{quote(name)}").geturl()
