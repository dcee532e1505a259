"""Stores many messages on PostgreSQL: one statement inserts up to 500 of them, from a list for each column."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.views.decorators.debug import sensitive_variables

from ...models.database import DatabaseNow
from ...models.message import OutboundMessage
from ..insertion import in_lists
from ..messages import Messages
from ..sql import with_tables

_NOW = "STATEMENT_TIMESTAMP()"
# A subquery, because PostgreSQL turns NOT EXISTS into a join, which may change the order of the rows. They have to be
# inserted in the order of their keys, against deadlocks (`store_messages()`).
_ARE_NOT_KEPT = (
    " WHERE (SELECT kept.id FROM django_kpwa_keptkey kept WHERE kept.digest = given.idempotency_digest) IS NULL"
)


class PostgreSQLMessages(Messages):
    """Overrides the storing of many messages. For arguments and results see `Messages`."""

    @sensitive_variables()
    def _store_messages(self, rows: Sequence[OutboundMessage]) -> set[UUID]:
        if not all(_can_be_listed(row) for row in rows):
            return super()._store_messages(rows)
        if not rows:
            return set()
        if not self._has_licenses(rows):
            return {row.uuid for row in rows}
        is_keyed = sum(row.idempotency_digest is not None for row in rows) > 1
        # Rows with keys are inserted in the order of their keys, and `place` keeps the order in which they are sent
        # (see `store_messages()`). A single key cannot be part of a deadlock.
        places = {row.uuid: place for place, row in enumerate(rows)} if is_keyed else {}
        if is_keyed:
            rows = sorted(rows, key=lambda row: row.idempotency_digest or "")
        due_at = f"{_NOW} + given.place * INTERVAL '1 microsecond'" if is_keyed else _NOW
        skipped: set[UUID] = set()
        for batch in self._batches(rows):
            at = [places.get(row.uuid, 0) for row in batch]
            source, parameters = in_lists(batch, at, self.connection, {"due_at": (due_at, [])}, "idempotency_digest")
            if any(row.idempotency_digest is not None for row in batch):
                source += with_tables(_ARE_NOT_KEPT, self.using)
            skipped |= self.keep_what_was_returned(batch, self._insert_source(source, parameters) or [])
        return skipped


def _can_be_listed(row: OutboundMessage) -> bool:
    """True if `in_lists()` can write the row: its times are values or `DatabaseNow()`, not other expressions."""
    return not any(
        hasattr(value, "resolve_expression") and not isinstance(value, DatabaseNow)
        for value in (row.due_at, row.expires_at)
    )
