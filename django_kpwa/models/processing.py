"""What the processing of an event asks of the database, written out: its claim, the attempts it may mean, its record.

As in `storing`, which says why. Where PostgreSQL has a form of its own it stands beside the ORM's, which the other
databases use, and which a test holds it to.
"""

# ruff: noqa: S608 - every part of the statements stands in this file; values are parameters

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from django.db import OperationalError, connections
from django.db.models import F
from django.views.decorators.debug import sensitive_variables

from .clock import DatabaseNow, in_seconds, write_alias
from .lane import Lane
from .prepared import Statement
from .waiting import FINISH_SECONDS, brief_statements, waited_too_long
from .webhook_event import WebhookEvent
from .written import with_tables

_MYSQL_DEADLOCK = 1213
MOST_ATTEMPTS = 20
"""An id that as many attempts have tells none of them apart."""
_MOST_ATTEMPTS_AT_ALL = 2000


class Attempt(NamedTuple):
    """What an event needs to know of an attempt; `status` is its message's."""

    message_id: int
    number: int
    outcome: str
    gateway_id: str
    status: str
    pk: int


@sensitive_variables()
def claim_event(event_id: int, lease_seconds: float) -> tuple[WebhookEvent, str] | None:
    """Claim an event that is due, for so long; returns it, and the number that its license is linked to.

    None: it is not due, somebody else is at it, or it is gone. Fields that processing does not need are deferred.
    """
    using = write_alias()
    if connections[using].vendor != "postgresql":
        return claim_event_portably(event_id, lease_seconds)
    row = _CLAIM.row(using, {"event_id": event_id, "seconds": lease_seconds})
    if row is None:
        return None
    *values, linked_number = row
    return WebhookEvent.from_db(using, _CLAIMED, values), linked_number


@sensitive_variables()
def claim_event_portably(event_id: int, lease_seconds: float) -> tuple[WebhookEvent, str] | None:
    """The ORM's form of `claim_event()`."""
    using = write_alias()
    rows = WebhookEvent.objects.using(using).filter(pk=event_id)
    try:
        with brief_statements(using):
            is_claimed = rows.to_process().update(tries=F("tries") + 1, next_try_at=in_seconds(lease_seconds))
    except OperationalError as error:
        # Of many that claim one row at once, MySQL gives some up: the row is then another worker's.
        # In a caller's transaction that was its end.
        is_anothers = error.args[:1] == (_MYSQL_DEADLOCK,) or waited_too_long(error)
        if not is_anothers or connections[using].in_atomic_block:
            raise
        return None
    event = rows.only(*_CLAIMED).order_by().first() if is_claimed else None
    if event is None:
        return None
    lanes = Lane.objects.using(using).filter(pk=event.license_id)
    return event, lanes.values_list("linked_number", flat=True).order_by().first() or ""


@sensitive_variables()
def find_attempts(license_id: int, gateway_ids: Sequence[str]) -> list[Attempt] | None:
    """The attempts of a license that have one of those gateway ids, newest first, by one statement.

    On MariaDB also those whose id differs in case alone. None: they are more than can be told apart.
    """
    using = write_alias()
    most = min(MOST_ATTEMPTS * len(gateway_ids), _MOST_ATTEMPTS_AT_ALL)
    if connections[using].vendor == "postgresql":
        parameters: dict[str, Any] = {"gateway_ids": list(gateway_ids), "license_id": license_id, "most": most}
        rows = _FIND_PREPARED.rows(using, parameters)
    else:
        statement = _FIND.format(ids=f"IN ({', '.join(['%s'] * len(gateway_ids))})", license="%s", most="%s")
        with connections[using].cursor() as cursor:
            cursor.execute(with_tables(statement, using), [*gateway_ids, license_id, most])
            rows = list(cursor.fetchall())
    return [Attempt(*row) for row in rows] if len(rows) < most else None


@sensitive_variables()
def record_event(
    event: WebhookEvent, columns: Mapping[str, Any], *, next_try_in: float | None, is_processed: bool = False
) -> bool:
    """Write `columns` of an event, and when it is looked at again. False: it is another worker's by now.

    `next_try_in`: seconds; None for never. `is_processed`: its signals are sent, or nobody hears them.
    """
    connection = connections[write_alias()]
    if connection.vendor != "postgresql":
        return record_event_portably(event, columns, next_try_in=next_try_in, is_processed=is_processed)
    patience = None if connection.in_atomic_block else f"{FINISH_SECONDS}s"
    parameters = {"event_id": event.pk, "tries": event.tries, "seconds": next_try_in, "patience": patience}
    for name, value in columns.items():
        field: Any = WebhookEvent._meta.get_field(name)
        parameters[name] = field.get_db_prep_save(value, connection)
    return _record(tuple(columns), is_processed).row(connection.alias, parameters) is not None


@cache
def _record(names: tuple[str, ...], is_processed: bool) -> Statement:
    written = [
        f"next_try_at = {_NOW} + %(seconds)s * INTERVAL '1 second'",
        *([f"processed_at = {_NOW}"] if is_processed else []),
        *(f"{name} = %({name})s" for name in names),
    ]
    return Statement(_RECORD.format(written=", ".join(written)), _TYPES)


@sensitive_variables()
def record_event_portably(
    event: WebhookEvent, columns: Mapping[str, Any], *, next_try_in: float | None, is_processed: bool = False
) -> bool:
    """The ORM's form of `record_event()`."""
    held = WebhookEvent.objects.using(write_alias()).filter(pk=event.pk, tries=event.tries)
    with brief_statements(event._state.db or write_alias()):
        return bool(
            held.update(
                next_try_at=None if next_try_in is None else in_seconds(next_try_in),
                **({"processed_at": DatabaseNow()} if is_processed else {}),
                **columns,
            )
        )


_NOW = "STATEMENT_TIMESTAMP()"
_TYPES = {
    "event_id": "bigint", "seconds": "float8", "tries": "smallint", "license_id": "bigint", "status": "text",
    "error": "text", "kind": "text", "gateway_id": "text", "understood": "jsonb", "sender_number": "text",
    "message_id": "bigint", "gateway_ids": "text[]", "most": "int",
    "patience": "text",
}  # fmt: skip
_CLAIMED = (
    "id",
    "uuid",
    "license_id",
    "body",
    "content_type",
    "content_encoding",
    "received_at",
    "tries",
    "processed_at",
)
_CLAIM = Statement(
    f"""
UPDATE django_kpwa_webhookevent SET tries = tries + 1, next_try_at = {_NOW} + %(seconds)s * INTERVAL '1 second'
WHERE id = (
  SELECT id FROM django_kpwa_webhookevent WHERE id = %(event_id)s AND next_try_at <= {_NOW} FOR UPDATE SKIP LOCKED)
RETURNING {", ".join(_CLAIMED)}, COALESCE((
  SELECT linked_number FROM django_kpwa_lane lane WHERE lane.license_id = django_kpwa_webhookevent.license_id), '')
""",
    _TYPES,
)
_FIND = """
SELECT attempt.message_id, attempt.number, attempt.outcome, attempt.gateway_id, message.status, attempt.id
FROM django_kpwa_sendattempt attempt JOIN django_kpwa_outboundmessage message ON message.id = attempt.message_id
WHERE attempt.gateway_id {ids} AND message.license_id = {license}
ORDER BY attempt.id DESC LIMIT {most}
"""
_FIND_PREPARED = Statement(
    _FIND.format(ids="= ANY(%(gateway_ids)s)", license="%(license_id)s", most="%(most)s"), _TYPES
)
# How long it waits for another's lock, as in `transitions.postgresql`; in a caller's transaction, as long as that does.
_RECORD = """
WITH patience AS MATERIALIZED (
  SELECT set_config('lock_timeout', COALESCE(%(patience)s, current_setting('lock_timeout')), true))
UPDATE django_kpwa_webhookevent SET {written} FROM patience WHERE id = %(event_id)s AND tries = %(tries)s RETURNING id
"""
