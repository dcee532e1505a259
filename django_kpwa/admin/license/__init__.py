"""Licenses in the admin: whether each one sends, what to press where it does not, and its configuration.

Views that ask the gateway run outside of transactions and catch what it may raise; see `operations` and `failures`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.urls import NoReverseMatch, path, reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.debug import SafeExceptionReporterFilter, get_exception_reporter_filter
from django.views.decorators.debug import sensitive_post_parameters

from ... import phone
from ...conditions import lane_of
from ...gateway import addresses
from ...models import DatabaseNow, License, OutboundMessage
from ...wake import wake_license_on_commit
from ..buttons import ButtonsAdmin, OfferedButton, outside_transactions
from .changelist import ArchivedFilter, LicenseChangeList
from .form import MAX_KEY_LENGTH, LicenseForm, key_hint
from .link import MAY_LINK, check_view, link_view
from .numbers import MAY_SEND, check_number, send_test
from .operations import BUTTONS, MAY_OPERATE
from .state import condition_of, mark_of, state_of

__all__ = ["MAX_KEY_LENGTH", "LicenseAdmin", "key_hint"]

WAKING_FIELDS = frozenset({"api_key", "is_active"})
"""What lets waiting messages go when it changes."""

_View = Callable[..., HttpResponse]


class LicenseAdmin(ButtonsAdmin):
    form = LicenseForm
    buttons = BUTTONS
    change_form_template = "admin/django_kpwa/license/change_form.html"
    change_list_template = "admin/django_kpwa/license/change_list.html"
    list_display = ["name", "condition", "linked_number", "queued", "stored_key", "is_active", "is_default"]
    list_filter = [ArchivedFilter, "is_active"]
    search_fields = ["name"]
    fieldsets = [
        (None, {"fields": ["name", "api_key", "is_active", "is_default"]}),
        (
            _("How fast it sends"),
            {
                "fields": [("pace_min_seconds", "pace_max_seconds")],
                "description": _(
                    "Between two messages it waits a random time between these two. WhatsApp restricts numbers that "
                    "send like a machine: rather slower than faster."
                ),
            },
        ),
        (_("For the developer"), {"fields": ["base_url"], "classes": ["collapse"]}),
    ]
    # Deleting many would load every message of each to show what protects it.
    actions = None

    # The list

    def get_queryset(self, request: HttpRequest) -> QuerySet[License]:
        licenses: QuerySet[License] = super().get_queryset(request)
        return licenses.select_related("lane").annotate(looked_at=DatabaseNow())

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[LicenseChangeList]:
        return LicenseChangeList

    @admin.display(description=_("WhatsApp"), ordering="lane__session_status")
    def condition(self, license_: License) -> str:
        return render_to_string("admin/django_kpwa/mark.html", {"mark": mark_of(condition_of(license_))})

    @admin.display(description=_("linked number"))
    def linked_number(self, license_: License) -> str:
        lane = lane_of(license_)
        return phone.written(lane.linked_number) if lane and lane.linked_number else self.get_empty_value_display()

    @admin.display(description=_("waiting"))
    def queued(self, license_: License) -> str:
        return str(getattr(license_, "kpwa_queued", ""))

    @admin.display(description=_("API key"))
    def stored_key(self, license_: License) -> str:
        return key_hint(license_)

    # The page of one

    @method_decorator(sensitive_post_parameters("api_key"))
    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        # Django reads it off the request: what is marked as sensitive stays hidden from its DEBUG page, too.
        request.exception_reporter_filter = _hiding_filter()
        return super().changeform_view(request, *args, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: License | None = None) -> Any:
        # Who may only look sees which key is stored in the place of the field that takes one.
        if self._may_edit(request, obj):
            return self.fieldsets
        (_title, options), *rest = self.fieldsets
        return [(_title, {**options, "fields": ["name", "stored_key", "is_active", "is_default"]}), *rest]

    def has_delete_permission(self, request: HttpRequest, obj: License | None = None) -> bool:
        # Messages protect their license; the confirmation would load all of them to say so. One that sent is archived.
        return super().has_delete_permission(request, obj) and (obj is None or not obj.has_history())

    def save_model(self, request: HttpRequest, obj: License, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if not change and (others := License.objects.kept().exclude(pk=obj.pk)).exists():
            default = obj if obj.is_default else others.filter(is_default=True).first()
            words = gettext("There are several licenses now. What names no license is sent by %(name)s.")
            if default is None:
                words = gettext("There are several licenses now, and none is the default: tick “default” on one.")
            self.message_user(request, words % {"name": default} if default else words, messages.WARNING)
        if WAKING_FIELDS.intersection(form.changed_data):
            wake_license_on_commit(obj.pk)

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        told = super().construct_change_message(request, form, formsets, add)
        if not add and "base_url" in form.changed_data:
            # Where the key went before, and where it goes now, belongs into the history of the license.
            before, after = (addresses.shown(url) for url in (form.initial["base_url"], form.instance.base_url))
            told[0]["changed"]["fields"].append(f"{before} → {after}")
        return told

    def response_post_save_add(self, request: HttpRequest, obj: License) -> HttpResponseRedirect:
        if self.may(request, MAY_LINK):
            return HttpResponseRedirect(self.url_of("link", obj.pk))
        return super().response_post_save_add(request, obj)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        license_ = context.get("original")
        context["kpwa_is_another"] = license_ is None and License.objects.kept().exists()
        if license_ is not None:
            context |= {"kpwa_state": state_of(license_), **self._what_helps(request, license_)}
        return super().render_change_form(request, context, *args, **kwargs)

    def page_of_message(self, request: HttpRequest, message: OutboundMessage) -> str:
        """The page of a message on this site; empty where there is none, or this person may not see it."""
        if not self.may(request, "view_outboundmessage"):
            return ""
        try:
            name = "admin:django_kpwa_outboundmessage_change"
            return reverse(name, args=[message.pk], current_app=self.admin_site.name)
        except NoReverseMatch:
            return ""

    def get_urls(self) -> list[Any]:
        views: dict[str, tuple[str, _View]] = {
            "link": ("link/", link_view),
            "link_check": ("link/check/", check_view),
            "send_test": ("send_test/", send_test),
            "check_number": ("check_number/", check_number),
        }
        own = [
            path(f"<path:object_id>/{ending}", self._view(view), name=self.url_name(name))
            for name, (ending, view) in views.items()
        ]
        return [*own, *super().get_urls()]

    def _view(self, view: _View) -> _View:
        hidden = sensitive_post_parameters("to")(partial(view, self))
        return outside_transactions(self.admin_site.admin_view(hidden))

    def _what_helps(self, request: HttpRequest, license_: License) -> dict[str, Any]:
        """The buttons and links that this person may press, by the part of the page that they stand in."""
        helps = condition_of(license_).help.value
        offered = {
            name: OfferedButton(replace(found.button, is_primary=name == helps), found.url)
            for found in self.offered_buttons(request, license_)
            for name in [found.button.name]
        }

        def buttons(*names: str) -> list[OfferedButton]:
            return [offered[name] for name in names if name in offered]

        may_operate = self.may(request, MAY_OPERATE)
        return {
            "kpwa_helps": helps,
            "kpwa_link_url": self.url_of("link", license_.pk) if self.may(request, MAY_LINK) else "",
            "kpwa_whatsapp_buttons": buttons("check_status", "resume", "pause", "restart"),
            "kpwa_archive_buttons": buttons("archive", "take_back"),
            "kpwa_number_buttons": buttons("confirm_number", "keep_number"),
            "kpwa_webhook_buttons": buttons("register_webhook", "renew_webhook", "reset_webhook"),
            "kpwa_test_url": (
                self.url_of("send_test", license_.pk) if may_operate and self.may(request, MAY_SEND) else ""
            ),
            "kpwa_check_number_url": self.url_of("check_number", license_.pk) if may_operate else "",
        }

    def _may_edit(self, request: HttpRequest, obj: License | None) -> bool:
        return self.has_add_permission(request) if obj is None else self.has_change_permission(request, obj)


def _hiding_filter() -> SafeExceptionReporterFilter:
    """The site's own filter of error reports, at work under DEBUG as well."""

    class HidingFilter(get_exception_reporter_filter(None).__class__):  # type: ignore[misc]
        def is_active(self, request: HttpRequest | None) -> bool:
            return True

    return HidingFilter()
