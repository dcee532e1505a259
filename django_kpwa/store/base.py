"""What every part of the store needs: its database's connection, and short, durable transactions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, TypeVar

from django.db import connections, models, transaction
from django.db.models import QuerySet

from ..models.license import License
from .locks import FINISH_SECONDS, TAKE_SECONDS, brief_transaction, waited_too_long
from .sql import Dialect, as_django_has_it, dialect_of, now_sql

Rows = TypeVar("Rows", bound=QuerySet[Any, Any])


class StoreBase:
    """The base class of all parts of the store."""

    def __init__(self, using: str) -> None:
        self.using = using
        """The alias of the outbox's database."""

    @property
    def connection(self) -> Any:
        """This thread's connection to that database."""
        return connections[self.using]

    @property
    def dialect(self) -> type[Dialect]:
        """The dialect of that database, for hand-written statements that differ between databases."""
        return dialect_of(self.using)

    @property
    def now_sql(self) -> str:
        """`DatabaseNow()` as SQL of this database, for hand-written statements."""
        return now_sql(self.using)

    def now(self) -> datetime:
        """Return the database's present time, for computations in Python with times that the database stored."""
        with self.connection.cursor() as cursor:
            cursor.execute(f"SELECT {self.now_sql}", ())  # with parameters, because its percent signs are doubled
            (now,) = cursor.fetchone()
        read: datetime = as_django_has_it(now, License._meta.get_field("created_at").cached_col, self.connection)
        return read

    def on_commit(self, call: Callable[[], object]) -> None:
        """Call `call` after the caller's transaction commits, or at once if there is none. Its errors are logged."""
        transaction.on_commit(call, using=self.using, robust=True)

    def upsert(self, rows: Sequence[models.Model], unique: Sequence[str], update: Sequence[str]) -> None:
        """Insert `rows`. If a row with the same values of the fields `unique` exists, update its fields `update`."""
        if not rows:
            return
        # MySQL's upsert takes no conflict target; it considers all unique keys.
        names_target = self.connection.features.supports_update_conflicts_with_target
        type(rows[0])._default_manager.bulk_create(
            rows,
            batch_size=500,
            update_conflicts=True,
            unique_fields=unique if names_target else None,
            update_fields=update,
        )

    def can_be_left(self, error: BaseException) -> bool:
        """True if `error` means that a row stayed locked elsewhere, so that the work can be postponed.

        False in a caller's transaction, which the error has ended: the caller has to see the error.
        """
        return waited_too_long(error) and not self.connection.in_atomic_block

    def locked(self, rows: Rows) -> Rows:
        """Lock `rows` for the transaction, in the order of their keys, and skip those that are locked elsewhere.

        A transaction that holds locks on some rows but waits for none cannot be part of a deadlock. A database that
        cannot skip rows waits for them.
        """
        skips = self.connection.features.has_select_for_update_skip_locked
        return rows.order_by("pk").select_for_update(skip_locked=skips)

    def durable(self, seconds: int = FINISH_SECONDS) -> AbstractContextManager[None]:
        """A transaction that is committed when the block ends. Inside another `atomic()` it raises `RuntimeError`.

        What a worker records must survive a caller's rollback, because its message may already be sent.

        `seconds`: how long each statement waits for a row that is locked elsewhere, see `locks`.
        """
        return brief_transaction(self.using, seconds=seconds, durable=True)

    def brief(self, seconds: int = TAKE_SECONDS) -> AbstractContextManager[None]:
        """Like `durable()`, but part of a caller's transaction if there is one."""
        return brief_transaction(self.using, seconds=seconds)
