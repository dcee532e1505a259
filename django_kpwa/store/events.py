"""Webhook events: whose token it is, the INSERT of the event, its claim, the attempts it may mean, its record.

Written out as in `messages`, which says why. Where PostgreSQL has a form of its own, it stands beside the
ORM's, which the other databases use, and which a test holds it to.
"""

# ruff: noqa: S608 - every part of the statements stands in this file; values are parameters

from __future__ import annotations

import hashlib
import hmac
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from django.db import IntegrityError, OperationalError, connections, transaction
from django.db.models import F
from django.views.decorators.debug import sensitive_variables

from ..models.clock import DatabaseNow, in_seconds
from ..models.database import write_alias
from ..models.lane import Lane
from ..models.seen_id import SeenId
from ..models.webhook_event import WebhookEvent
from .locks import FINISH_SECONDS, brief_statements, brief_transaction, waited_too_long
from .prepared import Statement
from .sql import can_write_out, insert, now_sql, unless_known, with_tables

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


@dataclass(frozen=True)
class KnownToken:
    """A webhook's token that is good now."""

    pk: int
    license_id: int
    is_used: bool
    is_registered: bool


@sensitive_variables()
def find_token(digest: str) -> KnownToken | None:
    """The stored token whose SHA-256 is `digest`, or None where it is unknown or has expired."""
    using = write_alias()
    with connections[using].cursor() as cursor:
        cursor.execute(with_tables(_KNOWN.format(now=now_sql(using)), using), (digest,))
        row = cursor.fetchone()
    if row is None or not hmac.compare_digest(row[0], digest):
        return None
    _, primary_key, license_id, is_used, is_registered = row
    return KnownToken(primary_key, license_id, bool(is_used), bool(is_registered))


@sensitive_variables()
def insert_event(
    license_id: int,
    body: bytes,
    content_type: str,
    digest: str,
    *,
    content_encoding: str = "",
    under_token: str | None = None,
) -> int | None:
    """Insert a webhook's event and return its id; None where its digest is stored already.

    `under_token`: only where that is the digest of a token of the license that is good now and has been used before.
    """
    connection = connections[write_alias()]
    if not can_write_out(connection):
        if under_token:
            return None
        return insert_event_portably(license_id, body, content_type, digest, content_encoding=content_encoding)
    column: Any = WebhookEvent._meta.get_field("body")
    public_id = uuid.uuid4()
    statement = (_INSERT + (_WHILE_GOOD if under_token else " WHERE TRUE") + _RETURNING).format(
        now=now_sql(connection.alias),
        body="_binary %s" if connection.vendor == "mysql" else "%s",  # bytes have no character set
        unless_known=unless_known(connection, "digest"),
    )
    parameters = [
        public_id if connection.features.has_native_uuid_field else public_id.hex,
        license_id,
        column.get_db_prep_value(body, connection),
        content_type,
        content_encoding,
        digest,
        *([under_token, license_id] if under_token else []),
    ]
    stored = insert(connection, statement, parameters)
    return int(stored[0][0]) if stored else None


@sensitive_variables()
def insert_event_portably(
    license_id: int, body: bytes, content_type: str, digest: str, *, content_encoding: str = ""
) -> int | None:
    """The ORM's form of `insert_event()`."""
    using = write_alias()
    event = WebhookEvent(
        license_id=license_id,
        body=body,
        content_type=content_type,
        content_encoding=content_encoding,
        digest=digest,
        received_at=DatabaseNow(),
        last_received_at=DatabaseNow(),
        next_try_at=DatabaseNow(),
    )
    try:
        with transaction.atomic(using=using):
            event.save(using=using, force_insert=True)
    except IntegrityError:
        return None
    return event.pk


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
    rows = WebhookEvent.objects.filter(pk=event_id)
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
    lanes = Lane.objects.filter(pk=event.license_id)
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
    held = WebhookEvent.objects.filter(pk=event.pk, tries=event.tries)
    with brief_statements(event._state.db or write_alias()):
        return bool(
            held.update(
                next_try_at=None if next_try_in is None else in_seconds(next_try_in),
                **({"processed_at": DatabaseNow()} if is_processed else {}),
                **columns,
            )
        )


@dataclass(frozen=True)
class Seen:
    """Who was the first to act on an id: an event, and the message that it moved, where it is one of ours."""

    event_id: int
    message_id: int | None


def seen_digest(license_id: int, use: str, *parts: str) -> str:
    """SHA-256 by which an id is known; `use` keeps apart what it is used for."""
    lengths = ":".join(str(len(part)) for part in parts)
    return hashlib.sha256(f"{license_id}:{use}:{lengths}:{''.join(parts)}".encode("utf-8", "surrogatepass")).hexdigest()


def find_seen(digests: Collection[str]) -> dict[str, Seen]:
    """Those of `digests` that were acted on before."""
    rows = SeenId.objects.filter(digest__in=digests)
    return {
        digest: Seen(event_id, message_id)
        for digest, event_id, message_id in rows.values_list("digest", "event_id", "message_id")
    }


@sensitive_variables()
def claim_seen(event_id: int, claims: Sequence[tuple[str, int | None]]) -> dict[str, Seen]:
    """Claim digests for an event, each with its message; returns whose each is, which may be an earlier one's.

    Of several at once that claim one, one has it: the column is unique.
    """
    using = write_alias()
    # In one order everywhere, so that two who claim the same ones never wait for each other.
    wanted = dict(sorted(claims))
    rows = [
        SeenId(digest=digest, event_id=event_id, message_id=message_id, seen_at=DatabaseNow())
        for digest, message_id in wanted.items()
    ]
    with brief_transaction(using):
        SeenId.objects.bulk_create(rows, ignore_conflicts=True)
    return find_seen(wanted)


_KNOWN = """
SELECT digest, id, license_id, first_used_at IS NOT NULL, registered_at IS NOT NULL FROM django_kpwa_webhooktoken
WHERE digest = %s AND (expires_at IS NULL OR expires_at > {now})
"""
_INSERT = """
INSERT INTO django_kpwa_webhookevent (
  uuid, license_id, body, content_type, content_encoding, digest, received_at, last_received_at, next_try_at,
  times_received, status, tries, kind, understood, sender_number, gateway_id, error)
SELECT %s, %s, {body}, %s, %s, %s, {now}, {now}, {now}, 1, 'pending', 0, '', '{{}}', '', '', ''
"""
_WHILE_GOOD = """
FROM django_kpwa_webhooktoken token WHERE token.digest = %s AND token.license_id = %s
AND token.first_used_at IS NOT NULL AND (token.expires_at IS NULL OR token.expires_at > {now})
"""
_RETURNING = """
{unless_known}
RETURNING id
"""
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
