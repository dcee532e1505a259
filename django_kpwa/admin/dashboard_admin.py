"""The dashboard: it shows whether receipts are being sent, and what to do if they are not.

The page refreshes itself by requesting its parts (`fresh/`) every few seconds, so every query here has to be cheap
however many messages there are: only hourly statistics, heartbeats, and counts that stop at a limit.
"""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.urls import path
from django.utils import timezone
from django.utils.text import capfirst

from ..counts import BoundedCount
from ..formatting import short_time
from ..health import senders, unassigned
from ..models import OutboundMessage
from ..site_urls import find_url
from .base import ReadOnlyAdmin
from .dashboard_cards import MAX_SHOWN, Cards, look_at_licenses, queues_of
from .dashboard_charts import Statistics, chart_of_days, chart_of_hours
from .dashboard_decisions import decide, look_at_decisions
from .dashboard_services import look_at_services
from .dashboard_summary import summary_of
from .message_admin import MAY_DECIDE


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
        found, is_cut = look_at_licenses()
        now = found[0].now if found else timezone.now()
        statistics = Statistics(now)
        sending = senders()
        shown = found[:MAX_SHOWN]
        queues = queues_of([each.license.pk for each in found])
        names = {each.license.pk: each.license.name for each in found} if len(found) > 1 else {}
        decisions = look_at_decisions(self.admin_site, request, names)
        today = statistics.today([each.license.pk for each in shown])
        cards = Cards(self.admin_site, request, queues, today, sending.missing)
        hours = statistics.last_hours()
        days = statistics.last_days() if with_days else None
        return {
            "summary": summary_of(found, queues, sending, decisions.total, unassigned(), has_sent=_has_messages()),
            "cards": cards.of(shown),
            "more_cards": BoundedCount(len(found) - len(shown), is_cut),
            "licenses_url": self._license_url("changelist", request, "view_license"),
            "add_url": self._license_url("add", request, "add_license"),
            "decisions": decisions,
            "charts": [chart_of_hours(hours), *([chart_of_days(days)] if days else [])],
            "services": look_at_services(self.admin_site, request, sending, now),
            "looked_at": now,
            "looked_at_words": short_time(now, seconds=True),
            "here": self.url_of("changelist"),
            "fresh_url": self.url_of("fresh"),
            "decide_url": self.url_of("decide"),
        }

    def _license_url(self, name: str, request: HttpRequest, codename: str) -> str:
        if not self.may(request, codename):
            return ""
        return find_url(f"admin:django_kpwa_license_{name}", current_app=self.admin_site.name)


def _has_messages() -> bool:
    return OutboundMessage.objects.exists()
