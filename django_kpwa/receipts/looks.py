"""The regular search ("look") for missing receipts: once a day for yesterday, once an hour since the last search.

Beat, `kpwa run` and cron may all call `look_regularly()` at any time: a row for each class ensures that exactly one
process searches. The result is stored for the dashboard and for `health`, which notifies people.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta

from django.utils import timezone

from ..models import ReceiptLook
from ..store.looks import claim_look, forget_looks, record_look
from ..words import Fate
from .base import Registration
from .missing import GRACE, Found, classes, look_for_missing

EVERY_SECONDS = 3300.0
"""Minimum seconds between two looks at a class. Beat and `kpwa run` look once an hour; this is somewhat less."""
OVERLAP = timedelta(minutes=15)
"""Overlap of a look with the one before it, because a sale may be committed long after it happened."""
_FORGET_SECONDS = 7 * 86_400.0


def look_regularly(*, should_stop: Callable[[], bool] = lambda: False) -> int:
    """Look at each class that is due, unless another process does. Returns the number of classes.

    - A look begins where the last one ended. As long as receipts are missing, it begins where those were found, so that
      they are not forgotten.
    - Once a day it begins with yesterday. It never goes further back.
    - If `should_stop` ends a look, it is stored as incomplete, and the next one begins where it began.
    """
    looked = 0
    registrations = classes()
    for registration in registrations:
        if should_stop():
            break
        row = claim_look(registration.label, EVERY_SECONDS)
        if row is not None:
            _look(registration, row, should_stop)
            looked += 1
    if looked:
        forget_looks(_FORGET_SECONDS)
    return looked


def look_again(registration: Registration, *, should_stop: Callable[[], bool] = lambda: False) -> None:
    """Repeat the look at the period in which receipts were missing, after a person has sent them.

    If `should_stop` ends it, nothing is stored, because the next regular look does the same.
    """
    row = ReceiptLook.objects.filter(receipt=registration.label).first()
    if row is None or not row.has_gap or row.since is None or row.until is None:
        return
    found = look_for_missing(registration, row.since, row.until, should_stop=should_stop)
    if found.is_complete or found.error:
        record_look(registration.label, _stored(found))


def last_looks() -> list[tuple[Registration, ReceiptLook]]:
    """Return each class that was looked at, with the result of its last look, in the order of registration."""
    registrations = classes()
    if not registrations:
        return []
    rows = ReceiptLook.objects.in_bulk([registration.label for registration in registrations])
    known = ((registration, rows.get(registration.label)) for registration in registrations)
    return [(registration, row) for registration, row in known if row is not None and row.until is not None]


def _look(registration: Registration, row: ReceiptLook, should_stop: Callable[[], bool]) -> None:
    until = timezone.now() - GRACE
    today = timezone.localdate(until, timezone.get_default_timezone())
    yesterday = _midnight(today - timedelta(days=1))
    if row.day != today or row.since is None or row.until is None:
        since = yesterday
    else:
        since = max(yesterday, row.since if row.has_gap or not row.is_complete else row.until - OVERLAP)
    found = look_for_missing(registration, min(since, until), until, should_stop=should_stop)
    day = {"day": today} if since == yesterday and found.is_complete else {}
    record_look(registration.label, _stored(found) | day)


def _stored(found: Found) -> dict[str, object]:
    return {
        "since": found.since,
        "until": found.until,
        "counts": {fate.value: count for fate, count in found.counts.items() if count},
        "never_queued": found.counts[Fate.NEVER_QUEUED],
        "unclear": found.counts[Fate.RAISED],
        "error": found.error,
        "is_complete": found.is_complete,
    }


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min), timezone.get_default_timezone())
