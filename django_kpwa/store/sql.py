"""What differs between databases, and between sites, in the store's hand-written statements.

Besides the system checks, `dialect_of()` is the only place in the package that checks which database is used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache, partial
from typing import Any

from django.apps import apps
from django.db import DatabaseError, InterfaceError, connections, models
from django.db.backends.base.base import BaseDatabaseWrapper

from ..models.database import DatabaseNow
from ..models.license import License

Limit = AbstractContextManager[None]
"""A block in which statements wait only a limited time for a row that another process has locked, see `locks`."""


class Dialect:
    """The portable statements, for SQLite and every database without a subclass below."""

    jumps_by_distinct = False
    """True if a DISTINCT of an index's first columns reads one entry for each value, see `backlog`."""
    keeps_snapshots = False
    """True if a transaction sees only what was committed before its first read."""

    @staticmethod
    def reads_without_locks(connection: Any) -> bool:
        """True if an INSERT … SELECT locks none of the rows that it reads."""
        return True

    @staticmethod
    def placeholder(field: Any, connection: Any) -> tuple[str, str]:
        """Return a new row's placeholder for `field`, and the type to which it is cast (empty: no cast)."""
        return "%s", ""

    @staticmethod
    def unless_known(column: str) -> str:
        """Return the clause that makes an INSERT skip rows whose value of the unique `column` is already stored."""
        return f" ON CONFLICT ({column}) DO NOTHING"

    @staticmethod
    def is_refusal(error: Exception) -> bool:
        """True if `error` means that a row is known, on a database whose INSERT cannot skip such rows."""
        return False

    @staticmethod
    def limit_around(connection: Any, seconds: int) -> Limit:
        """Return the limit of a transaction, to be entered before the transaction."""
        return nullcontext()

    @staticmethod
    def limit_within(connection: Any, seconds: int, is_nested: bool) -> Limit:
        """Return the limit of a transaction, to be entered within it; `is_nested`: it is a savepoint of a caller's."""
        return nullcontext()

    @staticmethod
    def limit_updates(connection: Any, seconds: int) -> Limit:
        """Return the limit of the ORM's UPDATEs in autocommit mode."""
        return nullcontext()


class PostgreSQL(Dialect):
    @staticmethod
    def placeholder(field: Any, connection: Any) -> tuple[str, str]:
        # In a SELECT, PostgreSQL cannot infer a value's type from the column. The cast must not be to varchar(n): it
        # would silently truncate a longer value, which the column itself refuses.
        type_ = field.db_type(connection)
        type_ = "text" if type_.startswith("varchar") else type_
        return f"%s::{type_}", type_

    @staticmethod
    @contextmanager
    def limit_within(connection: Any, seconds: int, is_nested: bool) -> Iterator[None]:
        before = _execute(connection, "SHOW lock_timeout") if is_nested else ""
        _execute(connection, f"SET LOCAL lock_timeout = '{seconds:d}s'")
        yield
        if is_nested:
            # Rolling the savepoint back also restores the limit; releasing it would leave our limit to the caller.
            _execute(connection, f"SET LOCAL lock_timeout = '{before}'")

    @staticmethod
    def limit_updates(connection: Any, seconds: int) -> Limit:
        limited = f"WITH patience AS MATERIALIZED (SELECT set_config('lock_timeout', '{seconds:d}s', true)) "

        def hurried(sql: str) -> str:
            if not sql.startswith("UPDATE") or sql.count(" WHERE ") != 1:
                return sql
            return limited + sql.replace(" WHERE ", " FROM patience WHERE ")

        return _rewriting(connection, hurried)


class MySQL(Dialect):
    """MySQL and MariaDB."""

    jumps_by_distinct = True
    keeps_snapshots = True

    _SHORTEN = "SET @kpwa_lock_wait = @@innodb_lock_wait_timeout, SESSION innodb_lock_wait_timeout = {:d}"
    _RESTORE = "SET SESSION innodb_lock_wait_timeout = @kpwa_lock_wait"
    _DUPLICATE = 1062

    @staticmethod
    def reads_without_locks(connection: Any) -> bool:
        # Only at the two lower levels, of which Django's default is one; see https://mariadb.com/kb/en/innodb-lock-modes/.
        # The attribute is missing until the connection is opened, and None if the server's own default applies.
        return getattr(connection, "isolation_level", None) in ("read committed", "read uncommitted")

    @staticmethod
    def placeholder(field: Any, connection: Any) -> tuple[str, str]:
        # Bytes have no character set.
        return "_binary %s" if isinstance(field, models.BinaryField) else "%s", ""

    @staticmethod
    def unless_known(column: str) -> str:
        return ""

    @classmethod
    def is_refusal(cls, error: Exception) -> bool:
        return error.args[:1] == (cls._DUPLICATE,)

    @classmethod
    @contextmanager
    def limit_around(cls, connection: Any, seconds: int) -> Iterator[None]:
        if connection.mysql_is_mariadb:
            with _rewriting(connection, partial(cls._hurried, seconds)):
                yield
            return
        # MySQL only has a limit for the session. It is set and restored outside the transaction, which may have failed.
        _execute(connection, cls._SHORTEN.format(seconds))
        try:
            yield
        finally:
            if connection.connection is not None:
                with suppress(DatabaseError, InterfaceError):
                    _execute(connection, cls._RESTORE)

    limit_updates = limit_around

    @staticmethod
    def _hurried(seconds: int, sql: str) -> str:
        waits = sql.startswith(("UPDATE", "DELETE", "INSERT")) or " FOR UPDATE" in sql
        return f"SET STATEMENT innodb_lock_wait_timeout = {seconds:d} FOR {sql}" if waits else sql


_DIALECTS: dict[str, type[Dialect]] = {"postgresql": PostgreSQL, "mysql": MySQL}


def dialect_of(using: str) -> type[Dialect]:
    """Return the dialect of the database `using`."""
    return _DIALECTS.get(connections[using].vendor, Dialect)


def _rewriting(connection: Any, rewritten: Callable[[str], str]) -> Limit:
    """Return a block in which each statement is passed through `rewritten` before it is sent."""
    wrapper: Limit = connection.execute_wrapper(lambda execute, sql, *arguments: execute(rewritten(sql), *arguments))
    return wrapper


def _execute(connection: Any, statement: str) -> Any:
    """Execute `statement`. Returns the first value of its result, or None if it returns no rows."""
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0] if cursor.description else None


def code_of(error: BaseException) -> Any:
    """Return the database's error code: a text on PostgreSQL, a number on MySQL and MariaDB, else the message."""
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None) or next(iter(error.args), None)


# Our tables' usual names, as the statements contain them.
_OURS = re.compile(r"\bdjango_kpwa_[a-z]+\b")


@cache
def now_sql(using: str) -> str:
    """Return `DatabaseNow()` as SQL of the database `using`."""
    sql, _ = License.objects.all().query.get_compiler(using).compile(DatabaseNow())
    return str(sql)


def with_tables(sql: str, using: str) -> str:
    """Return `sql` with the table names of this site, which may rename our tables by `class_prepared` (a prefix)."""
    renamed = _renamed()
    if not renamed:
        return sql
    quote = connections[using].ops.quote_name
    return _OURS.sub(lambda found: quote(renamed.get(found[0], found[0])).replace("%", "%%"), sql)


@cache
def _renamed() -> dict[str, str]:
    """Return this site's names of renamed tables, by their usual name."""
    ours = {
        f"{model._meta.app_label}_{model._meta.model_name}": model._meta.db_table
        for model in apps.get_app_config("django_kpwa").get_models()
        if not model._meta.proxy
    }
    return {usual: name for usual, name in ours.items() if name != usual}


def as_django_has_it(value: Any, column: Any, connection: BaseDatabaseWrapper) -> Any:
    """Convert a value that a statement returned as the ORM converts it; `column` is a field's `cached_col`."""
    for convert in connection.ops.get_db_converters(column):
        value = convert(value, column, connection)
    return value
