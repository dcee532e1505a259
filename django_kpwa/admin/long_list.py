"""A list that costs the same with a million rows: bounded pages, no facets, and only filters that an index answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib.admin import ShowFacets
from django.contrib.admin.views.main import ChangeList
from django.http import HttpRequest

from .dates import Dates, dates_of
from .paginator import BoundedPaginator
from .readonly import ReadOnlyModelAdmin


class LongChangeList(ChangeList):
    """`kpwa_dates` stands above the list; `kpwa_most_listed` says where it ends."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list: Any = list(self.result_list)
        admin: Any = self.model_admin
        admin.prepare_page(request, self.result_list)

    @property
    def kpwa_dates(self) -> Dates | None:
        return dates_of(self)

    @property
    def kpwa_most_listed(self) -> int | None:
        """How many of the newest are listed, where there are more."""
        return self.paginator.count if self.paginator.is_cut else None


class LongListAdmin(ReadOnlyModelAdmin):
    """Records by the time of their `date_hierarchy`, an indexed field, newest first."""

    show_facets = ShowFacets.NEVER  # they count the table once for every choice
    paginator = BoundedPaginator
    change_list_template = "admin/django_kpwa/change_list.html"
    filtered_by: Sequence[str] = ()
    """The fields that a list's address may narrow it by; each begins an index."""

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[LongChangeList]:
        return LongChangeList

    def prepare_page(self, request: HttpRequest, records: Sequence[Any]) -> None:
        """Give the records of a page what their rows show, for all of them at once."""

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        # Django lets an address ask for any lookup on a field of the model: `text__icontains` reads the whole table.
        name = lookup.removesuffix("__exact").removesuffix("__id").removesuffix("__in").removesuffix("__isnull")
        parameters = {getattr(spec, "parameter_name", None) for spec in self.list_filter}
        dates = {f"{self.date_hierarchy}__{part}" for part in ("year", "month", "day")}
        return name in {*self.filtered_by, *parameters, *dates}
