"""Which database holds the outbox, and its clock.

Our models' managers read and write there, whatever database routers choose for reads. All times are that database's:
the clocks of workers differ, and a wrong one must not send early, late or twice. So use `DatabaseNow()` in every query
that compares or writes one of our times.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import connections, models, router
from django.db.models.expressions import CombinedExpression, Value
from django.db.models.functions import Now

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models.sql.compiler import SQLCompiler

Row = TypeVar("Row", bound=models.Model, covariant=True)


class OutboxManager(models.Manager[Row]):
    """Reads from the database that the outbox is written to: a replica may lag, and messages would be sent twice.

    It is the model's base manager as well, by which Django refreshes an instance and reads a related one.
    """

    def contribute_to_class(self, cls: type[models.Model], name: str) -> None:
        super().contribute_to_class(cls, name)
        cls._meta.base_manager_name = name

    def get_queryset(self) -> models.QuerySet[Row]:
        return super().get_queryset().using(self._db or write_alias())


def write_alias() -> str:
    """The alias of the database that holds the outbox. `OutboxManager` uses it for queries, the store for the rest."""
    from .message import OutboundMessage

    return router.db_for_write(OutboundMessage)


def outbox_key() -> tuple[str, str]:
    """A key for what a process caches about the present outbox: two tenants may have rows with the same ids.

    It is the database's alias and, if each tenant has a schema there (django-tenants, for example), the schema's name.
    """
    alias = write_alias()
    return alias, str(getattr(connections[alias], "schema_name", None) or "")


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
