"""Rolls the figures of the last hours up, so that a dashboard never counts messages."""

from __future__ import annotations

from datetime import datetime, timedelta
from datetime import timezone as datetime_timezone
from itertools import pairwise

from django.db import connections
from django.db.models import Count, F, Q, Value
from django.db.models.functions import Coalesce, TruncHour

from .counts import count_up_to
from .models import ARRIVED, HISTOGRAM_SECONDS, HourlyStatistic, OutboundMessage, Status, write_alias
from .store.locks import brief_transaction
from .store.sql import database_now

MOST_COUNTED_NOW = 5_000
"""So many messages of the running hour are counted for a page; of more, it has what the last roll-up counted."""
# Beat rolls up every minute: until it has, the hour that just ended lacks its last messages.
_ROLLED_UP_AFTER = timedelta(minutes=3)
# A decision or a webhook may still settle a message of the hours before; a new count replaces the old one.
HOURS_COUNTED_AGAIN = 3
# Hours that nobody counted, because beat stood still, are made good as far back as this.
MOST_HOURS_MADE_GOOD = 7 * 24
# Doubt is often decided about days later; so far back, an hour's messages in doubt are counted again.
HOURS_OF_DOUBT_COUNTED_AGAIN = 7 * 24

_COLUMN_OF = {
    **dict.fromkeys(ARRIVED, "sent"),
    Status.FAILED: "failed",
    Status.UNKNOWN: "unknown",
    Status.CANCELLED: "cancelled",
    Status.EXPIRED: "expired",
}


def roll_up(now: datetime | None = None) -> int:
    """Count the last hours anew, and the doubt of older ones; returns the rows that changed."""
    last = (now or database_now(write_alias())).replace(minute=0, second=0, microsecond=0)
    since = _since(last)
    rows = _changed(_rows(since), since)
    with brief_transaction(write_alias()):
        HourlyStatistic.objects.bulk_create(
            rows,
            batch_size=500,
            update_conflicts=True,
            # MySQL has no conflict target: its unique keys decide.
            unique_fields=["license", "hour"] if _names_conflict_target() else None,
            update_fields=_FIGURES,
        )
    return len(rows) + _take_back_doubt(last - timedelta(hours=HOURS_OF_DOUBT_COUNTED_AGAIN), since)


def running_hours(now: datetime) -> tuple[datetime, list[HourlyStatistic]]:
    """Since when, and the figures of the hour of `now` as they are now, unsaved; at its start also of the last."""
    since = (now - _ROLLED_UP_AFTER).replace(minute=0, second=0, microsecond=0)
    settled = OutboundMessage.objects.filter(settled_at__gte=since)
    if count_up_to(MOST_COUNTED_NOW, settled).is_more:
        return since, list(HourlyStatistic.objects.filter(hour__gte=since))
    return since, _rows(since)


_FIGURES = ("sent", "failed", "unknown", "cancelled", "expired", "queued_to_sent")


def _changed(rows: list[HourlyStatistic], since: datetime) -> list[HourlyStatistic]:
    """Those that are not stored as they are: of many licenses, few have sent something in the last minute."""
    counted = HourlyStatistic.objects.filter(hour__gte=since)
    stored = {
        (license_id, hour): figures
        for license_id, hour, *figures in counted.values_list("license_id", "hour", *_FIGURES).iterator()
    }
    return [row for row in rows if stored.get((row.license_id, row.hour)) != [getattr(row, name) for name in _FIGURES]]


def _take_back_doubt(first: datetime, until: datetime) -> int:
    """Correct the older hours that say they have messages in doubt: some may have been decided about since.

    Nothing enters an hour that has passed, and who leaves it is counted where it is settled anew; so that the one
    column is all there is to correct. Where no hour speaks of doubt, no message is looked at.
    """
    hours = HourlyStatistic.objects.filter(hour__gte=first, hour__lt=until, unknown__gt=0)
    told = {(license_id, hour): (pk, unknown) for pk, license_id, hour, unknown in hours.values_list(*_HOUR_OF_DOUBT)}
    if not told:
        return 0
    still = (
        OutboundMessage.objects.filter(
            status=Status.UNKNOWN, settled_at__gte=min(hour for _, hour in told), settled_at__lt=until
        )
        .annotate(hour=TruncHour("settled_at", tzinfo=datetime_timezone.utc))
        .order_by()
        .values_list("license_id", "hour")
        .annotate(count=Count("id"))
    )
    in_doubt = {(license_id, hour): count for license_id, hour, count in still}
    corrected = 0
    for key, (pk, unknown) in told.items():
        now_unknown = in_doubt.get(key, 0)
        if now_unknown != unknown:
            corrected += hours.filter(pk=pk).update(unknown=now_unknown)
    return corrected


_HOUR_OF_DOUBT = ("pk", "license_id", "hour", "unknown")


def _since(last: datetime) -> datetime:
    since = last - timedelta(hours=HOURS_COUNTED_AGAIN - 1)
    newest = HourlyStatistic.objects.order_by("-hour").values_list("hour", flat=True).first()
    if newest is None or newest >= since:
        return since
    return max(newest, last - timedelta(hours=MOST_HOURS_MADE_GOOD))


def _names_conflict_target() -> bool:
    return connections[write_alias()].features.supports_update_conflicts_with_target


def _rows(since: datetime) -> list[HourlyStatistic]:
    settled = (
        OutboundMessage.objects
        # What never had a license was sent by none: expired or withdrawn while it waited for one.
        .filter(settled_at__gte=since, license__isnull=False)
        # UTC by its name, as the connection has it: MariaDB converts to another only with its time zone tables.
        .annotate(
            # Expressions: to group by a column, SQLite reads the whole table by an index that begins with it.
            of_license=Coalesce("license_id", 0),
            of_status=Coalesce("status", Value("")),
            hour=TruncHour("settled_at", tzinfo=datetime_timezone.utc),
        )
        .order_by()
    )
    # Those that were counted before begin at nothing: what they counted may have been settled anew in another hour.
    counted = HourlyStatistic.objects.filter(hour__gte=since)
    rows = {key: HourlyStatistic(license_id=key[0], hour=key[1]) for key in counted.values_list("license_id", "hour")}

    def row_of(license_id: int, hour: datetime) -> HourlyStatistic:
        key = (license_id, hour)
        if key not in rows:
            rows[key] = HourlyStatistic(license_id=license_id, hour=hour)
        return rows[key]

    by_status = settled.values_list("of_license", "hour", "of_status").annotate(count=Count("id"))
    for license_id, hour, status, count in by_status:
        column = _COLUMN_OF.get(status)
        if column is not None:
            row = row_of(license_id, hour)
            setattr(row, column, getattr(row, column) + count)
    by_time = settled.filter(sent_at__isnull=False).values_list("of_license", "hour").annotate(**_buckets())
    for license_id, hour, *buckets in by_time:
        row_of(license_id, hour).queued_to_sent = buckets
    return list(rows.values())


def _buckets() -> dict[str, Count]:
    """One conditional count a bucket of the time from queued to sent."""
    bounds = [None, *HISTOGRAM_SECONDS, None]
    buckets = {}
    for index, (low, high) in enumerate(pairwise(bounds)):
        within = Q()
        if low is not None:
            within &= Q(sent_at__gt=F("created_at") + timedelta(seconds=low))
        if high is not None:
            within &= Q(sent_at__lte=F("created_at") + timedelta(seconds=high))
        buckets[f"bucket_{index}"] = Count("id", filter=within)
    return buckets
