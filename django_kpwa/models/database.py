"""Which database holds the outbox. Our models' managers read and write there, whatever database routers choose for
reads."""

from __future__ import annotations

from typing import TypeVar

from django.db import connections, models, router

Row = TypeVar("Row", bound=models.Model, covariant=True)


class OutboxManager(models.Manager[Row]):
    """Reads from the database that the outbox is written to: a replica may lag, and messages would be sent twice."""

    def get_queryset(self) -> models.QuerySet[Row]:
        return super().get_queryset().using(self._db or write_alias())


def write_alias() -> str:
    """The alias of the database that holds the outbox. For transactions; `OutboxManager` uses it for queries."""
    from .message import OutboundMessage

    return router.db_for_write(OutboundMessage)


def outbox_key() -> tuple[str, str]:
    """A key for what a process caches about the present outbox: two tenants may have rows with the same ids.

    It is the database's alias and, if each tenant has a schema there (django-tenants, for example), the schema's name.
    """
    alias = write_alias()
    return alias, str(getattr(connections[alias], "schema_name", None) or "")
