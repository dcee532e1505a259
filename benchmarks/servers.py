"""The servers of the benchmarks, with a database and a broker for each row.

They are at their usual ports on this machine, or at `BENCH_POSTGRES_URL`, `BENCH_MARIADB_URL`, `BENCH_REDIS_URL` and
`BENCH_RABBITMQ_URL`. If a row needs a server that does not answer, the run ends.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil

DEFAULTS = {
    "postgres": ("BENCH_POSTGRES_URL", "postgres://postgres@127.0.0.1:5432/postgres"),
    "mariadb": ("BENCH_MARIADB_URL", "mysql://root@127.0.0.1:3306/mysql"),
    "redis": ("BENCH_REDIS_URL", "redis://127.0.0.1:6379/8"),
    "rabbitmq": ("BENCH_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//"),
}


class ServerMissingError(Exception):
    """A server that a row needs does not answer."""


def address(server: str) -> str:
    """The URL of `postgres`, `mariadb`, `redis` or `rabbitmq`."""
    variable, default = DEFAULTS[server]
    return os.environ.get(variable) or default


@contextlib.contextmanager
def database(kind: str, name: str) -> Iterator[str]:
    """A separate database, named after the row `name`; gives its DATABASE_URL and drops it afterwards."""
    name = f"kpwa_bench_{name}"
    if kind == "sqlite":
        with tempfile.TemporaryDirectory(prefix="kpwa-bench-", dir=os.environ.get("BENCH_FOLDER")) as folder:
            yield f"sqlite:///{folder}/site.sqlite3"
        return
    _administer(kind, f"DROP DATABASE IF EXISTS {name}")
    _administer(kind, f"CREATE DATABASE {name}" + (" CHARACTER SET utf8mb4" if kind == "mariadb" else ""))
    try:
        yield urlsplit(address(kind))._replace(path=f"/{name}").geturl()
    finally:
        force = " WITH (FORCE)" if kind == "postgres" else ""
        _administer(kind, f"DROP DATABASE IF EXISTS {name}{force}")


def database_pid(kind: str) -> int | None:
    """The process of the database server, if it runs on this machine. SQLite runs in our own process."""
    wanted = {"postgres": ("postgres", "postmaster"), "mariadb": ("mariadbd", "mysqld")}.get(kind)
    if wanted is None:
        return None
    port = urlsplit(address(kind)).port or {"postgres": 5432, "mariadb": 3306}[kind]
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
            return connection.pid
    # The sockets of other users are hidden from us.
    for process in psutil.process_iter(["name", "ppid"]):
        parent = psutil.Process(process.info["ppid"]).name() if process.info["ppid"] else ""
        if process.info["name"] in wanted and parent not in wanted:
            return int(process.pid)
    return None


def _administer(kind: str, statement: str) -> None:
    parts = urlsplit(address(kind))
    try:
        if kind == "postgres":
            import psycopg

            with psycopg.connect(address(kind).replace("postgres://", "postgresql://", 1), autocommit=True) as server:
                server.execute(statement.encode())
            return
        import MySQLdb

        with contextlib.closing(
            MySQLdb.connect(
                host=parts.hostname, port=parts.port or 3306, user=parts.username or "", passwd=parts.password or ""
            )
        ) as server:
            server.cursor().execute(statement)
    except Exception as error:
        where = f"{parts.hostname}:{parts.port or ''}"
        raise ServerMissingError(f"{kind} at {where} did not do {statement!r}: {error}") from error


def empty_redis() -> None:
    """Delete what an earlier row has left in the broker."""
    import redis

    try:
        redis.Redis.from_url(address("redis")).flushdb()
    except redis.RedisError as error:
        raise ServerMissingError(f"Redis at {address('redis')} does not answer: {error}") from error


def scratch_folder() -> Path:
    return Path(os.environ.get("BENCH_FOLDER") or tempfile.gettempdir())
