"""Stores messages on PostgreSQL: one statement chooses the license, reads its lane, checks the key and inserts."""

# ruff: noqa: S608 - every part of the statements stands in this file; values are parameters

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.views.decorators.debug import sensitive_variables

from ...models.database import DatabaseNow
from ...models.message import OutboundMessage, RecipientType
from ..insertion import in_lists, insert, written
from ..messages import RETURNED, Inserted, LaneSeen, Messages
from ..recipients import forms_of

_NOW = "STATEMENT_TIMESTAMP()"
# The limit is necessary: a subquery that returns two rows is an error, and the site's checkout would fail. MIN would do
# as well, but PostgreSQL plans it twice, and planning is most of the cost of this statement.
_FIRST = "ORDER BY license.id LIMIT 1"
_NAMED = f"(SELECT license.id FROM django_kpwa_license license WHERE license.name = %s AND license.is_active {_FIRST})"
_CHOSEN = f"""(
  SELECT license.id FROM django_kpwa_license license
  WHERE license.is_active AND (license.is_default OR NOT EXISTS (
    SELECT 1 FROM django_kpwa_license other WHERE other.is_active AND other.id <> license.id)) {_FIRST})"""
_MAY_BE_SENT_TO = """ AND NOT EXISTS (
  SELECT 1 FROM django_kpwa_recipient stop WHERE stop.number IN ({}) AND stop.stopped_at IS NOT NULL)"""
_IS_KNOWN = " AND NOT EXISTS (SELECT 1 FROM django_kpwa_keptkey kept WHERE kept.digest = %s)"
# A subquery, because PostgreSQL turns NOT EXISTS into a join, which may change the order of the rows. They have to be
# inserted in the order of their keys, against deadlocks (`store_messages()`).
_ARE_NOT_KEPT = (
    " WHERE (SELECT kept.id FROM django_kpwa_keptkey kept WHERE kept.digest = given.idempotency_digest) IS NULL"
)
_AND_LANE = f"""{RETURNED}, (
  SELECT lane.lease_token IS NOT NULL AND lane.lease_expires_at > {_NOW}
  FROM django_kpwa_lane lane WHERE lane.license_id = django_kpwa_outboundmessage.license_id) AS is_driven"""


class PostgreSQLMessages(Messages):
    """Overrides what a site's checkout calls. For arguments and results see `Messages`."""

    @sensitive_variables()
    def store_message(
        self, row: OutboundMessage, default_name: str = "", *, heeds_stops: bool = True
    ) -> Inserted | None:
        if row.license_id is not None:
            license_sql: tuple[str, list[Any]] = ("license.id", [])
            # Selects no row, so that nothing is inserted, if the license was deleted.
            where = "FROM django_kpwa_license license WHERE license.id = %s"
            parameters: list[Any] = [row.license_id]
        else:
            license_sql = (_NAMED, [default_name]) if default_name else (_CHOSEN, [])
            where, parameters = "WHERE TRUE", []
        connection = self.connection
        values, given = written(OutboundMessage, row.__dict__, connection, {"license_id": license_sql})
        if heeds_stops and row.recipient_type == RecipientType.NUMBER:
            forms = forms_of(row.recipient)
            where += _MAY_BE_SENT_TO.format(", ".join(["%s"] * len(forms)))
            parameters += forms
        if row.idempotency_digest is not None:
            where, parameters = where + _IS_KNOWN, [*parameters, row.idempotency_digest]
        source = (f"SELECT {values} {where}", [*given, *parameters])
        stored = insert(OutboundMessage, connection, source, unless_known="idempotency_digest", returning=_AND_LANE)
        if not stored:
            return None
        self.keep_what_was_returned([row], stored)
        return Inserted(LaneSeen(row.created_at, bool(stored[0]["is_driven"])))

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
                source += _ARE_NOT_KEPT
            skipped |= self.keep_what_was_returned(batch, self._insert_source(source, parameters) or [])
        return skipped


def _can_be_listed(row: OutboundMessage) -> bool:
    """True if `in_lists()` can write the row: its times are values or `DatabaseNow()`, not other expressions."""
    return not any(
        hasattr(value, "resolve_expression") and not isinstance(value, DatabaseNow)
        for value in (row.due_at, row.expires_at)
    )
