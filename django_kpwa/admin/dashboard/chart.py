"""Figures as a chart of stacked bars, drawn by the server: widths in per cent, heights in pixels, words for everything.

It fills whatever width it has without its letters growing or shrinking. A kind of bar is told by its pattern as well
as by its colour, and everything that is drawn stands in a table too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime

from django.utils import formats, timezone
from django.utils.translation import gettext

from ...counts import grouped
from .figures import KINDS, Counts, Delay, Figures
from .words import span

HEIGHT = 200
_TOP = 14
_BOTTOM = 168
_BAR_SHARE = 0.72
_LEAST_SEEN = 3.0
"""Pixels of a bar that would otherwise be too flat to be seen: one failure among a thousand."""


@dataclass(frozen=True)
class Piece:
    kind: str
    y: str
    height: str


@dataclass(frozen=True)
class Bar:
    """One hour or day; `name` and `counts` are its row of the table."""

    x: str
    width: str
    name: str
    counts: Counts
    pieces: tuple[Piece, ...]

    @property
    def words(self) -> str:
        words = gettext("%(when)s: %(sent)s sent, %(failed)s failed, %(unknown)s in doubt")
        return words % {"when": self.name, **self.counts.shown}


@dataclass(frozen=True)
class Line:
    """A line across, or a word below: where it is, and what it says."""

    at: str
    words: str


@dataclass(frozen=True)
class Chart:
    name: str
    title: str
    column: str
    bars: tuple[Bar, ...]
    lines: tuple[Line, ...]
    ticks: tuple[Line, ...]
    total: Counts
    delay: str
    height: int = HEIGHT
    bottom: int = _BOTTOM

    @property
    def words(self) -> str:
        words = gettext("%(title)s: %(sent)s sent, %(failed)s failed, %(unknown)s in doubt.")
        return words % {"title": self.title, **self.total.shown}


def chart_of_hours(figures: Figures) -> Chart:
    def name(start: date) -> str:
        return str(formats.date_format(_local(start), "TIME_FORMAT"))

    def tick(start: date) -> str:
        local = _local(start)
        return name(start) if local.hour % 6 == 0 else ""

    return _chart("hours", gettext("The last 24 hours"), gettext("From"), figures, name, tick)


def chart_of_days(figures: Figures) -> Chart:
    days = list(figures.by_start)

    def name(start: date) -> str:
        return str(formats.date_format(start, "MONTH_DAY_FORMAT"))

    def tick(start: date) -> str:
        return str(formats.date_format(start, "j M")) if (days[-1] - start).days % 7 == 0 else ""

    return _chart("days", gettext("The last 30 days"), gettext("Day"), figures, name, tick)


def top_of_scale(most: int) -> int:
    """The number at the top of the axis: even, round, and not below `most`."""
    for top in (2, 4, 6, 8):
        if top >= most:
            return top
    tens = 10
    while True:
        for tenths in (10, 12, 16, 20, 30, 40, 50, 60, 80):
            if tens * tenths // 10 >= most:
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
            ticks.append(Line(_percent((index + 0.5) * slot), words))
    lines = [Line(_pixels(_height(top - value, top) + _TOP), grouped(value)) for value in (0, top // 2, top)]
    delay = delay_words(figures.median, figures.percentile_95)
    return Chart(name, title, column, tuple(bars), tuple(lines), tuple(ticks), figures.total, delay)


def delay_words(median: Delay | None, percentile_95: Delay | None) -> str:
    """How long messages waited, in a sentence; empty where none was sent."""
    if median is None or percentile_95 is None:
        return ""
    return gettext("From queued to sent: half of them within %(median)s, 95%% within %(percentile)s.") % {
        "median": _delay(median),
        "percentile": _delay(percentile_95),
    }


def _delay(delay: Delay) -> str:
    if delay.is_more:
        return gettext("more than %(time)s") % {"time": span(delay.seconds)}
    return gettext("1 s") if delay.seconds <= 1 else span(delay.seconds)


def _pieces(counts: Counts, top: int) -> tuple[Piece, ...]:
    pieces: list[Piece] = []
    y = float(_BOTTOM)
    for kind in KINDS:
        count = getattr(counts, kind)
        if count:
            height = max(_height(count, top), _LEAST_SEEN)
            y -= height
            pieces.append(Piece(kind, _pixels(y), _pixels(height)))
    return tuple(pieces)


def _height(count: int, top: int) -> float:
    return (_BOTTOM - _TOP) * count / top


def _local(start: date) -> datetime:
    return timezone.localtime(start) if isinstance(start, datetime) else datetime.combine(start, datetime.min.time())


def _percent(value: float) -> str:
    return f"{value:.3f}%"


def _pixels(value: float) -> str:
    return f"{value:.1f}"
