"""What statements need that are written out: the time as each database has it, and its word for a clash."""

from __future__ import annotations

from functools import cache
from typing import Any

from django.db import IntegrityError
from django.db.backends.base.base import BaseDatabaseWrapper

from .clock import DatabaseNow
from .license import License

_MYSQL_DUPLICATE = 1062


def can_write_out(connection: BaseDatabaseWrapper) -> bool:
    """Whether an INSERT can be written out that leaves out what is known and returns the rest: not on MySQL."""
    return connection.vendor in ("postgresql", "sqlite", "mysql") and bool(
        connection.features.can_return_rows_from_bulk_insert
    )


def unless_known(connection: BaseDatabaseWrapper, column: str) -> str:
    """What an INSERT ends in that leaves out rows whose `column` is known.

    Empty on MariaDB, where the statement fails, and it alone is undone (`is_clash`): its IGNORE ignores more than that.
    """
    return "" if connection.vendor == "mysql" else f"ON CONFLICT ({column}) DO NOTHING"


def is_clash(error: IntegrityError, connection: BaseDatabaseWrapper) -> bool:
    """Whether MariaDB refused a statement because of a unique column."""
    return connection.vendor == "mysql" and error.args[:1] == (_MYSQL_DUPLICATE,)


@cache
def now_sql(using: str) -> str:
    """`DatabaseNow()` as that database has it."""
    sql, _ = License.objects.using(using).query.get_compiler(using).compile(DatabaseNow())
    return str(sql)


def as_time(value: Any, column: Any, connection: BaseDatabaseWrapper) -> Any:
    """A time that a statement returned as Django has it; `column`: a `DateTimeField`'s."""
    for convert in connection.ops.get_db_converters(column):
        value = convert(value, column, connection)
    return value
