"""Stores what arrives, byte for byte, and counts what arrives again.

A body that came before is a repeat: gateways of this family post again whatever was not answered in time. Only one that
names neither an id nor a time may, much later, be something new: a customer who says "ok" on two days.
"""

from __future__ import annotations

from collections.abc import Callable

from django.db import DatabaseError, IntegrityError, connections
from django.db.models import F
from django.views.decorators.debug import sensitive_variables

from ..models import DatabaseNow, EventStatus, WebhookEvent, body_digest, in_seconds
from ..store import store
from ..store.events import KnownToken
from ..store.locks import brief_statements, waited_too_long
from .authentication import note_use
from .parsers import cleaned

REPEAT_SECONDS = 600.0
"""A nameless body that comes again later than this is something new."""

_TRIES = 5
_MOST_FAMILIAR = 4096

# Whose the tokens are that this process has taken an event under. A token never changes its license; whether it is good
# still, the INSERT itself asks.
_familiar: dict[str, int] = {}


class UnknownTokenError(Exception):
    """No token of that digest is good now."""


@sensitive_variables()
def take(token_digest: str, read: Callable[[], tuple[bytes, str, str]]) -> int | None:
    """Store the webhook that came under a token, by its SHA-256; returns the event's id, None for a repeat.

    `read` gives its body, content type and content encoding; not asked for under a token that this process has never
    seen be good.
    Raises `UnknownTokenError`, and `django.db.Error` where the database does not take it.
    """
    license_id = _familiar.get(token_digest)
    if license_id is None:
        known = _find(token_digest)
        body, content_type, content_encoding = read()
    else:
        body, content_type, content_encoding = read()
        digest = body_digest(license_id, body)
        event_id = store().insert_event(
            license_id,
            body,
            cleaned(content_type, 255),
            digest,
            content_encoding=cleaned(content_encoding, 64),
            under_token=token_digest,
        )
        if event_id is not None:
            return event_id
        known = _find(token_digest)
    event_id = store_event(known.license_id, body, content_type, content_encoding)
    note_use(known)
    if len(_familiar) >= _MOST_FAMILIAR:
        _familiar.clear()
    _familiar[token_digest] = known.license_id
    return event_id


def store_event(license_id: int, body: bytes, content_type: str, content_encoding: str = "") -> int | None:
    """Store one webhook. Returns the id of the event that is new, None for a repeat, which is counted.

    Raises `django.db.Error` where the database does not take it.
    """
    digest, content_type = body_digest(license_id, body), cleaned(content_type, 255)
    content_encoding = cleaned(content_encoding, 64)
    for _ in range(_TRIES):
        event_id = store().insert_event(license_id, body, content_type, digest, content_encoding=content_encoding)
        if event_id is not None:
            return event_id
        if not _free_if_new(digest) and _count_repeat(digest):
            return None
        # The digest was freed, by us or by somebody at the same time, or the row purged: insert again.
    raise IntegrityError("A webhook's digest was taken and freed again and again.")


def _find(token_digest: str) -> KnownToken:
    known = store().find_token(token_digest)
    if known is None:
        raise UnknownTokenError
    return known


def _free_if_new(digest: str) -> bool:
    events = WebhookEvent.objects.filter(digest=digest, status=EventStatus.PROCESSED)
    known = events.filter(gateway_id="").only("understood").first()
    if known is None or _names_itself(known.understood):
        return False
    with brief_statements(events.db):
        return bool(events.filter(pk=known.pk, last_received_at__lte=in_seconds(-REPEAT_SECONDS)).update(digest=None))


def _names_itself(understood: dict[str, object]) -> bool:
    more = understood.get("more")
    parts = [understood, *(more if isinstance(more, list) else [])]
    return any(part.get("gateway_id") or part.get("occurred_at") for part in parts)


def _count_repeat(digest: str) -> bool:
    known = WebhookEvent.objects.filter(digest=digest)
    try:
        with brief_statements(known.db):
            return bool(known.update(times_received=F("times_received") + 1, last_received_at=DatabaseNow()))
    except DatabaseError as error:
        if not waited_too_long(error) or connections[known.db].in_atomic_block:
            raise
        # It is a repeat, counted or not; the gateway is not kept waiting for who holds its row.
        return True
