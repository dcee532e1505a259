"""Which database holds the outbox: the managers of our models read and write there, wherever a site sends its reads."""

from __future__ import annotations

from typing import TypeVar

from django.db import connections, models, router

Row = TypeVar("Row", bound=models.Model, covariant=True)


class OutboxManager(models.Manager[Row]):
    """Reads from the outbox's own database: a replica may lag, and then a message would be sent twice."""

    def get_queryset(self) -> models.QuerySet[Row]:
        return super().get_queryset().using(self._db or write_alias())


def write_alias() -> str:
    """The alias of the database that holds the outbox, for transactions; queries go there by `OutboxManager`."""
    from .message import OutboundMessage

    return router.db_for_write(OutboundMessage)


def outbox_key() -> tuple[str, str]:
    """Which outbox is meant now, for what a process remembers: ids alone are one tenant's as well as another's.

    Its database's alias and, where each tenant has a schema there (django-tenants and its like), that.
    """
    alias = write_alias()
    return alias, str(getattr(connections[alias], "schema_name", None) or "")
