"""The row of the dashboard's services that shows who receives alerts, and the button that sends a test."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext

from ..alerts import try_ways
from ..conf import kpwa_settings
from ..counts import MAX_COUNTED, count_up_to
from ..models import License
from ..words import Mark, Tone
from .dashboard_services import Service

TRY_SECONDS = 6.0
"""Maximum time that the page waits for the ways to deliver the test; slower ones are reported as failed."""


def look_at_alerts(try_url: str) -> Service:
    """Return the row. `try_url`: the URL that its button posts to; empty if the user may not press it."""
    conf, name = kpwa_settings(), gettext("Alerts")
    own = count_up_to(MAX_COUNTED, License.objects.active().exclude(alert_email=""))
    if not (conf.ALERT_EMAILS or conf.ALERT_URLS or own):
        words = gettext("If receipts stop going out, this page says so, and nothing else. Add addresses:")
        mark = Mark(Tone.NEUTRAL, "?", gettext("Nobody is told"))
        return Service(name, mark, words, ('KPWA["ALERT_EMAILS"] = ["…"]',))
    words = gettext("E-mail addresses: %(emails)s. Other addresses: %(urls)s.") % {
        "emails": len(conf.ALERT_EMAILS) + own.number,
        "urls": len(conf.ALERT_URLS),
    }
    return Service(name, Mark(Tone.GOOD, "✓", gettext("On")), words, press_url=try_url)


def try_alerts(request: HttpRequest, back: str) -> HttpResponse:
    """Send a test by all ways, and show the result of each. The caller checks the permission."""
    ways = try_ways(TRY_SECONDS)
    for way in ways:
        if way.failure is None:
            messages.success(request, gettext("%(way)s: the test was sent.") % {"way": way.name})
        else:
            failed = gettext("%(way)s: the test was not sent (%(reason)s).")
            messages.error(request, failed % {"way": way.name, "reason": way.failure})
    if not ways:
        messages.warning(request, gettext("Nobody is told: no address is set."))
    return HttpResponseRedirect(back)
