"""Pages of a long table that cost the same however long it is: rows are counted up to a limit, and no further."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.paginator import Paginator
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

    @property
    def is_cut(self) -> bool:
        return self._counted > MOST_COUNTED

    @cached_property
    def _counted(self) -> int:
        rows: Any = self.object_list
        if not isinstance(rows, QuerySet):
            return len(rows)
        # Without its order, which a count does not need and a database may sort for.
        return rows.order_by().values("pk")[: MOST_COUNTED + 1].count()
