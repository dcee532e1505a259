"""Rolls up the figures of the last hours, so that the dashboard does not have to count messages."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from datetime import timezone as datetime_timezone
from itertools import pairwise
from typing import Any

from django.db.models import Count, F, Q, Value
from django.db.models.functions import Coalesce, TruncHour
from django.utils import timezone

from .counts import count_up_to
from .models import (
    ARRIVED,
    HISTOGRAM_SECONDS,
    HourlyStatistic,
    Lane,
    License,
    OutboundMessage,
    Recipient,
    RecipientType,
    Status,
)
from .store import store

MAX_COUNTED_NOW = 5_000
"""Maximum number of messages of the current hour that are counted for a page; with more, it shows the last roll-up."""
# Beat rolls up every minute; before that, the hour that just ended lacks its last messages.
_ROLLED_UP_AFTER = timedelta(minutes=3)
# Hours that each roll-up counts again, because a decision or a webhook may still change their messages.
HOURS_COUNTED_AGAIN = 3
# Hours that are counted again in the first minutes of each hour: many people read a receipt only hours or a day later.
HOURS_OF_TICKS_COUNTED_AGAIN = 48
_MINUTES_OF_TICKS = 2
# Maximum number of hours that are counted after a time in which beat did not run.
MAX_HOURS_CAUGHT_UP = 7 * 24
# Hours whose messages in doubt are counted again: a person often decides about them only days later.
HOURS_OF_DOUBT_COUNTED_AGAIN = 7 * 24

_UNANSWERED_COUNTED_AFTER = timedelta(minutes=10)
MAX_LICENSES_COUNTED = 100
"""Maximum number of licenses per roll-up whose unanswered messages are counted: a site may have thousands of them."""
MAX_UNANSWERED_READ = 20_000
"""Maximum number of a license's messages of the month, newest first, that are read to count the unanswered ones."""
_QUEUED_BEFORE = timedelta(days=7)
_NUMBERS_AT_ONCE = 1000

_COLUMN_OF = {
    **dict.fromkeys(ARRIVED, "sent"),
    Status.FAILED: "failed",
    Status.UNKNOWN: "unknown",
    Status.CANCELLED: "cancelled",
    Status.EXPIRED: "expired",
}


def roll_up(now: datetime | None = None) -> int:
    """Count the last hours again, and the messages in doubt of older hours; returns how many rows changed.

    `now`: for tests; by default the database's time.
    """
    now = now or store().now()
    last = now.replace(minute=0, second=0, microsecond=0)
    since = _since(last)
    if now.minute < _MINUTES_OF_TICKS:
        since = min(since, last - timedelta(hours=HOURS_OF_TICKS_COUNTED_AGAIN))
    stored = _stored(since)
    # Write only what changed: of many licenses, few have sent something in the last minute.
    rows = [row for row in _rows(since, stored) if stored.get((row.license_id, row.hour)) != _figures(row)]
    if rows:
        with store().brief():
            store().upsert(rows, unique=["license", "hour"], update=_FIGURES)
        count_unanswered(now)
    return len(rows) + _take_back_doubt(last - timedelta(hours=HOURS_OF_DOUBT_COUNTED_AGAIN), since)


def running_hours(now: datetime, max_counted: int = MAX_COUNTED_NOW) -> tuple[datetime, list[HourlyStatistic]]:
    """Return the time from which the up-to-date figures count, and the figures of the current hour, unsaved.

    In the first minutes of an hour they include the hour before, whose roll-up may not be complete. With more messages
    than `max_counted`, the stored figures are returned instead.
    """
    since = (now - _ROLLED_UP_AFTER).replace(minute=0, second=0, microsecond=0)
    settled = OutboundMessage.objects.filter(settled_at__gte=since)
    if count_up_to(max_counted, settled).is_more:
        return since, list(HourlyStatistic.objects.filter(hour__gte=since))
    return since, _rows(since, _stored(since))


def month_of(now: datetime, license_: License) -> datetime:
    """Return the beginning of the current calendar month in the license's time zone."""
    local = timezone.localtime(now, license_.time_zone)
    return local.replace(day=1, hour=0, minute=0, second=0, microsecond=0, fold=0)


def count_unanswered(now: datetime) -> None:
    """Count this month's unanswered messages of each license for which the number may have changed.

    These are the licenses that have sent since the last count, or had unanswered messages then. At most
    `MAX_LICENSES_COUNTED` are counted, those counted longest ago first.
    """
    counted_at = F("unanswered_at")
    is_old = Q(unanswered_at=None) | Q(unanswered_at__lte=now - _UNANSWERED_COUNTED_AFTER)
    may_differ = Q(unanswered_at=None) | Q(unanswered__gt=0) | Q(lease_taken_at__gte=counted_at)
    longest_ago = Lane.objects.filter(is_old, may_differ).order_by(counted_at.asc(nulls_first=True), "pk")
    for lane in longest_ago.select_related("license")[:MAX_LICENSES_COUNTED]:
        since = month_of(now, lane.license)
        store().note_unanswered(lane.pk, _unanswered(lane.pk, since), now)


def _unanswered(license_id: int, since: datetime) -> int:
    """Return how many messages sent from `since` on went to people who have not written after that message."""
    sent = OutboundMessage.objects.filter(
        license_id=license_id,
        # For the index on `created_at`. A message that was queued long before the month counts for the month before.
        created_at__gte=since - _QUEUED_BEFORE,
        sent_at__gte=since,
        status__in=ARRIVED,
        recipient_type=RecipientType.NUMBER,
    ).exclude(recipient="")
    newest: Any = sent.order_by("-created_at").values_list("recipient", "sent_at")
    found = list(newest[:MAX_UNANSWERED_READ])
    numbers = sorted({number for number, _ in found})
    wrote: dict[str, Any] = {}
    # Not a join, because tables created by an old MariaDB may have other collations than newer ones.
    for start in range(0, len(numbers), _NUMBERS_AT_ONCE):
        some = numbers[start : start + _NUMBERS_AT_ONCE]
        lately = Recipient.objects.filter(license_id=license_id, number__in=some, last_inbound_at__gte=since)
        wrote |= dict(lately.values_list("number", "last_inbound_at"))
    return sum(number not in wrote or sent_at > wrote[number] for number, sent_at in found)


_FIGURES = (
    "sent", "failed", "unknown", "cancelled", "expired", "delivered", "read", "undelivered", "queued_to_sent"
)  # fmt: skip


def _stored(since: datetime) -> dict[tuple[int, datetime], list[object]]:
    """The stored figures from `since` on, by license and hour."""
    counted = HourlyStatistic.objects.filter(hour__gte=since).values_list("license_id", "hour", *_FIGURES)
    return {(license_id, hour): figures for license_id, hour, *figures in counted}


def _figures(row: HourlyStatistic) -> list[object]:
    return [getattr(row, name) for name in _FIGURES]


def _take_back_doubt(first: datetime, until: datetime) -> int:
    """Correct `unknown` of the older hours that have messages in doubt: people may have decided about some since.

    Only this column can change: no message is added to a past hour, and one that leaves it is counted in the hour in
    which it is settled again. If no stored hour has messages in doubt, no message is read.
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
    return max(newest, last - timedelta(hours=MAX_HOURS_CAUGHT_UP))


def _rows(since: datetime, known: Iterable[tuple[int, datetime]]) -> list[HourlyStatistic]:
    """The figures of each license and hour from `since` on, counted from the messages; unsaved.

    `known`: the licenses and hours that have stored figures. They get a row even if nothing is counted for them,
    because all their messages may have been settled again in another hour since.
    """
    settled = (
        OutboundMessage.objects
        # Skip messages that expired or were withdrawn while they waited for a license.
        .filter(settled_at__gte=since, license__isnull=False)
        # In UTC, the connection's time zone: MariaDB converts to others only if its time zone tables are loaded.
        .annotate(
            # Expressions instead of plain columns: to group by a column, SQLite would read the whole table along an
            # index that begins with it.
            of_license=Coalesce("license_id", 0),
            of_status=Coalesce("status", Value("")),
            hour=TruncHour("settled_at", tzinfo=datetime_timezone.utc),
        )
        .order_by()
    )
    rows = {key: _row(*key) for key in known}

    def row_of(license_id: int, hour: datetime) -> HourlyStatistic:
        key = (license_id, hour)
        if key not in rows:
            rows[key] = _row(license_id, hour)
        return rows[key]

    undelivered = Count("id", filter=Q(undelivered_at__isnull=False))
    grouped = settled.values_list("of_license", "hour", "of_status")
    by_status = list(grouped.annotate(count=Count("id"), undelivered=undelivered))
    if not by_status:
        return list(rows.values())
    for license_id, hour, status, count, reported in by_status:
        column = _COLUMN_OF.get(status)
        if column is not None:
            row = row_of(license_id, hour)
            setattr(row, column, getattr(row, column) + count)
            if status in (Status.DELIVERED, Status.READ):
                row.delivered = (row.delivered or 0) + count
            if status == Status.READ:
                row.read = count
            if status == Status.SENT:
                row.undelivered = reported
    by_time = settled.filter(sent_at__isnull=False).values_list("of_license", "hour").annotate(**_buckets())
    for license_id, hour, *buckets in by_time:
        row_of(license_id, hour).queued_to_sent = buckets
    return list(rows.values())


def _row(license_id: int, hour: datetime) -> HourlyStatistic:
    return HourlyStatistic(license_id=license_id, hour=hour, delivered=0, read=0, undelivered=0)


def _buckets() -> dict[str, Count]:
    """Return a conditional count for each bucket of the time from queued to sent."""
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
