"""How the dashboard says durations."""

from __future__ import annotations

from django.utils.translation import gettext, ngettext

from ..counts import grouped


def span(seconds: float) -> str:
    """A duration in the largest unit that fits: `45 s`, `12 min`, `3 h`, `2 days`."""
    if seconds < 120:
        return gettext("%(count)s s") % {"count": grouped(max(0, round(seconds)))}
    if seconds < 7200:
        return gettext("%(count)s min") % {"count": grouped(round(seconds / 60))}
    if seconds < 172_800:
        return gettext("%(count)s h") % {"count": grouped(round(seconds / 3600))}
    days = round(seconds / 86_400)
    return ngettext("%(count)s day", "%(count)s days", days) % {"count": grouped(days)}
