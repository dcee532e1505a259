"""Charts of sent, failed and unknown messages by hour and by day in the site's time zone, as stacked bars.

The figures come from the hourly statistics and, for hours that are not rolled up yet, from the messages themselves.
The database sums them over licenses, so that a page reads as many rows with two hundred licenses as with one.

The charts are drawn on the server: widths are percentages and heights are pixels, so that a chart fills the available
width without scaling its text. Bars differ by pattern as well as by colour, and all figures are also in a table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import date, datetime, time, timedelta
from typing import Any

from django.db.models import IntegerField, Q, QuerySet, Sum
from django.db.models.fields.json import KT
from django.db.models.functions import Cast
from django.utils import formats, timezone
from django.utils.translation import gettext

from ..formatting import duration, grouped, percent
from ..models import HISTOGRAM_SECONDS, HourlyStatistic
from ..statistics import running_hours

HOURS = 24
DAYS = 30
_BUCKETS = len(HISTOGRAM_SECONDS) + 1
_SUMS = {
    "sum_sent": Sum("sent"),
    "sum_failed": Sum("failed"),
    "sum_unknown": Sum("unknown"),
    "sum_followed": Sum("sent", filter=Q(delivered__isnull=False), default=0),
    "sum_delivered": Sum("delivered", default=0),
    "sum_read": Sum("read", default=0),
}
_BUCKET_SUMS = {
    f"bucket_{bucket}": Sum(Cast(KT(f"queued_to_sent__{bucket}"), IntegerField())) for bucket in range(_BUCKETS)
}

KINDS = ("sent", "failed", "unknown")
SHARES = ("delivered", "read")
# In pixels: the height of a chart, and the y coordinates of the top and the bottom of its scale.
HEIGHT = 200
_TOP = 14
_BOTTOM = 168
_BAR_SHARE = 0.72
"""Width of a bar as a share of its slot; the rest is the gap between bars."""
_MIN_HEIGHT = 3.0
"""Minimum height of a bar's piece in pixels: one failure among a thousand messages would otherwise be invisible."""


@dataclass
class Counts:
    """Numbers of messages by their result. `followed`: those sent whose delivery ticks were counted."""

    sent: int = 0
    failed: int = 0
    unknown: int = 0
    followed: int = 0
    delivered: int = 0
    read: int = 0

    def add(self, *counted: int) -> None:
        """Add numbers in the order of the fields."""
        for field, number in zip(fields(self), counted, strict=True):
            setattr(self, field.name, getattr(self, field.name) + number)

    @property
    def total(self) -> int:
        return self.sent + self.failed + self.unknown

    @property
    def shown(self) -> dict[str, str]:
        """The numbers with separators, and the shares that were delivered and read, as pages show them."""
        shares = {name: percent(getattr(self, name) / self.followed) if self.followed else "" for name in SHARES}
        return {kind: grouped(getattr(self, kind)) for kind in KINDS} | shares


@dataclass(frozen=True)
class Figures:
    """The figures of a period: counts by the start of each hour or day, and how long messages waited to be sent.

    The waits are in seconds, as `percentile()` returns them.
    """

    by_start: dict[datetime, Counts] | dict[date, Counts]
    median: float | None
    percentile_95: float | None

    @property
    def total(self) -> Counts:
        total = Counts()
        for counts in self.by_start.values():
            total.add(*astuple(counts))
        return total


class Statistics:
    """Counts from the hourly statistics, and from the messages for the hours after them up to `now`."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._since, self._running = running_hours(now)

    def today(self, license_ids: Sequence[int]) -> dict[int, Counts]:
        """Return the counts since the site's midnight by license id, without licenses that have none."""
        today = timezone.localdate(self._now)
        midnight = timezone.make_aware(datetime.combine(today, time.min))
        counts: dict[int, Counts] = {}
        rolled_up = self._rolled_up(midnight).filter(license_id__in=license_ids)
        by_license = rolled_up.values_list("license_id").annotate(**_SUMS)
        for license_id, *sums in by_license:
            counts.setdefault(license_id, Counts()).add(*sums)
        for row in self._running:
            if row.hour >= midnight:
                counts.setdefault(row.license_id, Counts()).add(*_counted(row))
        return counts

    def last_hours(self) -> Figures:
        """Return the figures of the last `HOURS` hours, the current one included."""
        this_hour = self._now.replace(minute=0, second=0, microsecond=0)
        first = this_hour - timedelta(hours=HOURS - 1)
        by_hour = {first + timedelta(hours=number): Counts() for number in range(HOURS)}
        for hour, *sums in self._by_hour(first):
            if hour in by_hour:
                by_hour[hour].add(*sums)
        return Figures(by_hour, *self._delays(first))

    def last_days(self) -> Figures:
        """Return the figures of the last `DAYS` days, today included."""
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

    def _by_hour(self, first: datetime) -> Iterable[tuple[Any, ...]]:
        yield from self._rolled_up(first).values_list("hour").annotate(**_SUMS)
        for row in self._running:
            yield row.hour, *_counted(row)

    def _delays(self, first: datetime) -> tuple[float | None, float | None]:
        histogram = [0] * _BUCKETS
        summed = self._rolled_up(first).aggregate(**_BUCKET_SUMS)
        for bucket in range(_BUCKETS):
            histogram[bucket] += summed[f"bucket_{bucket}"] or 0
        for row in self._running:
            for bucket, count in enumerate(row.queued_to_sent[:_BUCKETS]):
                histogram[bucket] += count
        return percentile(histogram, 0.5), percentile(histogram, 0.95)


def _counted(row: HourlyStatistic) -> tuple[int, ...]:
    followed = 0 if row.delivered is None else row.sent
    return row.sent, row.failed, row.unknown, followed, row.delivered or 0, row.read or 0


def percentile(histogram: Sequence[int], share: float) -> float | None:
    """Return the seconds within which `share` of the messages were sent; None if there were no messages.

    Messages are assumed to be spread evenly within a bucket. The last bucket has no upper bound: a time in it is
    infinite.

    Args:
        histogram: Number of messages per bucket; `HISTOGRAM_SECONDS` are the buckets' upper bounds.
        share: Between 0 and 1; 0.5 is the median.
    """
    total = sum(histogram)
    if not total:
        return None
    wanted = share * total
    below, low = 0, 0.0
    for count, high in zip(histogram, HISTOGRAM_SECONDS, strict=False):
        if count and below + count >= wanted:
            return low + (high - low) * (wanted - below) / count
        below, low = below + count, float(high)
    return math.inf


@dataclass(frozen=True)
class Bar:
    """The bar of one hour or day; `name` and `counts` are its row in the table.

    A piece is one of `KINDS`, with its upper edge and its height.
    """

    x: str
    width: str
    name: str
    counts: Counts
    pieces: list[tuple[str, str, str]]

    @property
    def words(self) -> str:
        words = gettext("%(when)s: %(sent)s sent, %(failed)s failed, %(unknown)s in doubt")
        return words % {"when": self.name, **self.counts.shown}


@dataclass(frozen=True)
class Chart:
    """A chart as its template draws it. Horizontal positions are CSS percentages, vertical ones pixels.

    A line across the chart and a tick below it are a position and a text.
    """

    name: str
    title: str
    column: str
    bars: list[Bar]
    lines: list[tuple[str, str]]
    ticks: list[tuple[str, str]]
    total: Counts
    delay: str
    delivery: str
    """How many reached a phone and were read; empty if the gateway reported none."""
    height: int = HEIGHT
    bottom: int = _BOTTOM

    @property
    def words(self) -> str:
        words = gettext("%(title)s: %(sent)s sent, %(failed)s failed, %(unknown)s in doubt.")
        return words % {"title": self.title, **self.total.shown}


def chart_of_hours(figures: Figures) -> Chart:
    """Return the chart of `Statistics.last_hours()`, with a label every six hours."""

    def name(start: date) -> str:
        return str(formats.date_format(_local(start), "TIME_FORMAT"))

    def tick(start: date) -> str:
        local = _local(start)
        return name(start) if local.hour % 6 == 0 else ""

    return _chart("hours", gettext("The last 24 hours"), gettext("From"), figures, name, tick)


def chart_of_days(figures: Figures) -> Chart:
    """Return the chart of `Statistics.last_days()`, with a label every seven days, the last one at today."""
    days = list(figures.by_start)

    def name(start: date) -> str:
        return str(formats.date_format(start, "j M"))

    def tick(start: date) -> str:
        return name(start) if (days[-1] - start).days % 7 == 0 else ""

    return _chart("days", gettext("The last 30 days"), gettext("Day"), figures, name, tick)


def top_of_scale(highest: int) -> int:
    """Return the number at the top of the axis: round, at least `highest`, and even because its half is labelled."""
    for top in (2, 4, 6, 8):
        if top >= highest:
            return top
    tens = 10
    while True:
        for tenths in (10, 12, 16, 20, 30, 40, 50, 60, 80):
            if tens * tenths // 10 >= highest:
                return tens * tenths // 10
        tens *= 10


def _chart(
    name: str,
    title: str,
    column: str,
    figures: Figures,
    name_of: Callable[[date], str],
    tick_of: Callable[[date], str],
) -> Chart:
    top = top_of_scale(max(counts.total for counts in figures.by_start.values()))
    slot = 100 / len(figures.by_start)
    bars, ticks = [], []
    for index, (start, counts) in enumerate(figures.by_start.items()):
        x = index * slot + slot * (1 - _BAR_SHARE) / 2
        bars.append(Bar(_percent(x), _percent(slot * _BAR_SHARE), name_of(start), counts, _pieces(counts, top)))
        if words := tick_of(start):
            ticks.append((_percent((index + 0.5) * slot), words))
    lines = [(_pixels(_height(top - value, top) + _TOP), grouped(value)) for value in (0, top // 2, top)]
    delay = delay_words(figures.median, figures.percentile_95)
    return Chart(name, title, column, bars, lines, ticks, figures.total, delay, delivery_words(figures.total))


def delivery_words(total: Counts) -> str:
    """Return a sentence about how many messages reached a phone and were read; empty if no delivery was reported."""
    if not total.delivered:
        return ""
    return gettext("Of those sent, %(delivered)s reached a phone and %(read)s were read.") % total.shown


def delay_words(median: float | None, percentile_95: float | None) -> str:
    """Return a sentence about how long messages waited to be sent; empty if none were sent."""
    if median is None or percentile_95 is None:
        return ""
    return gettext("Time to send: half within %(median)s, 95%% within %(percentile)s.") % {
        "median": _delay(median),
        "percentile": _delay(percentile_95),
    }


def _delay(seconds: float) -> str:
    if seconds == math.inf:
        return gettext("more than %(time)s") % {"time": duration(HISTOGRAM_SECONDS[-1])}
    return gettext("1 s") if seconds <= 1 else duration(seconds)


def _pieces(counts: Counts, top: int) -> list[tuple[str, str, str]]:
    pieces = []
    y = float(_BOTTOM)
    for kind in KINDS:
        count = getattr(counts, kind)
        if count:
            height = max(_height(count, top), _MIN_HEIGHT)
            y -= height
            pieces.append((kind, _pixels(y), _pixels(height)))
    return pieces


def _height(count: int, top: int) -> float:
    return (_BOTTOM - _TOP) * count / top


def _local(start: date) -> datetime:
    return timezone.localtime(start) if isinstance(start, datetime) else datetime.combine(start, datetime.min.time())


def _percent(value: float) -> str:
    return f"{value:.3f}%"


def _pixels(value: float) -> str:
    return f"{value:.1f}"
