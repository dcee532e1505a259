"""Base classes of our admin: Django's own, or django-unfold's if the site uses that theme.

Unfold styles only the widgets and tables of its own classes, so a stock `ModelAdmin` looks unfinished in it.
"""

from __future__ import annotations

import functools
from types import FrameType
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, reverse
from django.views.debug import SafeExceptionReporterFilter, get_exception_reporter_filter

from ..words import Mark

UNDER_UNFOLD = apps.is_installed("unfold")

if TYPE_CHECKING:
    from django.contrib import admin

    ModelAdmin = admin.ModelAdmin[Any]
    TabularInline = admin.TabularInline[Any, Any]
elif UNDER_UNFOLD:
    from unfold.admin import ModelAdmin, TabularInline
else:
    from django.contrib.admin import ModelAdmin, TabularInline

__all__ = [
    "MAY_DECIDE",
    "MAY_FORGET",
    "MAY_LIFT",
    "MAY_LINK",
    "MAY_OPERATE",
    "MAY_SEND",
    "UNDER_UNFOLD",
    "KpwaAdmin",
    "ReadOnly",
    "ReadOnlyAdmin",
    "TabularInline",
    "hiding_filter",
    "mark_html",
]


MAY_DECIDE = "decide_outboundmessage"
MAY_FORGET = "forget_recipient"
MAY_LIFT = "lift_recipient"
MAY_LINK = "link_license"
MAY_OPERATE = "operate_license"
MAY_SEND = "add_outboundmessage"
"""Codenames of permissions of our app, for `KpwaAdmin.may()`."""


class KpwaAdmin(ModelAdmin):
    """A `ModelAdmin` with the URL, permission and rendering helpers that all our admin classes share."""

    @property
    def urls(self) -> list[Any]:
        # Wrapped here and not in get_urls(), so that pages which a subclass adds there are covered as well.
        return [_without_variables(each) if isinstance(each, URLPattern) else each for each in self.get_urls()]

    def url_name(self, page: str) -> str:
        """Return the name of a page's URL pattern, as Django names its own: `django_kpwa_license_change`."""
        return f"{self.opts.app_label}_{self.opts.model_name}_{page}"

    def url_of(self, page: str, *arguments: object) -> str:
        """Return the URL of a page of this admin.

        Args:
            page: `changelist`, `change`, or the name of a page that a subclass adds.
            arguments: The URL's positional arguments, for example a primary key.

        Raises:
            NoReverseMatch: The admin has no such page.
        """
        return reverse(f"admin:{self.url_name(page)}", args=arguments, current_app=self.admin_site.name)

    def may(self, request: HttpRequest, codename: str) -> bool:
        """Return True if the user has our app's permission `codename` (given without the app label)."""
        return bool(request.user.has_perm(f"{self.opts.app_label}.{codename}"))

    def check_may_view(self, request: HttpRequest) -> None:
        """Raise `PermissionDenied` unless the user may view this model."""
        if not self.has_view_permission(request):
            raise PermissionDenied

    def get_object_or_404(self, request: HttpRequest, object_id: str) -> Any:
        """Return the object with the primary key `object_id`, quoted as in admin URLs.

        Raises:
            Http404: There is no such object.
            PermissionDenied: The user may not view it.
        """
        obj = self.get_object(request, unquote(object_id))
        if obj is None:
            raise Http404
        if not self.has_view_permission(request, obj):
            raise PermissionDenied
        return obj

    def render_page(
        self, request: HttpRequest, template: str, context: dict[str, Any], status: int | None = None
    ) -> TemplateResponse:
        """Render one of our own pages with the site's header and navigation.

        Args:
            template: Path below `admin/django_kpwa/`.
            status: HTTP status; None means 200.
        """
        request.current_app = self.admin_site.name
        context = {**self.admin_site.each_context(request), "opts": self.opts, **context}
        return TemplateResponse(request, f"admin/django_kpwa/{template}", context, status=status)


class ReadOnly:
    """Mixin for the admin of what only the app itself writes: objects can't be added, changed or deleted."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnlyAdmin(ReadOnly, KpwaAdmin):
    """An admin of our own records."""


def mark_html(mark: Mark) -> str:
    """Return the HTML of a mark for a list column: its symbol and label in its colour."""
    return render_to_string("admin/django_kpwa/mark.html", {"mark": mark})


def _without_variables(pattern: URLPattern) -> URLPattern:
    """Keep customers' numbers and texts out of the error reports that Django mails.

    The variables of a failing view and of Django's template engine contain them. `sensitive_variables` does not cover
    the template engine, because a `TemplateResponse` is rendered after its view has returned. A reporter filter on the
    request covers both. Under DEBUG the reports still show all values.
    """
    view, hiding = pattern.callback, hiding_filter()

    @functools.wraps(view)
    def reported(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        request.exception_reporter_filter = hiding
        response: HttpResponse = view(request, *args, **kwargs)
        return response

    pattern.callback = reported
    return pattern


def hiding_filter(*, keeps_secrets_under_debug: bool = False) -> SafeExceptionReporterFilter:
    """Return an error reporter filter that shows the names of variables and POST parameters, but not their values.

    It extends the site's own filter. Under DEBUG it shows the values, too.

    Args:
        keeps_secrets_under_debug: Hide what `sensitive_variables` and `sensitive_post_parameters` mark even under
            DEBUG, where Django's own filter shows it.
    """

    class HidingFilter(get_exception_reporter_filter(None).__class__):  # type: ignore[misc]
        def is_active(self, request: HttpRequest | None) -> bool:
            return keeps_secrets_under_debug or self._hides_all(request)

        def get_post_parameters(self, request: HttpRequest | None) -> Any:
            posted = super().get_post_parameters(request)
            return dict.fromkeys(posted, self.cleansed_substitute) if self._hides_all(request) else posted

        def get_traceback_frame_variables(self, request: HttpRequest | None, tb_frame: FrameType) -> Any:
            shown = super().get_traceback_frame_variables(request, tb_frame)
            return [(name, self.cleansed_substitute) for name, _ in shown] if self._hides_all(request) else shown

        def _hides_all(self, request: HttpRequest | None) -> bool:
            return bool(super().is_active(request))

    return HidingFilter()
