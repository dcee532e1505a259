"""How the dashboard says numbers and times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.utils import formats
from django.utils.translation import gettext, ngettext

from ..paginator import MOST_COUNTED


@dataclass(frozen=True)
class Bounded:
    """A count that stops at a limit; above it, it reads `10,000+`."""

    count: int
    is_more: bool = False

    def __str__(self) -> str:
        return number(self.count) + ("+" if self.is_more else "")

    def __bool__(self) -> bool:
        return self.count > 0


def bounded(counted: int, most: int = MOST_COUNTED) -> Bounded:
    """What was counted up to `most` + 1."""
    return Bounded(min(counted, most), counted > most)


def count(rows: QuerySet[Any], most: int = MOST_COUNTED) -> Bounded:
    """How many there are, counted no further than `most`."""
    return bounded(rows.order_by().values("pk")[: most + 1].count(), most)


def number(value: int) -> str:
    return str(formats.number_format(value, force_grouping=True))


def span(seconds: float) -> str:
    """A duration in the largest unit that fits: `45 s`, `12 min`, `3 h`, `2 days`."""
    if seconds < 120:
        return gettext("%(count)s s") % {"count": number(max(0, round(seconds)))}
    if seconds < 7200:
        return gettext("%(count)s min") % {"count": number(round(seconds / 60))}
    if seconds < 172_800:
        return gettext("%(count)s h") % {"count": number(round(seconds / 3600))}
    days = round(seconds / 86_400)
    return ngettext("%(count)s day", "%(count)s days", days) % {"count": number(days)}
