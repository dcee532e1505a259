"""Deletes rows that are older than `KPWA["RETENTION_DAYS"]`, in small batches, so that no statement blocks the senders.

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
_LONGEST_REST_SECONDS = 1.0
_DAY = 86_400.0


@dataclass(frozen=True)
class Purged:
    """How many rows of each kind were deleted."""

    messages: int
    events: int
    statistics: int


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
    return Purged(counts["messages"], counts["events"], counts["statistics"])


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
        time.sleep(min(time.monotonic() - began_at, _LONGEST_REST_SECONDS))
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
