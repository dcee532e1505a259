"""Reads the gateway's own times: Unix time (seconds, or finer by its number of digits) or ISO 8601 with an offset."""

from __future__ import annotations

import re
from datetime import datetime, timezone

from django.utils.dateparse import parse_datetime

_EPOCH = re.compile(r"([0-9]{9,10})(?:\.[0-9]{1,9}|[0-9]{3}|[0-9]{6}|[0-9]{9})?")


def time_of(written: str) -> datetime | None:
    """The time that `written` gives, as an aware datetime; None if it is not a time or does not name its zone."""
    written = written.strip()
    epoch = _EPOCH.fullmatch(written)
    try:
        if epoch is not None:
            digits = written.partition(".")[0]
            return datetime.fromtimestamp(int(digits[:10]), tz=timezone.utc)
        found = parse_datetime(written) if len(written) <= 64 else None
    except (ValueError, OverflowError):
        return None
    return found if found is not None and found.tzinfo is not None else None
