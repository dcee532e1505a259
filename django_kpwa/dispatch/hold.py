"""The policy: whether a message whose turn has come may go out now, or is put off. Pure functions, without a database.

A live message, which a customer waits for, is put off only while WhatsApp restricts the number and would reject it.
Every hold ends by itself: the message is due again within at most a week, and is then checked anew.
"""

from __future__ import annotations

from datetime import datetime, time, timedelta, timezone

from ..conf import LATE_AFTER_SECONDS, Settings
from ..models import HoldReason, Priority
from ..store.results import UNRESTRICTED, Facts, Hold, Standing

LEFT_OVER_AT = time(19)
"""Time of day, in the license's time zone, at which messages held for the daily limit use what is left of the next
day's limit. If it lies in the quiet hours, `BEFORE_QUIET` before these begin: the highest limit takes half an hour to
send."""
BEFORE_QUIET = timedelta(hours=2)


def why_not_now(facts: Facts, now: datetime, conf: Settings, standing: Standing = UNRESTRICTED) -> Hold | None:
    """Return why the message must not go out now, and until when; None if it may.

    `now`: `facts.now` in the license's time zone.
    """
    if standing.is_cold and standing.until is not None and standing.until > facts.now:
        return Hold(HoldReason.RESTRICTED, standing.until)
    is_live = facts.priority < Priority.BULK and facts.late_seconds <= LATE_AFTER_SECONDS
    if is_live or conf.quiet_hours is None:
        return None
    until = _end_of_quiet(now, *conf.quiet_hours)
    return None if until is None else Hold(HoldReason.QUIET_HOURS, until)


def until_tomorrow(now: datetime, conf: Settings) -> Hold:
    """Return the hold of a message to a new customer when the daily limit is reached; `now`: in its license's zone.

    It ends in the evening of the next day, and uses what is left of that day's limit. Released at midnight, it would
    take the places of that day's new customers, who stand at the counter and wait for a receipt; a message that is a
    day late can wait some hours more.
    """
    tomorrow = now.date() + timedelta(1)
    evening = datetime.combine(tomorrow, LEFT_OVER_AT, now.tzinfo)
    if conf.quiet_hours is not None and _end_of_quiet(evening, *conf.quiet_hours) is not None:
        evening = datetime.combine(tomorrow, conf.quiet_hours[0], now.tzinfo) - BEFORE_QUIET
    midnight = datetime.combine(tomorrow, time(), now.tzinfo)
    return Hold(HoldReason.COLD_LIMIT, max(evening, midnight).astimezone(timezone.utc))


def _end_of_quiet(now: datetime, begins: time, ends: time) -> datetime | None:
    """Return the end, in UTC, of the quiet hours from `begins` to `ends` that `now` lies in; None if it does not."""
    clock = now.time()
    if begins < ends:
        is_quiet, days = begins <= clock < ends, 0
    else:
        is_quiet, days = clock >= begins or clock < ends, int(clock >= begins)
    if not is_quiet:
        return None
    # When clocks are put back, the end occurs twice, and the first occurrence may have passed. Compared in UTC, because
    # Python compares datetimes of one time zone by their wall-clock time.
    end, present = datetime.combine(now.date() + timedelta(days), ends, now.tzinfo), now.astimezone(timezone.utc)
    times = (end, end.replace(fold=1), datetime.combine(end.date() + timedelta(1), ends, now.tzinfo))
    return next(moment for each in times if (moment := each.astimezone(timezone.utc)) > present)
