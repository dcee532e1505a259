"""Which store serves the outbox's database: the portable one, or a vendor's subclass."""

from __future__ import annotations

from django.db import connections

from ..models.database import write_alias
from .backlog import Backlog
from .decisions import Decisions
from .events import Events
from .messages import Messages
from .postgresql.events import PostgreSQLEvents
from .postgresql.lanes import PostgreSQLLanes
from .postgresql.messages import PostgreSQLMessages
from .texts import Texts


class Store(Decisions, Messages, Texts, Events, Backlog):
    """The portable store: the ORM's queries, for every case and every database. It defines the correct behaviour."""


class PostgreSQLStore(PostgreSQLLanes, PostgreSQLMessages, PostgreSQLEvents, Store):
    """Overrides the methods for which the benchmarks show a gain; every unusual case is left to `Store`."""


ENGINES: dict[str, type[Store]] = {"postgresql": PostgreSQLStore}
"""By `connection.vendor`; a vendor that is not listed uses `Store`."""


def store() -> Store:
    """The store of the database to which the site's routers send the outbox's writes."""
    using = write_alias()
    return ENGINES.get(connections[using].vendor, Store)(using)
