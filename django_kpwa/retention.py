"""Deletes what is older than `KPWA["RETENTION_DAYS"]`, in small batches, so that no statement holds up the senders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from .conf import kpwa_settings
from .models import (
    HourlyStatistic,
    OutboundMessage,
    ReceiptFailure,
    SendAttempt,
    Status,
    WebhookEvent,
    WebhookToken,
    in_seconds,
    write_alias,
)

_BATCH = 1000
_DAY = 86_400.0


@dataclass(frozen=True)
class Purged:
    """How many rows of each kind were deleted."""

    messages: int
    events: int
    statistics: int


def purge(*, should_stop: Callable[[], bool] = lambda: False) -> Purged:
    """Delete what is old. Messages that wait, are being sent, or are in doubt and undecided are kept for ever."""
    days = kpwa_settings().RETENTION_DAYS
    using = write_alias()
    settled = (
        OutboundMessage.objects.using(using)
        .filter(settled_at__lt=in_seconds(-days["messages"] * _DAY))
        .exclude(status__in=[Status.QUEUED, Status.SENDING])
        .exclude(status=Status.UNKNOWN, dismissed_at=None)
    )
    events = WebhookEvent.objects.using(using).filter(received_at__lt=in_seconds(-days["events"] * _DAY))
    statistics = HourlyStatistic.objects.using(using).filter(hour__lt=in_seconds(-days["statistics"] * _DAY))
    failures = ReceiptFailure.objects.using(using).filter(occurred_at__lt=in_seconds(-days["events"] * _DAY))
    tokens = WebhookToken.objects.using(using).filter(expires_at__lt=in_seconds(-_DAY))
    for quiet in (failures, tokens):
        _delete(quiet, should_stop)
    return Purged(
        messages=_delete(settled, should_stop),
        events=_delete(events, should_stop),
        statistics=_delete(statistics, should_stop),
    )


def _delete(rows: QuerySet[Any], should_stop: Callable[[], bool]) -> int:
    deleted = 0
    while not should_stop():
        ids = list(rows.order_by("pk").values_list("pk", flat=True)[:_BATCH])
        if not ids:
            break
        with transaction.atomic(using=rows.db):
            if rows.model is OutboundMessage:
                # One that a person queued again since the look is not old any more.
                ids = list(rows.filter(pk__in=ids).select_for_update().values_list("pk", flat=True))
                # What points to a message goes or lets go first, by raw deletes: no row is loaded.
                SendAttempt.objects.using(rows.db).filter(message_id__in=ids)._raw_delete(rows.db)
                WebhookEvent.objects.using(rows.db).filter(message_id__in=ids).update(message=None)
            batch = rows.model._default_manager.using(rows.db).filter(pk__in=ids)
            batch._raw_delete(rows.db)
        deleted += len(ids)
    return deleted
