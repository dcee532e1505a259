"""Which store serves the outbox's database: the portable one, or PostgreSQL's."""

from __future__ import annotations

from ..models.database import write_alias
from .alerts import Alerts
from .backlog import Backlog
from .decisions import Decisions
from .events import Events
from .forgetting import Forgetting
from .messages import Messages
from .postgresql.events import PostgreSQLEvents
from .postgresql.lanes import PostgreSQLLanes
from .postgresql.messages import PostgreSQLMessages
from .sql import Dialect, PostgreSQL, dialect_of
from .texts import Texts


class Store(Decisions, Messages, Forgetting, Texts, Events, Backlog, Alerts):
    """The portable store: the ORM's queries, for every case and every database. It defines the correct behaviour."""


class PostgreSQLStore(PostgreSQLLanes, PostgreSQLMessages, PostgreSQLEvents, Store):
    """Overrides the methods for which the benchmarks show a gain. Every unusual case is left to `Store`."""


ENGINES: dict[type[Dialect], type[Store]] = {PostgreSQL: PostgreSQLStore}
"""The databases that have a store of their own. All others use `Store`."""


def store() -> Store:
    """Return the store of the outbox's database, see `django_kpwa.store.store()`."""
    using = write_alias()
    return ENGINES.get(dialect_of(using), Store)(using)
