"""The store of the outbox's database: portable for all, with a subclass where statements of its own pay."""

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
    """In the ORM's words, for every case and every database: what it does is what is right."""


class PostgreSQLStore(PostgreSQLLanes, PostgreSQLMessages, PostgreSQLEvents, Store):
    """Overrides what pays there, and hands on to `Store` what is not the usual case."""


ENGINES: dict[str, type[Store]] = {"postgresql": PostgreSQLStore}
"""By the database's vendor; `Store` is the others'."""


def store() -> Store:
    """The store of the outbox as it is routed now."""
    using = write_alias()
    return ENGINES.get(connections[using].vendor, Store)(using)
