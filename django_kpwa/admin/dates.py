"""Finding the rows of a long list by their day: a filter beside it, and the way by year, month and day above it.

Each reads a range of the index of the list's date field.
"""

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


class WhenFilter(SimpleListFilter):
    """Days of the site's zone, by the `date_hierarchy` of the list."""

    title = _("when")
    parameter_name = "when"

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: ModelAdmin[Any]) -> None:
        super().__init__(request, params, model, model_admin)
        self._field = str(model_admin.date_hierarchy)

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
        queryset = queryset.filter(**{f"{self._field}__gte": _midnight(today - timedelta(days=days_back))})
        if self.value() == "yesterday":
            queryset = queryset.filter(**{f"{self._field}__lt": _midnight(today)})
        return queryset


@dataclass(frozen=True)
class Choice:
    title: str
    link: str = ""


@dataclass(frozen=True)
class Dates:
    """What stands above the list: a step back, and the years, months or days that there may be rows of."""

    choices: list[Choice]
    back: Choice | None = None
    show: bool = True


def dates_of(changelist: Any) -> Dates | None:
    """The years, months or days to choose from, from the first and the last row alone.

    Django's own date hierarchy groups every row by its day to know which days have any.
    """
    field = str(changelist.date_hierarchy)
    ends = _ends(changelist.model._default_manager.using(changelist.root_queryset.db), field)
    if ends is None:
        return None
    first, last = ends
    year, month, day = (_number(changelist.params.get(f"{field}__{part}")) for part in ("year", "month", "day"))
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


def _ends(rows: QuerySet[Any], field: str) -> tuple[date, date] | None:
    times = rows.values_list(field, flat=True)
    first, last = times.order_by(field).first(), times.order_by(f"-{field}").first()
    if first is None or last is None:
        return None
    return timezone.localdate(first), timezone.localdate(last)


def _link(changelist: Any, *parts: int) -> str:
    field = changelist.date_hierarchy
    chosen = dict(zip((f"{field}__year", f"{field}__month", f"{field}__day"), parts, strict=False))
    return str(changelist.get_query_string(chosen, [f"{field}__"]))


def _month_name(year: int, month: int) -> str:
    return capfirst(formats.date_format(date(year, month, 1), "YEAR_MONTH_FORMAT"))


def _number(value: str | None) -> int | None:
    return int(value) if value and value.isdecimal() and len(value) <= 4 else None


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))
