"""Counts that stop at a limit, so that the cost of a page or a check does not grow with the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet

from .formatting import grouped

MAX_COUNTED = 10_000
"""The default limit of a count."""


@dataclass(frozen=True)
class BoundedCount:
    """A count up to a limit; shown as `10,000+` if there are more. False if it is 0."""

    number: int
    is_more: bool = False

    def __str__(self) -> str:
        return grouped(self.number) + ("+" if self.is_more else "")

    def __bool__(self) -> bool:
        return self.number > 0


def count_up_to(limit: int, rows: QuerySet[Any]) -> BoundedCount:
    """Count `rows`; the database stops at the first one beyond `limit`."""
    return bounded(limit, rows.order_by().values("pk")[: limit + 1].count())


def bounded(limit: int, counted: int) -> BoundedCount:
    """Return a `BoundedCount` of `counted`, a count that stopped at `limit` + 1."""
    return BoundedCount(min(counted, limit), counted > limit)
