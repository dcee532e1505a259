"""What the dashboard shows: whether receipts are being sent, and what to do if they are not.

At its top is a sentence: the worst problem that exists, or that receipts are going out. The page refreshes itself by
requesting its parts (`fresh/`) every few seconds, so every query here has to be cheap however many messages there are:
only hourly statistics, heartbeats, and counts that stop at a limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext, ngettext

from ..alerts import check_soon
from ..counts import BoundedCount
from ..formatting import grouped, short_time
from ..health import MAX_LICENSES, STOPPED, Finding, Health, look
from ..license_conditions import lane_of
from ..models import OutboundMessage, PauseReason
from ..site_urls import find_url
from ..words import TROUBLES, Condition, Help, Mark, Problem, Tone
from .base import MAY_OPERATE, KpwaAdmin
from .dashboard_alerts import look_at_alerts
from .dashboard_cards import Cards
from .dashboard_charts import Statistics, chart_of_days, chart_of_hours
from .dashboard_decisions import look_at_decisions
from .dashboard_services import look_at_services
from .receipt_missing import look_at_missing


class DashboardPage:
    """The page for one user. The caller checks the permission to view it."""

    MAX_CARDS = 50
    MAX_LICENSES = MAX_LICENSES
    """Maximum number of licenses that are examined; the most urgent of them have cards."""

    def __init__(self, admin: KpwaAdmin, request: HttpRequest) -> None:
        self._admin, self._request = admin, request

    def parts(self, *, with_days: bool) -> dict[str, Any]:
        """Return the template variables of the page's parts; the chart of days only `with_days`."""
        admin, request = self._admin, self._request
        check_soon()
        health = look(self.MAX_LICENSES)
        found, shown = health.licenses, health.licenses[: self.MAX_CARDS]
        statistics = Statistics(health.now)
        names = {each.license.pk: each.license.name for each in found} if len(found) > 1 else {}
        cards = Cards(admin.admin_site, request, health, statistics.today([each.license.pk for each in shown]))
        hours = statistics.last_hours()
        try_url = admin.url_of("alerts") if admin.may(request, MAY_OPERATE) else ""
        days = statistics.last_days() if with_days else None
        return {
            "summary": summary_of(health),
            "cards": [cards.of(each) for each in shown],
            "more_cards": BoundedCount(len(found) - len(shown), health.is_cut),
            "licenses_url": self._license_url("changelist", "view_license"),
            "add_url": self._license_url("add", "add_license"),
            "decisions": look_at_decisions(admin.admin_site, request, names),
            "charts": [chart_of_hours(hours), *([chart_of_days(days)] if days else [])],
            "missing": look_at_missing(admin.admin_site, request),
            "services": [*look_at_services(admin.admin_site, request, health), look_at_alerts(try_url)],
            "looked_at": short_time(health.now, seconds=True),
            "here": admin.url_of("changelist"),
            "fresh_url": admin.url_of("fresh"),
            "decide_url": admin.url_of("decide"),
        }

    def _license_url(self, name: str, codename: str) -> str:
        if not self._admin.may(self._request, codename):
            return ""
        return find_url(f"admin:django_kpwa_license_{name}", current_app=self._admin.admin_site.name)


def summary_of(health: Health) -> dict[str, Any]:
    """Return the dashboard's summary: the most urgent finding that has a headline, or that receipts are going out.

    `mark` contains the sentence. `details` describe all findings; each has the HTML id of the part of the page that it
    links to, or an empty text. `asks_for_license` shows a link to add the first license.
    """
    # Why a license stopped is shown on its card.
    details = [
        (" ".join(filter(None, (finding.say("meaning"), finding.say("advice")))), finding.part)
        for finding in health.findings
        if finding.code != STOPPED
    ]
    first = next((finding for finding in health.findings if finding.code == STOPPED or finding.say("headline")), None)
    if first is not None and first.code == STOPPED:
        stopped = [finding for finding in health.findings if finding.code == STOPPED]
        mark = _stopped(stopped, sum(each.license.is_active for each in health.licenses))
    elif first is not None:
        mark = Mark(first.tone, first.row.symbol, first.say("headline"))
    elif not OutboundMessage.objects.exists():
        mark = Mark(Tone.GOOD, "✓", gettext("Ready: receipts can go out."))
        details = [(gettext("No message has been queued yet. The first one appears here automatically."), ""), *details]
    else:
        mark = Mark(Tone.GOOD, "✓", gettext("Receipts are going out."))
    return {
        "mark": mark,
        "details": details,
        "asks_for_license": first is not None and first.code == Problem.NOT_SET_UP,
    }


def _stopped(stopped: Sequence[Finding], active: int) -> Mark:
    worst = stopped[0].row
    if len(stopped) < active:
        words = ngettext(
            "Receipts of %(count)s of %(all)s licenses are not going out.",
            "Receipts of %(count)s of %(all)s licenses are not going out.",
            len(stopped),
        ) % {"count": grouped(len(stopped)), "all": grouped(active)}
    elif all(each.help == Help.RESUME for each in stopped):
        words = gettext("Receipts are not going out: a person paused them.")
    elif active == 1 and stopped[0].help == Help.LINK and not _was_linked(stopped[0]):
        words = gettext("WhatsApp is not linked yet.")
    elif active == 1 and isinstance(worst, Condition) and worst.code in TROUBLES:
        # Some receipts of a restricted number may still go out.
        words = f"{worst.counter}."
    else:
        words = gettext("Receipts are not going out.")
    return Mark(worst.tone, "✕" if worst.tone == Tone.BAD else "!", words)


def _was_linked(finding: Finding) -> bool:
    lane = lane_of(finding.license) if finding.license else None
    return lane is not None and (bool(lane.linked_number) or lane.pause_reason == PauseReason.LOGGED_OUT)
