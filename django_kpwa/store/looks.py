"""Decides which process searches for missing receipts of a class, and stores the result of the last search."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from ..models import ReceiptLook, in_seconds

_LONG_AGO = datetime(2000, 1, 1, tzinfo=timezone.utc)


def claim_look(receipt: str, every_seconds: float) -> ReceiptLook | None:
    """Return the row of the class `receipt` if this process has to search now.

    Returns None if a process began to search less than `every_seconds` ago.
    """
    rows = ReceiptLook.objects.filter(receipt=receipt)
    row = rows.annotate(is_due_since=in_seconds(-every_seconds)).first()
    if row is None:
        ReceiptLook.objects.bulk_create([ReceiptLook(receipt=receipt, begun_at=_LONG_AGO)], ignore_conflicts=True)
    elif row.begun_at > row.is_due_since:
        return None
    claimed = rows.filter(begun_at__lte=in_seconds(-every_seconds)).update(begun_at=in_seconds(0))
    return rows.first() if claimed else None


def record_look(receipt: str, found: Mapping[str, Any]) -> None:
    """Store the result of a search for missing receipts of the class `receipt`; `found`: columns of `ReceiptLook`."""
    ReceiptLook.objects.filter(receipt=receipt).update(**found)


def forget_looks(after_seconds: float) -> None:
    """Delete the rows of classes that were not searched for `after_seconds`: they are no longer registered."""
    ReceiptLook.objects.filter(begun_at__lt=in_seconds(-after_seconds)).delete()
