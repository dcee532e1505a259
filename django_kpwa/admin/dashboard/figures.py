"""What became of messages, by hour and by day of the site's zone: from the hourly statistics, and the running hour.

Sums are made by the database, so that a page reads as many rows with two hundred licenses as with one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta

from django.db.models import IntegerField, QuerySet, Sum
from django.db.models.fields.json import KT
from django.db.models.functions import Cast
from django.utils import timezone

from ...counts import grouped
from ...models import HISTOGRAM_SECONDS, HourlyStatistic
from ...statistics import running_hours

HOURS = 24
DAYS = 30
_BUCKETS = len(HISTOGRAM_SECONDS) + 1
_SUMS = (Sum("sent"), Sum("failed"), Sum("unknown"))
_BUCKET_SUMS = {
    f"bucket_{bucket}": Sum(Cast(KT(f"queued_to_sent__{bucket}"), IntegerField())) for bucket in range(_BUCKETS)
}


KINDS = ("sent", "failed", "unknown")


@dataclass
class Counts:
    sent: int = 0
    failed: int = 0
    unknown: int = 0

    def add(self, sent: int, failed: int, unknown: int) -> None:
        self.sent += sent
        self.failed += failed
        self.unknown += unknown

    @property
    def total(self) -> int:
        return self.sent + self.failed + self.unknown

    @property
    def shown(self) -> dict[str, str]:
        """The numbers as a page writes them."""
        return {kind: grouped(getattr(self, kind)) for kind in KINDS}


@dataclass(frozen=True)
class Delay:
    """So many seconds, or more than that."""

    seconds: float
    is_more: bool = False


@dataclass(frozen=True)
class Figures:
    """Of a stretch of time: counts by when each hour or day began, and how long messages waited to be sent."""

    by_start: dict[datetime, Counts] | dict[date, Counts]
    median: Delay | None
    percentile_95: Delay | None
    total: Counts = field(init=False)

    def __post_init__(self) -> None:
        total = Counts()
        for counts in self.by_start.values():
            total.add(counts.sent, counts.failed, counts.unknown)
        object.__setattr__(self, "total", total)


class Statistics:
    """The hours that have passed as they were rolled up, and the running one as it is at `now`."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._since, self._running = running_hours(now)

    def today(self, license_ids: Sequence[int]) -> dict[int, Counts]:
        """Since midnight, of each of these licenses."""
        today = timezone.localdate(self._now)
        midnight = timezone.make_aware(datetime.combine(today, time.min))
        counts: dict[int, Counts] = {}
        rolled_up = self._rolled_up(midnight).filter(license_id__in=license_ids)
        by_license = rolled_up.values_list("license_id").annotate(*_SUMS)
        for license_id, *sums in by_license:
            counts.setdefault(license_id, Counts()).add(*sums)
        for row in self._running:
            if row.hour >= midnight:
                counts.setdefault(row.license_id, Counts()).add(row.sent, row.failed, row.unknown)
        return counts

    def last_hours(self) -> Figures:
        """The running hour and those before it, 24 in all."""
        this_hour = self._now.replace(minute=0, second=0, microsecond=0)
        first = this_hour - timedelta(hours=HOURS - 1)
        by_hour = {first + timedelta(hours=number): Counts() for number in range(HOURS)}
        for hour, *sums in self._by_hour(first):
            if hour in by_hour:
                by_hour[hour].add(*sums)
        return Figures(by_hour, *self._delays(first))

    def last_days(self) -> Figures:
        """Today and the days before it, 30 in all."""
        today = timezone.localdate(self._now)
        first = today - timedelta(days=DAYS - 1)
        by_day = {first + timedelta(days=number): Counts() for number in range(DAYS)}
        midnight = timezone.make_aware(datetime.combine(first, time.min))
        for hour, *sums in self._by_hour(midnight):
            day = timezone.localdate(hour)
            if day in by_day:
                by_day[day].add(*sums)
        return Figures(by_day, *self._delays(midnight))

    def _rolled_up(self, first: datetime) -> QuerySet[HourlyStatistic]:
        hours = HourlyStatistic.objects.filter(hour__gte=first, hour__lt=self._since)
        return hours.order_by()

    def _by_hour(self, first: datetime) -> Iterable[tuple[datetime, int, int, int]]:
        yield from self._rolled_up(first).values_list("hour").annotate(*_SUMS)
        for row in self._running:
            yield row.hour, row.sent, row.failed, row.unknown

    def _delays(self, first: datetime) -> tuple[Delay | None, Delay | None]:
        histogram = [0] * _BUCKETS
        summed = self._rolled_up(first).aggregate(**_BUCKET_SUMS)
        for bucket in range(_BUCKETS):
            histogram[bucket] += summed[f"bucket_{bucket}"] or 0
        for row in self._running:
            for bucket, count in enumerate(row.queued_to_sent[:_BUCKETS]):
                histogram[bucket] += count
        return percentile(histogram, 0.5), percentile(histogram, 0.95)


def percentile(histogram: Sequence[int], share: float) -> Delay | None:
    """Within how many seconds `share` of the messages were sent; None where there was none.

    Within a bucket they are taken to be spread evenly; the last bucket has no upper bound.
    """
    total = sum(histogram)
    if not total:
        return None
    wanted = share * total
    below, low = 0, 0.0
    for count, high in zip(histogram, HISTOGRAM_SECONDS, strict=False):
        if count and below + count >= wanted:
            return Delay(low + (high - low) * (wanted - below) / count)
        below, low = below + count, float(high)
    return Delay(float(HISTOGRAM_SECONDS[-1]), is_more=True)
