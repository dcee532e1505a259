"""All times are the database's: the clocks of workers differ, and a wrong one must not send early, late or twice.

Use `DatabaseNow()` in every query that compares or writes one of our times.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models.expressions import CombinedExpression, Value
from django.db.models.functions import Now

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models.sql.compiler import SQLCompiler


class DatabaseNow(Now):
    """The database's present time in UTC, to the microsecond (SQLite: millisecond).

    On MySQL, Django's own `Now()` is the session's local time: seven hours off on a MariaDB host at +07:00. On SQLite
    it has three decimals of a second, but a stored `datetime` has six: SQLite compares them as texts, and would take
    the same moment for two.
    """

    output_field = models.DateTimeField()

    def as_mysql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **context)

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        return self.as_sql(
            compiler, connection, template="STRFTIME('%%%%Y-%%%%m-%%%%d %%%%H:%%%%M:%%%%f000', 'NOW')", **context
        )


class InSeconds(CombinedExpression):
    """The database's time `seconds` from now (negative: ago)."""

    def __init__(self, seconds: float) -> None:
        super().__init__(DatabaseNow(), self.ADD, Value(timedelta(seconds=seconds)))
        self.seconds = seconds


def in_seconds(seconds: float) -> InSeconds:
    """The database's time `seconds` from now (negative: ago)."""
    return InSeconds(seconds)
