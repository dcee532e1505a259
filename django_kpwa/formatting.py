"""Formats numbers, times and durations for people, in the active language and the site's time zone."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils import formats, timezone
from django.utils.translation import gettext, ngettext


def grouped(number: int) -> str:
    """Format `number` with thousands separators: `10,000`."""
    return str(formats.number_format(number, force_grouping=True))


def percent(share: float) -> str:
    """Format a share between 0 and 1 as a whole percentage: `97%`. Only exactly 1 is `100%`, and only 0 is `0%`."""
    rounded = round(100 * share)
    if 0 < share < 1:
        rounded = min(max(rounded, 1), 99)
    return f"{rounded}%"


def date_and_time(moment: datetime) -> str:
    return str(formats.date_format(timezone.localtime(moment), "SHORT_DATETIME_FORMAT"))


def short_time(moment: datetime, *, seconds: bool = False) -> str:
    """Format the time of day, with the date if it is not today. `seconds`: include the seconds, if it is today."""
    local = timezone.localtime(moment)
    if local.date() != timezone.localdate():
        return date_and_time(moment)
    return _to_the_second(local) if seconds else str(formats.date_format(local, "TIME_FORMAT"))


def coming_time(moment: datetime) -> str:
    """Format the time of day of a future moment, with the date if it is a day away or more."""
    local = timezone.localtime(moment)
    if moment - timezone.now() >= timedelta(days=1):
        return date_and_time(moment)
    return str(formats.date_format(local, "TIME_FORMAT"))


def coming_day(moment: datetime) -> str:
    """Format the time of day of a future moment, with the day of the week if it is not today: `Sunday 2 p.m.`.

    A moment that is a week away or more is shown with its date.
    """
    local = timezone.localtime(moment)
    days = (local.date() - timezone.localdate()).days
    if not 0 <= days < 7:
        return date_and_time(moment)
    at = str(formats.date_format(local, "TIME_FORMAT"))
    return f"{formats.date_format(local, 'l')} {at}" if days else at


def sentence(words: str) -> str:
    """Return the sentence `words` without a doubled full stop: English times already end with one (`3 a.m.`)."""
    return f"{words[:-2]}." if words.endswith("..") else words


def date_and_second(moment: datetime) -> str:
    """Format the date, and the time of day with its seconds."""
    local = timezone.localtime(moment)
    return f"{formats.date_format(local, 'SHORT_DATE_FORMAT')} {_to_the_second(local)}"


def _to_the_second(local: datetime) -> str:
    # None of Django's localised formats has seconds. They get the separator of hours and minutes: `14.25.09`.
    before, minutes, after = str(formats.get_format("TIME_FORMAT")).rpartition("i")
    if not minutes or before[-1:] not in (".", ":"):
        return f"{local:%H:%M:%S}"
    return str(formats.date_format(local, f"{before}i{before[-1]}s{after}"))


def duration(seconds: float) -> str:
    """Format a duration in the largest unit that fits: `45 s`, `12 min`, `3 h`, `2 days`."""
    if seconds < 120:
        return gettext("%(count)s s") % {"count": grouped(max(0, round(seconds)))}
    if seconds < 7200:
        return gettext("%(count)s min") % {"count": grouped(round(seconds / 60))}
    if seconds < 172_800:
        return gettext("%(count)s h") % {"count": grouped(round(seconds / 3600))}
    days = round(seconds / 86_400)
    return ngettext("%(count)s day", "%(count)s days", days) % {"count": grouped(days)}


def long_duration(seconds: float) -> str:
    """Format a duration in up to two units: `45 s`, `12 min`, `13 h 8 min`, `2 days 3 h`."""
    if seconds < 3600:
        return duration(seconds)
    if seconds < 172_800:
        hours, minutes = divmod(round(seconds / 60), 60)
        words = gettext("%(hours)s h %(minutes)s min") if minutes else gettext("%(count)s h")
        return words % {"hours": grouped(hours), "count": grouped(hours), "minutes": minutes}
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{duration(days * 86_400)} {duration(hours * 3600)}" if hours >= 2 else duration(seconds)
