"""The policy: whether a message whose turn has come may go out now, or is put off. Pure functions, without a database.

Somebody waits for a live message, and it is put off only while WhatsApp restricts the number, which would turn it down.
Every hold ends by itself: the message is due again at a time that is at most a week away, and is then looked at anew.
"""

from __future__ import annotations

from datetime import datetime, time, timedelta, timezone

from ..conf import LATE_AFTER_SECONDS, Settings
from ..models import HoldReason, Priority
from ..store.results import UNRESTRICTED, Facts, Hold, Standing

LEFT_OVER_AT = time(19)
"""When, in the license's time zone, what was held for the day's limit takes what others have left of the next one. If
that lies in the quiet hours, it is `BEFORE_QUIET` before these begin: the highest limit takes half an hour to send."""
BEFORE_QUIET = timedelta(hours=2)


def why_not_now(facts: Facts, now: datetime, conf: Settings, standing: Standing = UNRESTRICTED) -> Hold | None:
    """Why the message must not go out now, and until when; None if it may.

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
    """A hold of a message to a new customer, when the day's limit is reached; `now`: in the license's time zone.

    It takes what the next day's new customers leave, in the evening: they stand at the counter and wait for a receipt,
    and one that is a day late may be some hours later. At the turn of the day it would take their places.
    """
    tomorrow = now.date() + timedelta(1)
    evening = datetime.combine(tomorrow, LEFT_OVER_AT, now.tzinfo)
    if conf.quiet_hours is not None and _end_of_quiet(evening, *conf.quiet_hours) is not None:
        evening = datetime.combine(tomorrow, conf.quiet_hours[0], now.tzinfo) - BEFORE_QUIET
    midnight = datetime.combine(tomorrow, time(), now.tzinfo)
    return Hold(HoldReason.COLD_LIMIT, max(evening, midnight).astimezone(timezone.utc))


def _end_of_quiet(now: datetime, begins: time, ends: time) -> datetime | None:
    """When the quiet hours from `begins` to `ends` that `now` lies in are over, in UTC; None if it lies in none."""
    clock = now.time()
    if begins < ends:
        is_quiet, days = begins <= clock < ends, 0
    else:
        is_quiet, days = clock >= begins or clock < ends, int(clock >= begins)
    if not is_quiet:
        return None
    # Where clocks are put back, the end comes twice, and its first time may have passed. Compared in UTC: datetimes of
    # one time zone are compared by what their clocks show.
    end, present = datetime.combine(now.date() + timedelta(days), ends, now.tzinfo), now.astimezone(timezone.utc)
    times = (end, end.replace(fold=1), datetime.combine(end.date() + timedelta(1), ends, now.tzinfo))
    return next(moment for each in times if (moment := each.astimezone(timezone.utc)) > present)
