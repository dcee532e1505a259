"""The dashboard's views. The content of the page is in `dashboard_page`, which is imported when the page is opened.

That module imports `health` and most of the app, which processes that never show the dashboard do not need.
"""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.text import capfirst

from ..containing import outside_transactions
from .base import MAY_DECIDE, MAY_OPERATE, ReadOnlyAdmin


class DashboardAdmin(ReadOnlyAdmin):
    """Shows a page instead of a change list: the dashboard's model has no rows to list, add or open."""

    def get_urls(self) -> list[Any]:
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(self.changelist_view), name=self.url_name("changelist")),
            path("fresh/", wrap(self.fresh_view), name=self.url_name("fresh")),
            path("decide/", wrap(self.decide_view), name=self.url_name("decide")),
            # It waits for other servers for seconds, and must not hold a transaction open meanwhile.
            path("alerts/", outside_transactions(wrap(self.alerts_view)), name=self.url_name("alerts")),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        from .dashboard_page import DashboardPage

        self.check_may_view(request)
        context = {
            "title": capfirst(self.opts.verbose_name),
            **DashboardPage(self, request).parts(with_days=True),
            **(extra_context or {}),
        }
        return self.render_page(request, "dashboard/page.html", context)

    def fresh_view(self, request: HttpRequest) -> HttpResponse:
        """Return only the parts that are refreshed; the chart of days only with `?days=yes`."""
        from .dashboard_page import DashboardPage

        self.check_may_view(request)
        request.current_app = self.admin_site.name
        context = DashboardPage(self, request).parts(with_days="days" in request.GET)
        return TemplateResponse(request, "admin/django_kpwa/dashboard/parts.html", context)

    def decide_view(self, request: HttpRequest) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        self.check_may_view(request)
        if not self.may(request, "view_outboundmessage") or not self.may(request, MAY_DECIDE):
            raise PermissionDenied
        from .dashboard_decisions import decide

        return decide(self.admin_site, request, self.url_of("changelist"))

    def alerts_view(self, request: HttpRequest) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        self.check_may_view(request)
        if not self.may(request, MAY_OPERATE):
            raise PermissionDenied
        from .dashboard_alerts import try_alerts

        return try_alerts(request, self.url_of("changelist"))
