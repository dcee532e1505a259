"""Change lists that stay cheap with a million rows: bounded paging, no facets, and only filters that an index serves.

Rows can be narrowed down by date: with a filter beside the list, and by year, month and day above it. Both read a range
of the index on the list's date field.
"""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from django.contrib.admin import ModelAdmin, RelatedFieldListFilter, ShowFacets, SimpleListFilter
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Page, Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import formats, timezone
from django.utils.functional import Promise, cached_property
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..counts import MAX_COUNTED
from ..models import License
from .base import ReadOnlyAdmin
from .buttons import ButtonsAdmin

if TYPE_CHECKING:
    _Paginator = Paginator[Any]
else:
    _Paginator = Paginator


class BoundedPaginator(_Paginator):
    """Pages through at most the first `MAX_LISTED` rows of its queryset; `is_cut` is True if there are more."""

    MAX_LISTED = MAX_COUNTED

    @cached_property
    def count(self) -> int:
        return min(self._counted, self.MAX_LISTED)

    def page(self, number: Any) -> Page[Any]:
        """Return a page; the rows before it are skipped by primary key alone.

        With OFFSET on the list's own query, the database would read and join all rows before the page in full.
        """
        page = super().page(number)
        rows: Any = page.object_list
        if isinstance(rows, QuerySet) and page.has_previous():
            whole: Any = self.object_list
            page.object_list = whole.filter(pk__in=list(rows.values_list("pk", flat=True)))
        return page

    @property
    def is_cut(self) -> bool:
        return self._counted > self.MAX_LISTED

    @cached_property
    def _counted(self) -> int:
        rows: Any = self.object_list
        if not isinstance(rows, QuerySet):
            return len(rows)
        # Count in the order of the list, which an index serves. Otherwise PostgreSQL may scan rows in the order in
        # which they were stored, and read all those that do not match, too.
        order = [name for name in rows.query.order_by[:1] if isinstance(name, str)]
        columns = [name.lstrip("-") for name in order] or ["pk"]
        return rows.order_by(*order).values(*columns)[: self.MAX_LISTED + 1].count()


class LongChangeList(ChangeList):
    """Adds what our template shows: `kpwa_dates` above the list, and `kpwa_max_listed` at the end of a cut list."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list: Any = list(self.result_list)
        model_admin: Any = self.model_admin
        model_admin.prepare_page(request, self.result_list)

    @property
    def kpwa_dates(self) -> dict[str, Any] | None:
        return dates_of(self)

    @property
    def kpwa_max_listed(self) -> int | None:
        """The number of newest rows that can be listed; None if all rows can be."""
        return self.paginator.count if self.paginator.is_cut else None


class LongListAdmin(ReadOnlyAdmin, ButtonsAdmin):
    """Base of the lists of our records, newest first. `date_hierarchy` of a subclass has to be an indexed field."""

    actions: Sequence[Any] | None = None
    list_per_page = 50
    show_full_result_count = False  # it would count the whole table
    show_facets = ShowFacets.NEVER  # they count the table once for every choice
    paginator = BoundedPaginator
    change_list_template = "admin/django_kpwa/change_list.html"
    when_empty: str | Promise = ""
    """What to do next, shown if the list has no rows at all."""
    filtered_by: Sequence[str] = ()
    """The fields that the URL's query may filter by. Each has to be the first column of an index."""

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[LongChangeList]:
        return LongChangeList

    def prepare_page(self, request: HttpRequest, records: Sequence[Any]) -> None:
        """Hook for subclasses: set what the list shows as attributes of a page's `records`, for all of them at once."""

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        # Django allows any lookup on a local field in the query string: `text__icontains` would read the whole table.
        name = lookup.removesuffix("__exact").removesuffix("__id").removesuffix("__in").removesuffix("__isnull")
        parameters = {getattr(spec, "parameter_name", None) for spec in self.list_filter}
        dates = {f"{self.date_hierarchy}__{part}" for part in ("year", "month", "day")}
        return name in {*self.filtered_by, *parameters, *dates}


class LicenseFilter(RelatedFieldListFilter):
    """Offers the first `MAX_OFFERED` licenses by name, and the chosen one; all licenses could be megabytes of HTML."""

    MAX_OFFERED = 100

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> list[Any]:
        licenses = License.objects.order_by("name").values_list("pk", "name")
        offered = list(licenses[: self.MAX_OFFERED])
        given: Any = self.lookup_val
        chosen = {str(pk) for pk in (given if isinstance(given, list) else [given])} - {str(pk) for pk, _ in offered}
        # The query string may contain anything; a longer number would overflow the database's bigint.
        numbers = [int(pk) for pk in chosen if pk.isascii() and pk.isdigit() and len(pk) < 19]
        return [*offered, *licenses.filter(pk__in=numbers)]


def has_several_licenses() -> bool:
    """True if a list has to say which license a row belongs to."""
    return License.objects.order_by().values("pk")[:2].count() > 1


class WhenFilter(SimpleListFilter):
    """Filters by days in the site's time zone, on the list's `date_hierarchy`."""

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


Choice = dict[str, str]
"""A date above the list, as `title` and `link`; without a link it is the chosen one."""


def dates_of(changelist: Any) -> dict[str, Any] | None:
    """Return the years, months or days between the first and the last row (`choices`), and a link one level `back`.

    None if there are no rows.

    Django's own date hierarchy offers only dates that have rows, but groups the whole table to find them.
    """
    field = str(changelist.date_hierarchy)
    ends = _ends(changelist.model._default_manager.all(), field)
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
            _choice(changelist, _month_name(year, number), year, number)
            for number in range(1, 13)
            if (first.year, first.month) <= (year, number) <= (last.year, last.month)
        ]
        return {"choices": months, "back": _choice(changelist, gettext("All dates"))}
    return {"choices": [_choice(changelist, str(number), number) for number in range(first.year, last.year + 1)]}


def _days(changelist: Any, year: int, month: int, day: int | None, first: date, last: date) -> dict[str, Any]:
    if day:
        shown = formats.date_format(date(year, month, day), "MONTH_DAY_FORMAT")
        back = _choice(changelist, _month_name(year, month), year, month)
        return {"choices": [{"title": capfirst(shown), "link": ""}], "back": back}
    days = [
        _choice(changelist, formats.date_format(each, "MONTH_DAY_FORMAT"), year, month, each.day)
        for each in (date(year, month, number) for number in range(1, calendar.monthrange(year, month)[1] + 1))
        if first <= each <= last
    ]
    return {"choices": days, "back": _choice(changelist, str(year), year)}


def _ends(rows: QuerySet[Any], field: str) -> tuple[date, date] | None:
    times = rows.values_list(field, flat=True)
    first, last = times.order_by(field).first(), times.order_by(f"-{field}").first()
    if first is None or last is None:
        return None
    return timezone.localdate(first), timezone.localdate(last)


def _choice(changelist: Any, title: str, *parts: int) -> Choice:
    field = changelist.date_hierarchy
    chosen = dict(zip((f"{field}__year", f"{field}__month", f"{field}__day"), parts, strict=False))
    return {"title": title, "link": str(changelist.get_query_string(chosen, [f"{field}__"]))}


def _month_name(year: int, month: int) -> str:
    return capfirst(formats.date_format(date(year, month, 1), "YEAR_MONTH_FORMAT"))


def _number(value: str | None) -> int | None:
    return int(value) if value and value.isdecimal() and len(value) <= 4 else None


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))
