"""Stores webhooks byte for byte, and counts those that arrive again.

A body that was received before is a repeat, because gateways of this family post again whatever was not answered in
time. There is one exception. A body with neither an id nor a time may be new if it arrives again much later: a customer
may write "ok" on two days.
"""

from __future__ import annotations

from collections.abc import Callable

from django.db import IntegrityError
from django.views.decorators.debug import sensitive_variables

from ..contents import storable
from ..models import EventStatus, WebhookEvent, body_digest
from ..store import store
from ..store.events import KnownToken

REPEAT_SECONDS = 600.0
"""Seconds after which a body without id and time, if it arrives again, is stored as a new event."""

_TRIES = 5
_MAX_FAMILIAR = 4096

# License ids by token digest, for the tokens under which this process has stored an event. It is safe to cache them: a
# token never changes its license, and the INSERT itself checks that the token is still valid.
_familiar: dict[str, int] = {}


class UnknownTokenError(Exception):
    """No valid token has this digest."""


@sensitive_variables()
def take(token_digest: str, read: Callable[[], tuple[bytes, str, str]]) -> int | None:
    """Store the webhook that was posted under a token.

    Args:
        token_digest: The token's SHA-256.
        read: Returns the request's body, content type and content encoding. For a token that this process does not yet
            know to be valid, it is called only after the lookup: no body is read for a wrong token.

    Returns:
        The id of the new event, or None for a repeat.

    Raises:
        UnknownTokenError: No valid token has this digest.
        django.db.Error: The event could not be stored.
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
            storable(content_type, 255),
            digest,
            content_encoding=storable(content_encoding, 64),
            under_token=token_digest,
        )
        if event_id is not None:
            return event_id
        known = _find(token_digest)
    event_id = store_event(known.license_id, body, content_type, content_encoding)
    store().note_token_used(known)
    if len(_familiar) >= _MAX_FAMILIAR:
        _familiar.clear()
    _familiar[token_digest] = known.license_id
    return event_id


def store_event(license_id: int, body: bytes, content_type: str, content_encoding: str = "") -> int | None:
    """Store one webhook of a license. `content_type` and `content_encoding` are its headers.

    Returns the id of the new event, or None for a repeat, which is counted. Raises `django.db.Error` if the event could
    not be stored.
    """
    digest, content_type = body_digest(license_id, body), storable(content_type, 255)
    content_encoding = storable(content_encoding, 64)
    for _ in range(_TRIES):
        event_id = store().insert_event(license_id, body, content_type, digest, content_encoding=content_encoding)
        if event_id is not None:
            return event_id
        if not _free_if_new(digest) and store().count_repeat(digest):
            return None
        # Insert again: the digest was freed, here or by another process, or its row was purged.
    raise IntegrityError("A webhook could not be stored: its digest was taken and freed repeatedly.")


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
    return store().free_digest(known.pk, after_seconds=REPEAT_SECONDS)


def _names_itself(understood: dict[str, object]) -> bool:
    more = understood.get("more")
    parts = [understood, *(more if isinstance(more, list) else [])]
    return any(part.get("gateway_id") or part.get("occurred_at") for part in parts)
