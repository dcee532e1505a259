"""Limits on waiting for row locks, so that one process that stands still does not stop all the others.

A worker may be frozen (SIGSTOP, a paused machine, a stalled disk) between a statement and its COMMIT. By default
PostgreSQL lets others wait for its rows without limit, MariaDB for 50 seconds. The limits here end with their
transaction, so that behind a connection pooler they do not apply to other clients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from django.db import DatabaseError, InterfaceError, connections, transaction

TAKE_SECONDS = 1
"""For work that is tried again later anyway: taking a lane, settling a lane or a message."""
FINISH_SECONDS = 3
"""For what a driver has to finish, such as recording an outcome."""

_SHORTEN = "SET @kpwa_lock_wait = @@innodb_lock_wait_timeout, SESSION innodb_lock_wait_timeout = {:d}"
_RESTORE = "SET SESSION innodb_lock_wait_timeout = @kpwa_lock_wait"
# PostgreSQL's lock_not_available; MySQL's and MariaDB's "Lock wait timeout exceeded", and their error for NOWAIT.
_WAITED_TOO_LONG = {"55P03", 1205, 3572}
# PostgreSQL's undefined_table, MySQL's and MariaDB's "doesn't exist".
_NO_TABLE = {"42P01", 1146}


@contextmanager
def brief_transaction(using: str, *, seconds: int = TAKE_SECONDS, durable: bool = False) -> Iterator[None]:
    """A transaction whose statements wait at most `seconds` for a row that is locked elsewhere.

    After that they raise an `OperationalError` for which `waited_too_long()` is true. SQLite waits for its own
    `timeout` instead. `durable`: as for `transaction.atomic()`.

    In a caller's transaction this is a savepoint, after which the caller's own limit applies again.
    """
    connection: Any = connections[using]
    is_nested = connection.in_atomic_block
    with _session_limit(using, seconds), transaction.atomic(using=using, durable=durable):
        if connection.vendor != "postgresql":
            yield
            return
        before = _execute(using, "SHOW lock_timeout") if is_nested else ""
        _execute(using, f"SET LOCAL lock_timeout = '{seconds:d}s'")
        yield
        if is_nested:
            # Rolling the savepoint back also restores the limit; releasing it would leave our limit to the caller.
            _execute(using, f"SET LOCAL lock_timeout = '{before}'")


@contextmanager
def brief_statements(using: str, *, seconds: int = TAKE_SECONDS) -> Iterator[None]:
    """The same limit for the ORM's UPDATEs in autocommit mode. In a caller's transaction, the caller's limit applies.

    On PostgreSQL and MariaDB the limit is part of each UPDATE, which saves the statements that set and reset it.
    """
    connection: Any = connections[using]
    if connection.in_atomic_block:
        yield
    elif connection.vendor != "postgresql":
        with _session_limit(using, seconds):
            yield
    else:
        with connection.execute_wrapper(partial(_execute_hurried, partial(_hurried_update, seconds))):
            yield


@contextmanager
def _session_limit(using: str, seconds: int) -> Iterator[None]:
    """Limit the wait where it is a session variable: per statement on MariaDB; set and reset around it on MySQL."""
    connection: Any = connections[using]
    if connection.vendor != "mysql":
        yield
    elif connection.mysql_is_mariadb:
        with connection.execute_wrapper(partial(_execute_hurried, partial(_hurried_mariadb, seconds))):
            yield
    else:
        _execute(using, _SHORTEN.format(seconds))
        try:
            yield
        finally:
            if connection.connection is not None:
                with suppress(DatabaseError, InterfaceError):
                    _execute(using, _RESTORE)


def _execute_hurried(hurried: Callable[[str], str], execute: Any, sql: str, *arguments: Any) -> Any:
    return execute(hurried(sql), *arguments)


def _hurried_update(seconds: int, sql: str) -> str:
    """For PostgreSQL: an UPDATE of the ORM, extended so that it sets its own limit. Other SQL is returned unchanged."""
    if not sql.startswith("UPDATE") or sql.count(" WHERE ") != 1:
        return sql
    limited = f"WITH patience AS MATERIALIZED (SELECT set_config('lock_timeout', '{seconds:d}s', true)) "
    return limited + sql.replace(" WHERE ", " FROM patience WHERE ")


def _hurried_mariadb(seconds: int, sql: str) -> str:
    waits = sql.startswith(("UPDATE", "DELETE", "INSERT")) or " FOR UPDATE" in sql
    return f"SET STATEMENT innodb_lock_wait_timeout = {seconds:d} FOR {sql}" if waits else sql


def waited_too_long(error: BaseException) -> bool:
    """True if `error` means that a row stayed locked by another process."""
    code = _code(error)
    return isinstance(error, DatabaseError) and (code in _WAITED_TOO_LONG or code == "database is locked")


def lacks_tables(error: BaseException) -> bool:
    """True if `error` means that a table is missing: before `migrate`, or in a schema without our tables."""
    code = _code(error)
    return isinstance(error, DatabaseError) and (code in _NO_TABLE or str(code).startswith("no such table"))


def _code(error: BaseException) -> Any:
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None) or next(iter(error.args), None)


def _execute(using: str, statement: str) -> Any:
    """Execute `statement`; returns the first value of its result, or None if it returns no rows."""
    with connections[using].cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0] if cursor.description else None
