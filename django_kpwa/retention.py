"""Deletes what is older than `KPWA["RETENTION_DAYS"]`, in small batches, so that no statement holds up the senders.

Of a message that had an idempotency key that is kept (`KeptKey`), so that it is not sent a second time.

It goes along the index of the time by which a row is old, and never back: neither what it has deleted, which PostgreSQL
keeps for a while, nor what it must keep is read again. After each batch it rests for as long as that took.
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
    HourlyStatistic,
    OutboundMessage,
    ReceiptFailure,
    SeenId,
    SendAttempt,
    Status,
    WebhookEvent,
    WebhookToken,
    in_seconds,
)
from .store import store
from .store.locks import brief_transaction

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
    """Delete what is old. Messages that wait, are being sent, or are in doubt and undecided are kept for ever.

    `should_stop` is asked before each batch of `batch_size` rows.
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
    tokens = WebhookToken.objects.filter(expires_at__lt=in_seconds(-_DAY))
    # Events before messages: most of them would only be told that their message is gone.
    counts = {
        name: _delete(rows, by, should_stop, batch_size)
        for name, rows, by in (
            ("failures", failures, "occurred_at"),
            ("tokens", tokens, "expires_at"),
            ("events", events, "received_at"),
            ("seen", seen, "seen_at"),
            ("messages", settled, "settled_at"),
            ("statistics", statistics, "hour"),
        )
    }
    return Purged(counts["messages"], counts["events"], counts["statistics"])


def _delete(rows: QuerySet[Any], by: str, should_stop: Callable[[], bool], batch_size: int) -> int:
    deleted = 0
    ahead = rows
    while not should_stop():
        began_at = time.monotonic()
        found = dict(ahead.order_by(by).values_list("pk", by)[:batch_size])
        if not found:
            break
        went = _delete_what_can_go(rows, list(found))
        deleted += went
        # Nothing behind a batch that is all kept is found again: those of one moment are more than a batch.
        newest = max(found.values())
        if len(found) < batch_size or (not went and newest == min(found.values())):
            break
        ahead = rows.filter(**{f"{by}__gte": newest})
        time.sleep(min(time.monotonic() - began_at, _LONGEST_REST_SECONDS))
    return deleted


def _delete_what_can_go(rows: QuerySet[Any], ids: list[int]) -> int:
    """Delete them, except those that a table of the site's points to: by halves, so that one keeps no other."""
    try:
        return _delete_batch(rows, ids)
    except IntegrityError:
        if len(ids) == 1:
            logger.warning("%s %s is kept: another table points to it.", rows.model._meta.object_name, ids[0])
            return 0
    half = len(ids) // 2
    return _delete_what_can_go(rows, ids[:half]) + _delete_what_can_go(rows, ids[half:])


def _delete_batch(rows: QuerySet[Any], ids: list[int]) -> int:
    using = rows.db
    if rows.model is OutboundMessage:
        # Committed before: whoever stores a message meanwhile finds the key in one place or in both.
        with brief_transaction(using):
            store().keep_keys(rows.filter(pk__in=ids))
    with brief_transaction(using):
        if rows.model is OutboundMessage:
            # One that a person queued again since the look is not old any more.
            ids = list(rows.filter(pk__in=ids).select_for_update().values_list("pk", flat=True))
            # What points to a message goes or lets go first, by raw deletes: no row is loaded.
            SendAttempt.objects.filter(message_id__in=ids)._raw_delete(using)
            WebhookEvent.objects.filter(message_id__in=ids).update(message=None)
        rows.model._default_manager.using(using).filter(pk__in=ids)._raw_delete(using)
    return len(ids)
