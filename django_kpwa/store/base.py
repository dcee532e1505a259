"""What every part of the store needs: its database's connection, and short, durable transactions."""

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
        """This thread's connection to that database."""
        return connections[self.using]

    @property
    def is_mysql(self) -> bool:
        """True on MariaDB and MySQL."""
        return bool(self.connection.vendor == "mysql")

    @property
    def now_sql(self) -> str:
        """`DatabaseNow()` as SQL of this database, for hand-written statements."""
        return now_sql(self.using)

    def durable(self, seconds: int = FINISH_SECONDS) -> AbstractContextManager[None]:
        """A transaction that is committed when the block ends. Inside another `atomic()` it raises `RuntimeError`.

        What a worker records must survive a caller's rollback, because its message may already be sent.

        `seconds`: how long each statement waits for a row that is locked elsewhere, see `locks`.
        """
        return brief_transaction(self.using, seconds=seconds, durable=True)
