"""Processes a webhook event on PostgreSQL by PREPAREd statements: claims it, finds its attempts, moves its message, and
records the result."""

# ruff: noqa: S608 - every part of the statements stands in this file; values are parameters

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from django.views.decorators.debug import sensitive_variables

from ...models.message import Status
from ...models.webhook_event import WebhookEvent
from ..decisions import Decisions
from ..events import CLAIMED_COLUMNS, Attempt, Events, max_matches
from ..locks import FINISH_SECONDS, TAKE_SECONDS
from .prepared import Statement

_NOW = "STATEMENT_TIMESTAMP()"
_TYPES = {
    "event_id": "bigint", "seconds": "float8", "tries": "smallint", "license_id": "bigint", "status": "text",
    "error": "text", "kind": "text", "gateway_id": "text", "understood": "jsonb", "sender_number": "text",
    "message_id": "bigint", "gateway_ids": "text[]", "limit": "int",
    "patience": "text",
}  # fmt: skip
_CLAIM = Statement(
    f"""
UPDATE django_kpwa_webhookevent SET tries = tries + 1, next_try_at = {_NOW} + %(seconds)s * INTERVAL '1 second'
WHERE id = (
  SELECT id FROM django_kpwa_webhookevent WHERE id = %(event_id)s AND next_try_at <= {_NOW} FOR UPDATE SKIP LOCKED)
RETURNING {", ".join(CLAIMED_COLUMNS)}, COALESCE((
  SELECT linked_number FROM django_kpwa_lane lane WHERE lane.license_id = django_kpwa_webhookevent.license_id), '')
  AS linked_number
""",
    _TYPES,
)
_ATTEMPTS = """
SELECT attempt.message_id, attempt.number, attempt.outcome, attempt.gateway_id, message.status, attempt.id AS pk
FROM django_kpwa_sendattempt attempt JOIN django_kpwa_outboundmessage message ON message.id = attempt.message_id
WHERE attempt.gateway_id {are_wanted} AND message.license_id = %(license_id)s
ORDER BY attempt.id DESC LIMIT %(limit)s
"""
# Nearly every event has one id. PostgreSQL plans a comparison with an array again at each execution, which costs three
# times as much as to execute it.
_FIND_ONE = Statement(_ATTEMPTS.format(are_wanted="= %(gateway_id)s"), _TYPES)
_FIND = Statement(_ATTEMPTS.format(are_wanted="= ANY(%(gateway_ids)s)"), _TYPES)
# `patience` limits the wait for a row lock, as in `lanes`. NULL keeps the current limit: in a caller's transaction, a
# new limit would stay in force for the caller's later statements.
_PATIENCE = """
WITH patience AS MATERIALIZED (
  SELECT set_config('lock_timeout', COALESCE(%(patience)s, current_setting('lock_timeout')), true))"""
_DELIVER = Statement(
    f"""{_PATIENCE}
UPDATE django_kpwa_outboundmessage
SET status = 'delivered', delivered_at = {_NOW}, undelivered_at = NULL, undelivered_words = ''
FROM patience WHERE id = %(message_id)s AND status = 'sent' RETURNING id
""",
    _TYPES,
)
_RECORD = f"""{_PATIENCE}
UPDATE django_kpwa_webhookevent SET {{written}} FROM patience WHERE id = %(event_id)s AND tries = %(tries)s RETURNING id
"""


class PostgreSQLEvents(Decisions, Events):
    """Overrides what runs for each event. For arguments and results see `Events` and `Decisions`."""

    @sensitive_variables()
    def claim_event(self, event_id: int, lease_seconds: float) -> tuple[WebhookEvent, str] | None:
        row = _CLAIM.row(self.using, {"event_id": event_id, "seconds": lease_seconds})
        if row is None:
            return None
        linked_number = row.pop("linked_number")
        return WebhookEvent.from_db(self.using, list(row), list(row.values())), linked_number

    @sensitive_variables()
    def find_attempts(self, license_id: int, gateway_ids: Sequence[str]) -> list[Attempt] | None:
        limit = max_matches(gateway_ids)
        parameters = {
            "gateway_id": gateway_ids[0],
            "gateway_ids": list(gateway_ids),
            "license_id": license_id,
            "limit": limit,
        }
        rows = (_FIND_ONE if len(gateway_ids) == 1 else _FIND).rows(self.using, parameters)
        return [Attempt(**row) for row in rows] if len(rows) < limit else None

    def advance(self, message_id: int, status: Status) -> bool:
        if status == Status.DELIVERED:
            parameters = {"message_id": message_id, "patience": self._patience(TAKE_SECONDS)}
            if _DELIVER.row(self.using, parameters) is not None:
                return True
        return super().advance(message_id, status)

    @sensitive_variables()
    def record_event(
        self, event: WebhookEvent, columns: Mapping[str, Any], *, next_try_in: float | None, is_processed: bool = False
    ) -> bool:
        parameters = {
            "event_id": event.pk,
            "tries": event.tries,
            "seconds": next_try_in,
            "patience": self._patience(FINISH_SECONDS),
        }
        for name, value in columns.items():
            field: Any = WebhookEvent._meta.get_field(name)
            parameters[name] = field.get_db_prep_save(value, self.connection)
        return _record(tuple(columns), is_processed).row(self.using, parameters) is not None

    def _patience(self, seconds: int) -> str | None:
        return None if self.connection.in_atomic_block else f"{seconds}s"


@cache
def _record(names: tuple[str, ...], is_processed: bool) -> Statement:
    """Return the statement that writes the columns `names`: the same object each time, so that it is prepared once."""
    assignments = [
        f"next_try_at = {_NOW} + %(seconds)s * INTERVAL '1 second'",
        *([f"processed_at = {_NOW}"] if is_processed else []),
        *(f"{name} = %({name})s" for name in names),
    ]
    return Statement(_RECORD.format(written=", ".join(assignments)), _TYPES)
