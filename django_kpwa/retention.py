"""Deletes rows that are older than `KPWA["RETENTION_DAYS"]`, in small batches, so that no statement blocks the senders.

The bodies of messages from strangers (people who were never written to) are dropped before the events are deleted.

The idempotency key of a deleted message is kept (`KeptKey`), so that a repeat does not send it a second time.

The purge moves forward along the index of the time by which a row is old, and never back: so neither deleted rows,
which PostgreSQL keeps until a vacuum, nor rows that must be kept are read again. After each batch it pauses for as long
as the batch took.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError
from django.db.models import QuerySet

from .conf import kpwa_settings
from .logs import get_logger
from .models import (
    UNSETTLED,
    Alert,
    EventKind,
    HourlyStatistic,
    OutboundMessage,
    ReceiptFailure,
    SeenId,
    Status,
    WebhookEvent,
    WebhookToken,
    in_seconds,
)
from .store import store

logger = get_logger("django_kpwa.retention")

BATCH_SIZE = 500
_MAX_REST_SECONDS = 1.0
_DAY = 86_400.0


@dataclass(frozen=True)
class Purged:
    """How many rows of each kind were deleted. `bodies`: how many events of strangers had their bodies dropped."""

    messages: int
    events: int
    statistics: int
    bodies: int


def purge(*, should_stop: Callable[[], bool] = lambda: False, batch_size: int = BATCH_SIZE) -> Purged:
    """Delete old rows of all kinds; returns how many. Messages that are unsettled, or in doubt and undecided, are kept.

    `should_stop`: called before each batch of `batch_size` rows; if it returns True, the purge ends.
    """
    days = kpwa_settings().RETENTION_DAYS
    settled = (
        OutboundMessage.objects.filter(settled_at__lt=in_seconds(-days["messages"] * _DAY))
        .exclude(status__in=UNSETTLED)
        .exclude(status=Status.UNKNOWN, dismissed_at=None)
    )
    events = WebhookEvent.objects.filter(received_at__lt=in_seconds(-days["events"] * _DAY))
    statistics = HourlyStatistic.objects.filter(hour__lt=in_seconds(-days["statistics"] * _DAY))
    failures = ReceiptFailure.objects.filter(occurred_at__lt=in_seconds(-days["events"] * _DAY))
    seen = SeenId.objects.filter(seen_at__lt=in_seconds(-days["events"] * _DAY))
    alerts = Alert.objects.filter(closed_at__lt=in_seconds(-days["events"] * _DAY))
    tokens = WebhookToken.objects.filter(expires_at__lt=in_seconds(-_DAY))
    # First, because there may be so many events to delete that no time is left.
    bodies = _drop_bodies_of_strangers(days["strangers"], should_stop, batch_size)
    # Events before messages: deleting a message updates its events, most of which are deleted anyway.
    counts = {
        name: _delete(rows, by, should_stop, batch_size)
        for name, rows, by in (
            ("failures", failures, "occurred_at"),
            ("alerts", alerts, "closed_at"),
            ("tokens", tokens, "expires_at"),
            ("events", events, "received_at"),
            ("seen", seen, "seen_at"),
            ("messages", settled, "settled_at"),
            ("statistics", statistics, "hour"),
        )
    }
    return Purged(counts["messages"], counts["events"], counts["statistics"], bodies)


def _drop_bodies_of_strangers(days: int, should_stop: Callable[[], bool], batch_size: int) -> int:
    """Drop the bodies of customers' messages that are older than `days`, from people who were never written to.

    Returns how many. The parsed columns of these events are kept until the events are deleted.

    Each event is examined only once: later purges begin where this one ended. An event whose sender had been written to
    by then keeps its body.
    """
    dropped = 0
    old = WebhookEvent.objects.filter(kind=EventKind.INCOMING, received_at__lt=in_seconds(-days * _DAY))
    until = store().strangers_until()
    ahead = old if until is None else old.filter(received_at__gte=until)
    at_newest: set[int] = set()
    while not should_stop():
        began_at = time.monotonic()
        # The events of the last batch's newest time were examined, but others may have the same time.
        found = dict(
            ahead.exclude(pk__in=at_newest).order_by("received_at").values_list("pk", "received_at")[:batch_size]
        )
        if not found:
            break
        dropped += store().drop_bodies_of_strangers(list(found))
        newest = max(found.values())
        of_newest = {pk for pk, at in found.items() if at == newest}
        at_newest = at_newest | of_newest if newest == until else of_newest
        store().note_strangers_until(newest)
        until = newest
        ahead = old.filter(received_at__gte=newest)
        if len(found) < batch_size:
            break
        time.sleep(min(time.monotonic() - began_at, _MAX_REST_SECONDS))
    return dropped


def _delete(rows: QuerySet[Any], by: str, should_stop: Callable[[], bool], batch_size: int) -> int:
    """Delete `rows` in batches, oldest first; returns how many. `by`: the column of the time by which a row is old."""
    deleted = 0
    ahead = rows
    while not should_stop():
        began_at = time.monotonic()
        found = dict(ahead.order_by(by).values_list("pk", by)[:batch_size])
        if not found:
            break
        went = _delete_what_can_go(rows, list(found))
        deleted += went
        # If a whole batch has the same time and is kept, the next query would return it again: so end here.
        newest = max(found.values())
        if len(found) < batch_size or (not went and newest == min(found.values())):
            break
        ahead = rows.filter(**{f"{by}__gte": newest})
        time.sleep(min(time.monotonic() - began_at, _MAX_REST_SECONDS))
    return deleted


def _delete_what_can_go(rows: QuerySet[Any], ids: list[int]) -> int:
    """Delete the rows except those that a table of the site refers to, found by bisection; returns how many."""
    try:
        return store().purge(rows, ids)
    except IntegrityError:
        if len(ids) == 1:
            logger.warning("%s %s is kept: another table references it.", rows.model._meta.object_name, ids[0])
            return 0
    half = len(ids) // 2
    return _delete_what_can_go(rows, ids[:half]) + _delete_what_can_go(rows, ids[half:])
