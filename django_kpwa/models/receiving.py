"""What a webhook asks of the database, written out: whose token it is, and the INSERT of the event.

As in `storing`, which says why. The ORM's form of the INSERT is for other databases; a test holds the one to the other.
"""

from __future__ import annotations

import hmac
import uuid
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, connections, transaction
from django.views.decorators.debug import sensitive_variables

from .clock import DatabaseNow, write_alias
from .webhook_event import WebhookEvent
from .written import can_write_out, insert, now_sql, unless_known, with_tables


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
        cursor.execute(with_tables(_FIND.format(now=now_sql(using)), using), (digest,))
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


_FIND = """
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
