"""The policy: whether a message whose turn has come is sent now, or is put off. Pure functions, without a database.

A live message, for which a customer waits, is put off only if WhatsApp restricts the number and would reject it. Every
hold ends by itself: the message is due again within a week at most, and is then checked anew.
"""

from __future__ import annotations

from datetime import datetime, time, timedelta, timezone

from ..conf import LATE_AFTER_SECONDS, Settings
from ..models import HoldReason, Priority
from ..store.results import UNRESTRICTED, Facts, Hold, Standing

LEFT_OVER_AT = time(19)
"""Time of day, in the license's time zone, at which messages that were held for the daily limit become due again, on
the next day. They use what is left of that day's limit. If the time lies in the quiet hours, they become due
`BEFORE_QUIET` before these begin, because sending the highest limit takes half an hour."""
BEFORE_QUIET = timedelta(hours=2)


def why_not_now(facts: Facts, now: datetime, conf: Settings, standing: Standing = UNRESTRICTED) -> Hold | None:
    """Return why the message must not be sent now, and until when; None if it may be sent.

    Args:
        facts: The message's columns, and the database's time.
        now: `facts.now` in the license's time zone.
        conf: The site's settings.
        standing: Whether a restriction of the number by WhatsApp applies to the message.
    """
    if standing.is_cold and standing.until is not None and standing.until > facts.now:
        return Hold(HoldReason.RESTRICTED, standing.until)
    is_live = facts.priority < Priority.BULK and facts.late_seconds <= LATE_AFTER_SECONDS
    if is_live or conf.quiet_hours is None:
        return None
    until = _end_of_quiet(now, *conf.quiet_hours)
    return None if until is None else Hold(HoldReason.QUIET_HOURS, until)


def until_tomorrow(now: datetime, conf: Settings) -> Hold:
    """Return the hold of a message to a new customer if the daily limit is reached.

    It ends in the evening of the next day (`LEFT_OVER_AT`). At midnight, the message would use up the limit for that
    day's new customers, who stand at the counter and wait for a receipt. A message that is a day late can wait some
    hours more.

    `now`: the present time in the license's time zone.
    """
    tomorrow = now.date() + timedelta(1)
    evening = datetime.combine(tomorrow, LEFT_OVER_AT, now.tzinfo)
    if conf.quiet_hours is not None and _end_of_quiet(evening, *conf.quiet_hours) is not None:
        evening = datetime.combine(tomorrow, conf.quiet_hours[0], now.tzinfo) - BEFORE_QUIET
    midnight = datetime.combine(tomorrow, time(), now.tzinfo)
    return Hold(HoldReason.COLD_LIMIT, max(evening, midnight).astimezone(timezone.utc))


def _end_of_quiet(now: datetime, begins: time, ends: time) -> datetime | None:
    """Return the end, in UTC, of the quiet hours from `begins` to `ends`, if `now` lies in them; else None."""
    clock = now.time()
    if begins < ends:
        is_quiet, days = begins <= clock < ends, 0
    else:
        is_quiet, days = clock >= begins or clock < ends, int(clock >= begins)
    if not is_quiet:
        return None
    # When clocks are put back, the end occurs twice, and the first occurrence may have passed. The times are compared
    # in UTC, because Python compares datetimes of the same time zone by their wall-clock time.
    end, present = datetime.combine(now.date() + timedelta(days), ends, now.tzinfo), now.astimezone(timezone.utc)
    times = (end, end.replace(fold=1), datetime.combine(end.date() + timedelta(1), ends, now.tzinfo))
    return next(moment for each in times if (moment := each.astimezone(timezone.utc)) > present)
