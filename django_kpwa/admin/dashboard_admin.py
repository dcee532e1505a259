"""The dashboard: it shows whether receipts are being sent, and what to do if they are not.

At its top is a sentence: the worst problem that exists, or that receipts are going out. The page refreshes itself by
requesting its parts (`fresh/`) every few seconds, so every query here has to be cheap however many messages there are:
only hourly statistics, heartbeats, and counts that stop at a limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.text import capfirst
from django.utils.translation import gettext, ngettext

from ..counts import BoundedCount
from ..formatting import duration, grouped, short_time
from ..health import Missing, Senders, Unassigned, lane_of, senders, unassigned
from ..models import License, OutboundMessage, PauseReason
from ..site_urls import find_url
from ..words import Help, Mark, Tone
from .base import ReadOnlyAdmin
from .dashboard_cards import MAX_SHOWN, NO_QUEUE, Cards, Found, Queue, look_at_licenses, queues_of
from .dashboard_charts import Statistics, chart_of_days, chart_of_hours
from .dashboard_decisions import decide, look_at_decisions
from .dashboard_services import look_at_services
from .message_admin import MAY_DECIDE

LATE_SECONDS = 600.0
"""A message is late once it has been due for longer than this."""


class DashboardAdmin(ReadOnlyAdmin):
    """Shows a page instead of a change list: the dashboard's model has no rows to list, add or open."""

    def get_urls(self) -> list[Any]:
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(self.changelist_view), name=self.url_name("changelist")),
            path("fresh/", wrap(self.fresh_view), name=self.url_name("fresh")),
            path("decide/", wrap(self.decide_view), name=self.url_name("decide")),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        self.check_may_view(request)
        context = {
            "title": capfirst(self.opts.verbose_name),
            **self._parts(request, with_days=True),
            **(extra_context or {}),
        }
        return self.render_page(request, "dashboard/page.html", context)

    def fresh_view(self, request: HttpRequest) -> HttpResponse:
        """Return only the parts that are refreshed; the chart of days only with `?days=yes`."""
        self.check_may_view(request)
        request.current_app = self.admin_site.name
        context = self._parts(request, with_days="days" in request.GET)
        return TemplateResponse(request, "admin/django_kpwa/dashboard/parts.html", context)

    def decide_view(self, request: HttpRequest) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        self.check_may_view(request)
        if not self.may(request, "view_outboundmessage") or not self.may(request, MAY_DECIDE):
            raise PermissionDenied
        return decide(self.admin_site, request, self.url_of("changelist"))

    def _parts(self, request: HttpRequest, *, with_days: bool) -> dict[str, Any]:
        found, is_cut, now = look_at_licenses()
        statistics = Statistics(now)
        sending = senders()
        shown = found[:MAX_SHOWN]
        queues = queues_of([license_.pk for license_, _ in found])
        names = {license_.pk: license_.name for license_, _ in found} if len(found) > 1 else {}
        decisions = look_at_decisions(self.admin_site, request, names)
        today = statistics.today([license_.pk for license_, _ in shown])
        cards = Cards(self.admin_site, request, queues, today, sending.missing, now)
        hours = statistics.last_hours()
        days = statistics.last_days() if with_days else None
        return {
            "summary": summary_of(found, queues, sending, decisions["total"], unassigned(), now),
            "cards": [cards.of(license_, condition) for license_, condition in shown],
            "more_cards": BoundedCount(len(found) - len(shown), is_cut),
            "licenses_url": self._license_url("changelist", request, "view_license"),
            "add_url": self._license_url("add", request, "add_license"),
            "decisions": decisions,
            "charts": [chart_of_hours(hours), *([chart_of_days(days)] if days else [])],
            "services": look_at_services(self.admin_site, request, sending, now),
            "looked_at": short_time(now, seconds=True),
            "here": self.url_of("changelist"),
            "fresh_url": self.url_of("fresh"),
            "decide_url": self.url_of("decide"),
        }

    def _license_url(self, name: str, request: HttpRequest, codename: str) -> str:
        if not self.may(request, codename):
            return ""
        return find_url(f"admin:django_kpwa_license_{name}", current_app=self.admin_site.name)


def summary_of(
    found: Sequence[Found],
    queues: dict[int, Queue],
    senders: Senders,
    undecided: BoundedCount,
    waiting: Unassigned | None,
    now: datetime,
) -> dict[str, Any]:
    """Return the dashboard's summary: the worst problem that exists, or that receipts are going out.

    `mark` contains the sentence. `details` explain it; each has the HTML id of the part of the page that it links to,
    or an empty text. `asks_for_license` shows a link to add the first license.

    Args:
        found: All examined licenses with their conditions, most urgent first.
        queues: Waiting messages by license id.
        senders: What the heartbeats say about the processes that send.
        undecided: Number of messages that need a decision.
        waiting: Messages for which no license is chosen; None if there are none.
        now: The database's time.
    """
    details = [(_undecided(undecided), "kpwa-decisions")] if undecided else []
    unchosen = [(_waiting(waiting), "")] if waiting else []
    if not found:
        told = gettext("Add a license first: its API key comes from the gateway's dashboard. Then link WhatsApp.")
        mark = Mark(Tone.NEUTRAL, "→", gettext("WhatsApp is not set up yet."))
        return {"mark": mark, "details": [*unchosen, (told, "")], "asks_for_license": True}
    active = [(license_, condition) for license_, condition in found if license_.is_active]
    stopped = [each for each in active if each[1].tone in (Tone.BAD, Tone.ATTENTION)]
    if not active:
        mark = Mark(Tone.ATTENTION, "!", gettext("Nothing is sent: no license is active."))
        details = [*unchosen, *details]
    elif waiting:
        mark = Mark(Tone.BAD, "✕", gettext("Receipts are not going out: it is not clear which license sends them."))
        details = [*unchosen, *details]
    elif senders.missing != Missing.NOTHING:
        mark = Mark(Tone.BAD, "✕", gettext("Receipts are not going out: the sending service is not running."))
        details = [(gettext("Which part is missing, and how to start it"), "kpwa-services"), *details]
    elif stopped:
        mark = _stopped(stopped, len(active))
    elif late := _latest(active, queues, now):
        mark = Mark(Tone.ATTENTION, "!", gettext("Receipts are going out late."))
        details = [(gettext("The oldest has been due for %(time)s.") % {"time": duration(late)}, ""), *details]
    elif not OutboundMessage.objects.exists():
        mark = Mark(Tone.GOOD, "✓", gettext("Ready: receipts can go out."))
        details = [(gettext("No message has been queued yet. The first one appears here automatically."), ""), *details]
    else:
        mark = Mark(Tone.GOOD, "✓", gettext("Receipts are going out."))
    return {"mark": mark, "details": details}


def _stopped(stopped: Sequence[Found], active: int) -> Mark:
    first, worst = stopped[0]
    if len(stopped) < active:
        words = ngettext(
            "Receipts of %(count)s of %(all)s licenses are not going out.",
            "Receipts of %(count)s of %(all)s licenses are not going out.",
            len(stopped),
        ) % {"count": grouped(len(stopped)), "all": grouped(active)}
    elif all(condition.help == Help.RESUME for _, condition in stopped):
        words = gettext("Receipts are not going out: a person paused them.")
    elif active == 1 and worst.help == Help.LINK and not _was_linked(first):
        words = gettext("WhatsApp is not linked yet.")
    else:
        words = gettext("Receipts are not going out.")
    return Mark(worst.tone, "✕" if worst.tone == Tone.BAD else "!", words)


def _was_linked(license_: License) -> bool:
    lane = lane_of(license_)
    return lane is not None and (bool(lane.linked_number) or lane.pause_reason == PauseReason.LOGGED_OUT)


def _latest(active: Sequence[Found], queues: dict[int, Queue], now: datetime) -> float:
    """Return for how many seconds the longest overdue message has been due; 0 if no message is late.

    Licenses with the tone `WAITING` are left out, because they resume by themselves.
    """
    latest = 0.0
    for license_, condition in active:
        due_at = queues.get(license_.pk, NO_QUEUE).due_at
        if due_at is not None and condition.tone != Tone.WAITING:
            latest = max(latest, (now - due_at).total_seconds())
    return latest if latest > LATE_SECONDS else 0.0


def _waiting(waiting: Unassigned) -> str:
    words = ngettext(
        "%(count)s message waits, because %(why)s. %(what_to_do)s",
        "%(count)s messages wait, because %(why)s. %(what_to_do)s",
        waiting.count.number,
    )
    return words % {"count": waiting.count, "why": waiting.why, "what_to_do": waiting.what_to_do}


def _undecided(undecided: BoundedCount) -> str:
    words = ngettext("%(count)s message needs a decision.", "%(count)s messages need a decision.", undecided.number)
    return words % {"count": undecided}
