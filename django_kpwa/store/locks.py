"""Limits on waiting for row locks, so that one stalled process does not block all the others.

A worker may be frozen (SIGSTOP, a paused machine, a stalled disk) between a statement and its COMMIT. By default
PostgreSQL lets others wait for its rows without limit, MariaDB for 50 seconds. The limits here end with their
transaction, so that behind a connection pooler they do not apply to other clients.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from django.db import DatabaseError, connections, transaction

from .sql import code_of, dialect_of

TAKE_SECONDS = 1
"""Seconds to wait in work that is retried later anyway: taking a lane, settling a lane or a message."""
FINISH_SECONDS = 3
"""Seconds to wait in work that a driver has to finish, such as recording an outcome."""

# PostgreSQL's lock_not_available; MySQL's and MariaDB's "Lock wait timeout exceeded", and their error for NOWAIT.
_WAITED_TOO_LONG = {"55P03", 1205, 3572}
# PostgreSQL's undefined_table, MySQL's and MariaDB's "doesn't exist".
_NO_TABLE = {"42P01", 1146}


@contextmanager
def brief_transaction(using: str, *, seconds: int = TAKE_SECONDS, durable: bool = False) -> Iterator[None]:
    """Open a transaction whose statements wait at most `seconds` for a row that another process has locked.

    After that they raise an `OperationalError` for which `waited_too_long()` is true. SQLite waits as long as its own
    `timeout` instead. `durable` is as for `transaction.atomic()`.

    In a caller's transaction this is a savepoint, after which the caller's own limit applies again.
    """
    connection, dialect = connections[using], dialect_of(using)
    is_nested = connection.in_atomic_block
    with (
        dialect.limit_around(connection, seconds),
        transaction.atomic(using=using, durable=durable),
        dialect.limit_within(connection, seconds, is_nested),
    ):
        yield


def brief_statements(using: str, *, seconds: int = TAKE_SECONDS) -> AbstractContextManager[None]:
    """Set the limit of `brief_transaction()` for the ORM's UPDATEs in autocommit mode.

    In a caller's transaction, the caller's limit applies. On PostgreSQL and MariaDB the limit is part of each UPDATE,
    which saves the statements that set and reset it.
    """
    connection = connections[using]
    if connection.in_atomic_block:
        return nullcontext()
    return dialect_of(using).limit_updates(connection, seconds)


def waited_too_long(error: BaseException) -> bool:
    """True if `error` means that a row stayed locked by another process."""
    code = code_of(error)
    return isinstance(error, DatabaseError) and (code in _WAITED_TOO_LONG or code == "database is locked")


def lacks_tables(error: BaseException) -> bool:
    """True if `error` means that a table is missing: before `migrate`, or in a schema without our tables."""
    code = code_of(error)
    return isinstance(error, DatabaseError) and (code in _NO_TABLE or str(code).startswith("no such table"))
