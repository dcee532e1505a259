"""Stores what arrives, byte for byte, and counts what arrives again.

A body that came before is a repeat: gateways of this family post again whatever was not answered in time. Only one that
names neither an id nor a time may, much later, be something new: a customer who says "ok" on two days.
"""

from __future__ import annotations

from django.db import IntegrityError, transaction
from django.db.models import F

from ..models import DatabaseNow, EventStatus, WebhookEvent, body_digest, in_seconds, write_alias
from .parsers import cleaned

REPEAT_SECONDS = 600.0
"""A nameless body that comes again later than this is something new."""

_TRIES = 5


def store_event(license_id: int, body: bytes, content_type: str) -> int | None:
    """Store one webhook. Returns the id of the event that is new, None for a repeat, which is counted.

    Raises `django.db.Error` where the database does not take it.
    """
    digest = body_digest(license_id, body)
    for _ in range(_TRIES):
        event_id = _insert(license_id, body, content_type, digest)
        if event_id is not None:
            return event_id
        if not _free_if_new(digest) and _count_repeat(digest):
            return None
        # The digest was freed, by us or by somebody at the same time, or the row purged: insert again.
    raise IntegrityError("A webhook's digest was taken and freed again and again.")


def _insert(license_id: int, body: bytes, content_type: str, digest: str) -> int | None:
    using = write_alias()
    event = WebhookEvent(
        license_id=license_id,
        body=body,
        content_type=cleaned(content_type, 255),
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


def _free_if_new(digest: str) -> bool:
    events = WebhookEvent.objects.using(write_alias()).filter(digest=digest, status=EventStatus.PROCESSED)
    known = events.filter(gateway_id="").only("understood").first()
    if known is None or _names_itself(known.understood):
        return False
    return bool(events.filter(pk=known.pk, last_received_at__lte=in_seconds(-REPEAT_SECONDS)).update(digest=None))


def _names_itself(understood: dict[str, object]) -> bool:
    more = understood.get("more")
    parts = [understood, *(more if isinstance(more, list) else [])]
    return any(part.get("gateway_id") or part.get("occurred_at") for part in parts)


def _count_repeat(digest: str) -> bool:
    known = WebhookEvent.objects.using(write_alias()).filter(digest=digest)
    return bool(known.update(times_received=F("times_received") + 1, last_received_at=DatabaseNow()))
