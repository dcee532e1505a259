"""What the processing of an event asks of the database, written out: its claim, the attempts it may mean, its record.

As in `storing`, which says why. Where PostgreSQL has a form of its own it stands beside the ORM's, which the other
databases use, and which a test holds it to.
"""

# ruff: noqa: S608 - every part of the statements stands in this file; values are parameters

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from django.db import OperationalError, connections
from django.db.models import F
from django.views.decorators.debug import sensitive_variables

from .clock import DatabaseNow, in_seconds, write_alias
from .lane import Lane
from .prepared import Statement
from .webhook_event import WebhookEvent

_MYSQL_DEADLOCK = 1213
_MOST_ATTEMPTS = 20


class Attempt(NamedTuple):
    """What an event needs to know of an attempt; `status` is its message's."""

    message_id: int
    number: int
    outcome: str
    gateway_id: str
    status: str


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
        is_claimed = rows.to_process().update(tries=F("tries") + 1, next_try_at=in_seconds(lease_seconds))
    except OperationalError as error:
        # Of many that claim one row at once, MySQL gives some up: the row is then another worker's.
        # In a caller's transaction that was its end.
        if error.args[:1] != (_MYSQL_DEADLOCK,) or connections[using].in_atomic_block:
            raise
        return None
    event = rows.only(*_CLAIMED).order_by().first() if is_claimed else None
    if event is None:
        return None
    lanes = Lane.objects.using(using).filter(pk=event.license_id)
    return event, lanes.values_list("linked_number", flat=True).order_by().first() or ""


@sensitive_variables()
def find_attempts(license_id: int, gateway_id: str) -> list[Attempt]:
    """The newest attempts of a license whose gateway id is that; on MariaDB also those that differ in case alone."""
    using = write_alias()
    parameters: dict[str, Any] = {"gateway_id": gateway_id, "license_id": license_id}
    if connections[using].vendor == "postgresql":
        return [Attempt(*row) for row in _FIND_PREPARED.rows(using, parameters)]
    with connections[using].cursor() as cursor:
        cursor.execute(_FIND, parameters)
        return [Attempt(*row) for row in cursor.fetchall()]


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
    parameters = {"event_id": event.pk, "tries": event.tries, "seconds": next_try_in}
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
    "message_id": "bigint",
}  # fmt: skip
_CLAIMED = ("id", "uuid", "license_id", "body", "content_type", "received_at", "tries", "processed_at")
_CLAIM = Statement(
    f"""
UPDATE django_kpwa_webhookevent SET tries = tries + 1, next_try_at = {_NOW} + %(seconds)s * INTERVAL '1 second'
WHERE id = %(event_id)s AND next_try_at <= {_NOW}
RETURNING {", ".join(_CLAIMED)}, COALESCE((
  SELECT linked_number FROM django_kpwa_lane lane WHERE lane.license_id = django_kpwa_webhookevent.license_id), '')
""",
    _TYPES,
)
_FIND = f"""
SELECT attempt.message_id, attempt.number, attempt.outcome, attempt.gateway_id, message.status
FROM django_kpwa_sendattempt attempt JOIN django_kpwa_outboundmessage message ON message.id = attempt.message_id
WHERE attempt.gateway_id = %(gateway_id)s AND message.license_id = %(license_id)s
ORDER BY attempt.id DESC LIMIT {_MOST_ATTEMPTS}
"""
_FIND_PREPARED = Statement(_FIND, _TYPES)
_RECORD = "UPDATE django_kpwa_webhookevent SET {written} WHERE id = %(event_id)s AND tries = %(tries)s RETURNING id"
