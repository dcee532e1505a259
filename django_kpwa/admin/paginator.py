"""Pages of a long table that cost the same however long it is: rows are counted up to a limit, and no further."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.paginator import Page, Paginator
from django.db.models import QuerySet
from django.utils.functional import cached_property

MOST_COUNTED = 10_000
"""So many rows are counted and paged through; whoever looks for older ones narrows the list."""


if TYPE_CHECKING:
    _Paginator = Paginator[Any]
else:
    _Paginator = Paginator


class BoundedPaginator(_Paginator):
    """Knows at most `MOST_COUNTED` rows of its queryset; `is_cut` says that there are more."""

    @cached_property
    def count(self) -> int:
        return min(self._counted, MOST_COUNTED)

    def page(self, number: Any) -> Page[Any]:
        """Rows before a page are skipped by their keys alone: joined to what the list shows, they are read whole."""
        page = super().page(number)
        rows: Any = page.object_list
        if isinstance(rows, QuerySet) and page.has_previous():
            whole: Any = self.object_list
            page.object_list = whole.filter(pk__in=list(rows.values_list("pk", flat=True)))
        return page

    @property
    def is_cut(self) -> bool:
        return self._counted > MOST_COUNTED

    @cached_property
    def _counted(self) -> int:
        rows: Any = self.object_list
        if not isinstance(rows, QuerySet):
            return len(rows)
        # In the order of the list, by the field that an index ends with: without it, PostgreSQL may count in the order
        # in which rows were stored, past all of those that do not match.
        order = [name for name in rows.query.order_by[:1] if isinstance(name, str)]
        columns = [name.lstrip("-") for name in order] or ["pk"]
        return rows.order_by(*order).values(*columns)[: MOST_COUNTED + 1].count()
