"""Filters beside the list of messages, and the way by year, month and day above it; each reads a range of an index."""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from django.contrib.admin import ModelAdmin, SimpleListFilter
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import formats, timezone
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ...models import OutboundMessage, Status


class NeedsDecisionFilter(SimpleListFilter):
    title = _("needs a decision")
    parameter_name = "needs_decision"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, Any]]:
        return [("yes", _("yes"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "yes":
            return queryset.filter(status=Status.UNKNOWN, dismissed_at=None)
        return queryset


class WhenFilter(SimpleListFilter):
    """Days of the site's zone."""

    title = _("when")
    parameter_name = "when"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, Any]]:
        return [
            ("today", _("today")),
            ("yesterday", _("yesterday")),
            ("7", _("the last 7 days")),
            ("30", _("the last 30 days")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        today = timezone.localdate()
        days_back = {"today": 0, "yesterday": 1, "7": 6, "30": 29}.get(self.value() or "")
        if days_back is None:
            return queryset
        queryset = queryset.filter(created_at__gte=_midnight(today - timedelta(days=days_back)))
        return queryset.filter(created_at__lt=_midnight(today)) if self.value() == "yesterday" else queryset


@dataclass(frozen=True)
class Choice:
    title: str
    link: str = ""


@dataclass(frozen=True)
class Dates:
    """What stands above the list: a step back, and the years, months or days that there may be messages of."""

    choices: list[Choice]
    back: Choice | None = None
    show: bool = True


def dates_of(changelist: Any) -> Dates | None:
    """The years, months or days to choose from, from the first and the last message alone.

    Django's own date hierarchy groups every row by its day to know which days have any.
    """
    ends = _ends(changelist.root_queryset.db)
    if ends is None:
        return None
    first, last = ends
    year, month, day = (_number(changelist.params.get(f"created_at__{part}")) for part in ("year", "month", "day"))
    try:
        if year and month:
            return _days(changelist, year, month, day, first, last)
    except ValueError:
        return None
    if year:
        months = [
            Choice(_month_name(year, number), _link(changelist, year, number))
            for number in range(1, 13)
            if (first.year, first.month) <= (year, number) <= (last.year, last.month)
        ]
        return Dates(months, back=Choice(gettext("All dates"), _link(changelist)))
    return Dates([Choice(str(number), _link(changelist, number)) for number in range(first.year, last.year + 1)])


def _days(changelist: Any, year: int, month: int, day: int | None, first: date, last: date) -> Dates:
    if day:
        shown = formats.date_format(date(year, month, day), "MONTH_DAY_FORMAT")
        return Dates([Choice(capfirst(shown))], back=Choice(_month_name(year, month), _link(changelist, year, month)))
    days = [
        Choice(formats.date_format(each, "MONTH_DAY_FORMAT"), _link(changelist, year, month, each.day))
        for each in _days_of(year, month)
        if first <= each <= last
    ]
    return Dates(days, back=Choice(str(year), _link(changelist, year)))


def _days_of(year: int, month: int) -> Iterator[date]:
    for number in range(1, calendar.monthrange(year, month)[1] + 1):
        yield date(year, month, number)


def _ends(using: str) -> tuple[date, date] | None:
    times = OutboundMessage.objects.using(using).values_list("created_at", flat=True)
    first, last = times.order_by("created_at").first(), times.order_by("-created_at").first()
    if first is None or last is None:
        return None
    return timezone.localdate(first), timezone.localdate(last)


def _link(changelist: Any, *parts: int) -> str:
    chosen = dict(zip(("created_at__year", "created_at__month", "created_at__day"), parts, strict=False))
    return str(changelist.get_query_string(chosen, ["created_at__"]))


def _month_name(year: int, month: int) -> str:
    return capfirst(formats.date_format(date(year, month, 1), "YEAR_MONTH_FORMAT"))


def _number(value: str | None) -> int | None:
    return int(value) if value and value.isdecimal() and len(value) <= 4 else None


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))
