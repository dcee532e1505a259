"""What every part of the store has: its database, and transactions that are brief and really committed."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from django.db import connections

from .locks import FINISH_SECONDS, brief_transaction
from .sql import now_sql


class StoreBase:
    def __init__(self, using: str) -> None:
        self.using = using
        """The alias of the outbox's database."""

    @property
    def connection(self) -> Any:
        """This thread's connection to it."""
        return connections[self.using]

    @property
    def is_mysql(self) -> bool:
        """True on MariaDB and MySQL."""
        return bool(self.connection.vendor == "mysql")

    @property
    def now_sql(self) -> str:
        """`DatabaseNow()` as this database has it, for statements that are written out."""
        return now_sql(self.using)

    def durable(self, seconds: int = FINISH_SECONDS) -> AbstractContextManager[None]:
        """A transaction that is really committed at its end: never part of a caller's, which it refuses.

        `seconds`: how long it waits for another's lock, see `locks`.
        """
        return brief_transaction(self.using, seconds=seconds, durable=True)
