"""Missing receipts in the admin: a page that searches a period for them and sends them, and the dashboard's part, which
shows the result of the last periodic search.

A request searches and sends for a few seconds at most, and then shows how far it got; the command has no such limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.http import urlencode
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from ..formatting import date_and_time, grouped, short_time
from ..models import ReceiptLook, RegisteredReceipt
from ..receipts import Registration
from ..receipts.looks import last_looks, look_again
from ..receipts.missing import Found, classes, look_for_missing, send_missing
from ..words import FATES, NOTHING_TO_DO, Fate, Mark, Tone, Words
from .base import KpwaAdmin
from .buttons import confirmation
from .links import Links
from .receipt_preview import Objects

MAX_NAMED_ASKING = 10
"""Maximum number of objects that the confirmation page names."""

_DAY = timedelta(days=1)
SPANS: dict[str, tuple[Words, timedelta]] = {
    "hour": (_("the last hour"), timedelta(hours=1)),
    "day": (_("the last 24 hours"), _DAY),
    "two_days": (_("the last 2 days"), 2 * _DAY),
    "week": (_("the last 7 days"), 7 * _DAY),
}
_SPAN = "two_days"


@dataclass(frozen=True)
class Period:
    """The period that is searched. `name`: a key of `SPANS`, or empty for any other period."""

    since: datetime
    until: datetime
    name: str = ""

    @property
    def fields(self) -> dict[str, str]:
        """The period as URL parameters or form fields, so that exactly the period that was shown is sent."""
        return {"since": self.since.isoformat(), "until": self.until.isoformat()}

    @property
    def words(self) -> str:
        if self.name:
            return str(SPANS[self.name][0])
        times = {"since": date_and_time(self.since), "until": date_and_time(self.until)}
        return gettext("%(since)s to %(until)s") % times


def period_of(given: Any) -> Period:
    """Return the period of a GET or POST, by `since` and `until` or by `span`; by default the last two days."""
    since, until = _time(given.get("since", "")), _time(given.get("until", ""))
    if since is not None and until is not None and since < until:
        return Period(since, until)
    name = given.get("span", "")
    name = name if name in SPANS else _SPAN
    now = timezone.now()
    return Period(now - SPANS[name][1], now, name)


class MissingPage:
    """The page for one user. The caller checks the permissions to view receipts, and to add messages."""

    LOOK_SECONDS = 4.0
    SEND_SECONDS = 8.0
    """Seconds for which a request searches, and sends. It may exceed them, to finish an object or read a batch."""

    def __init__(self, admin: KpwaAdmin, request: HttpRequest) -> None:
        self._admin, self._request = admin, request

    def show(self) -> HttpResponse:
        """Search the period of the GET, and show the result."""
        period = period_of(self._request.GET)
        should_stop = _seconds_left(self.LOOK_SECONDS)
        context = {
            "title": gettext("Missing receipts"),
            "list_url": self._admin.url_of("changelist"),
            "spans": [(name, words, name == period.name) for name, (words, _) in SPANS.items()],
            "is_span": bool(period.name),
            "period": period.words,
            "fields": period.fields,
            "send_url": self._admin.url_of("send_missing"),
            "receipts": [self._shown(self._look(each, period, should_stop)) for each in classes()],
        }
        return self._admin.render_page(self._request, "registeredreceipt/missing.html", context)

    def send(self) -> HttpResponse:
        """Send the missing receipts of the class and period of the POST, after a confirmation.

        Raises `Http404` for an unknown class, and `PermissionDenied` for a user who may not view its objects.
        """
        posted = self._request.POST
        registration = next((each for each in classes() if each.label == posted.get("label")), None)
        if registration is None:
            raise Http404
        objects = self._objects_of(registration)
        objects.check_may_view()
        period = period_of(posted)
        back = f"{self._admin.url_of('missing')}?{urlencode(period.fields)}"
        if "confirmed" not in posted:
            return self._ask(registration, period, back)
        should_stop = _seconds_left(self.SEND_SECONDS)
        among = objects.visible()
        found = send_missing(registration, period.since, period.until, among=among, should_stop=should_stop)
        look_again(registration, should_stop=_seconds_left(self.LOOK_SECONDS))
        self._tell(found)
        return HttpResponseRedirect(back)

    def _ask(self, registration: Registration, period: Period, back: str) -> HttpResponse:
        should_stop = _seconds_left(self.LOOK_SECONDS)
        found = self._look(registration, period, should_stop)
        if not found.missing and found.is_complete:
            self._admin.message_user(self._request, gettext("No receipt is missing."), messages.SUCCESS)
            return HttpResponseRedirect(back)
        asked = gettext("%(receipt)s, %(period)s. Missing: %(count)s.")
        warnings = [
            asked % {"receipt": registration.name, "period": period.words, "count": grouped(found.missing)},
            gettext("Each is sent to its customer once. What cannot be made is listed under “Receipt failures”."),
        ]
        if not found.is_complete:
            warnings.append(gettext("There may be more: not all sales were looked at."))
        names = [each["name"] for each in self._named(found)]
        if len(names) > MAX_NAMED_ASKING:
            more = gettext("… and %(count)s more") % {"count": grouped(found.missing - MAX_NAMED_ASKING)}
            names = [*names[:MAX_NAMED_ASKING], more]
        fields = [("label", registration.label), *period.fields.items()]
        return confirmation(
            self._admin, self._request, gettext("Send the missing"), warnings, names, back=back, fields=fields
        )

    def _tell(self, found: Found) -> None:
        """Show the user the result, and record in the admin's log who sent the missing receipts."""

        def say(words: str, level: int) -> None:
            self._admin.message_user(self._request, words, level)

        if found.queued:
            words = ngettext("%(count)s receipt is queued.", "%(count)s receipts are queued.", found.queued)
            words %= {"count": grouped(found.queued)}
            say(words, messages.SUCCESS)
            about = ReceiptLook(receipt=found.registration.label)
            label = gettext("Send the missing")
            self._admin.log_change(self._request, about, f"{label}: {words}")
        if found.missing:
            words = gettext("%(count)s could not be made: see “Receipt failures”.")
            say(words % {"count": grouped(found.missing)}, messages.WARNING)
        if not found.is_complete:
            say(gettext("Time was up before all sales were looked at. Press again for the rest."), messages.WARNING)
        elif not found.queued and not found.missing:
            say(gettext("No receipt is missing."), messages.SUCCESS)

    def _look(self, registration: Registration, period: Period, should_stop: Callable[[], bool]) -> Found:
        """Search among the objects that the site's own admin shows to the user."""
        among = self._objects_of(registration).visible()
        return look_for_missing(registration, period.since, period.until, among=among, should_stop=should_stop)

    def _shown(self, found: Found) -> dict[str, Any]:
        registration = found.registration
        may_send = self._admin.may(self._request, "add_outboundmessage")
        return {
            "name": registration.name,
            "label": registration.label,
            "rows": [
                {"mark": FATES[fate], "count": grouped(count), "words": _explained(fate)}
                for fate in Fate
                if (count := found.counts[fate])
            ],
            "looked_at": grouped(found.looked_at),
            "is_complete": found.is_complete or bool(found.error),
            "error": found.error,
            "command": _command(found),
            "named": self._named(found),
            "more": grouped(found.missing - len(found.named)) if found.missing > len(found.named) else "",
            "may_send": found.missing > 0 and may_send and self._objects_of(registration).may_view,
        }

    def _named(self, found: Found) -> list[dict[str, Any]]:
        """Return the objects without their receipt that the user may view, with links to their pages."""
        objects = self._objects_of(found.registration)
        if not found.named or not objects.may_view:
            return []
        allowed = objects.allowed_of([named.source_id for named in found.named])
        return [
            {
                "name": named.reference,
                "url": objects.url_of(allowed[named.source_id]),
                "mark": FATES[named.fate],
                "words": named.words,
            }
            for named in found.named
            if named.source_id in allowed
        ]

    def _objects_of(self, registration: Registration) -> Objects:
        return Objects(self._admin.admin_site, self._request, registration.model)


def look_at_missing(site: AdminSite, request: HttpRequest) -> list[dict[str, Any]] | None:
    """Return the last periodic search of each class for the dashboard; None if no class defines `get_candidates()`."""
    if not classes():
        return None
    links = Links(site, request)
    return [_last(registration, row, links) for registration, row in last_looks()]


def _last(registration: Registration, row: ReceiptLook, links: Links) -> dict[str, Any]:
    period = {"since": _iso(row.since), "until": _iso(row.until)}
    counted = sum(row.counts.values())
    words = gettext("Sales from %(since)s to %(until)s: %(count)s.") % {
        "since": short_time(row.since) if row.since else "",
        "until": short_time(row.until) if row.until else "",
        "count": grouped(counted),
    }
    return {
        "name": registration.name,
        "mark": _mark_of(row),
        "words": words,
        "url": links.to_page(RegisteredReceipt, "missing", **period),
    }


def _mark_of(row: ReceiptLook) -> Mark:
    if row.never_queued:
        label = gettext("never queued: %(count)s") % {"count": grouped(row.never_queued)}
        return Mark(Tone.BAD, "✕", label)
    if row.unclear or row.error:
        return FATES[Fate.RAISED]
    if not row.is_complete:
        return Mark(Tone.NEUTRAL, "?", gettext("not all were looked at"))
    return Mark(Tone.GOOD, "✓", gettext("none is missing"))


def _explained(fate: Fate) -> str:
    """Return the explanation of a fate; empty if there is nothing to do, because the label is enough then."""
    row = FATES[fate]
    return "" if row.advice is NOTHING_TO_DO else row.explained


def _command(found: Found) -> str:
    zone = timezone.get_default_timezone()
    since, until = (f'"{timezone.localtime(at, zone):%Y-%m-%d %H:%M:%S}"' for at in (found.since, found.until))
    return f"python manage.py kpwa missing --since {since} --until {until} --receipt {found.registration.label}"


def _seconds_left(seconds: float) -> Callable[[], bool]:
    """Return a function that says whether this many seconds have passed."""
    ends_at = time.monotonic() + seconds
    return lambda: time.monotonic() >= ends_at


def _time(text: str) -> datetime | None:
    try:
        found = parse_datetime(text)
    except ValueError:
        return None
    return found if found is not None and timezone.is_aware(found) else None


def _iso(moment: datetime | None) -> str:
    return moment.isoformat() if moment else ""
