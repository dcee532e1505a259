"""Licenses in the admin: whether each one sends, what to do if it does not, and its configuration.

Views that call the gateway run outside transactions and catch the errors that such a call may raise: see
`license_buttons` and `gateway_failures`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_post_parameters

from .. import phone
from ..containing import outside_transactions
from ..gateway import addresses
from ..license_conditions import lane_of
from ..models import Dashboard, DatabaseNow, License
from ..store import store
from ..wake import wake_license_on_commit
from ..words import Help
from .base import MAY_LINK, MAY_OPERATE, MAY_SEND, hiding_filter, mark_html
from .buttons import Button, ButtonsAdmin, OfferedButton
from .license_form import LicenseForm, key_hint
from .license_state import condition_of, note_queued, state_of
from .links import Links

WAKING_FIELDS = frozenset({"api_key", "is_active"})
"""After a change of one of these fields, the license is woken: messages that wait may be sendable now."""


LIMITS = frozenset({"in_use_since", "cold_limit"})
"""After a change of one of these fields, messages held by the limit of new customers are evaluated again."""


class ArchivedFilter(admin.SimpleListFilter):
    """Shows only archived licenses if it is set; otherwise the list leaves them out."""

    title = _("archived")
    parameter_name = "archived"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("Yes"))]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.exclude(archived_at=None) if self.value() == "yes" else queryset.filter(archived_at=None)


class LicenseChangeList(ChangeList):
    """Sets `kpwa_queued` on the page's licenses, with one query for all of them."""

    MAX_QUEUED = 10_000
    """Waiting messages of all licenses on the page, taken together, are counted up to this number."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list: Any = list(self.result_list)
        note_queued(self.result_list, max_queued=self.MAX_QUEUED)


class LicenseAdmin(ButtonsAdmin):
    MAX_QUEUED = 1000
    """Waiting messages of a license are counted up to this number on its page."""

    form = LicenseForm
    change_form_template = "admin/django_kpwa/license/change_form.html"
    change_list_template = "admin/django_kpwa/license/change_list.html"
    when_empty = _(
        "There is no license here yet. Add one with the API key from the gateway's dashboard, then press Link WhatsApp "
        "on its page."
    )
    # No columns for "active", which is part of the condition, and for the stored key, which is on the license's page.
    list_display = ["named", "condition", "linked_number", "queued"]
    list_filter = [ArchivedFilter, "is_active"]
    search_fields = ["name"]
    fieldsets = [
        (None, {"fields": ["name", "api_key", "is_active", "is_default", "alert_email"]}),
        (
            _("How fast it sends"),
            {
                "fields": [("pace_min_seconds", "pace_max_seconds")],
                "description": _(
                    "The gap between two messages is a random time between these two. WhatsApp restricts "
                    "numbers that send like a machine, so choose slower rather than faster."
                ),
            },
        ),
        (
            _("New customers"),
            {
                "fields": [("in_use_since", "cold_limit")],
                "description": _(
                    "A new customer is one who has not written to this number in the last weeks. A number that is new "
                    "to WhatsApp and writes to many of them is restricted. What is above the limit waits for the next "
                    "day."
                ),
            },
        ),
        (_("For the developer"), {"fields": ["base_url"], "classes": ["collapse"]}),
    ]
    # No bulk deletion: its confirmation would load all messages of the licenses to show what protects them.
    actions = None

    def __init__(self, model: type[License], admin_site: admin.AdminSite) -> None:
        super().__init__(model, admin_site)
        # Created before any request: if its creation failed during a request, the error report would contain the key.
        self._hiding_filter = hiding_filter(keeps_secrets_under_debug=True)

    def get_buttons(self) -> Sequence[Button]:
        from .license_buttons import BUTTONS

        return BUTTONS

    # The list

    def get_queryset(self, request: HttpRequest) -> QuerySet[License]:
        licenses: QuerySet[License] = super().get_queryset(request)
        return licenses.select_related("lane").annotate(looked_at=DatabaseNow())

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[LicenseChangeList]:
        return LicenseChangeList

    @admin.display(description=_("name"), ordering="name")
    def named(self, license_: License) -> str:
        # Not in a column of its own, in which all other licenses would have a red cross.
        if not license_.is_default:
            return license_.name
        return format_html('{}<span class="kpwa-under">{}</span>', license_.name, gettext("default"))

    @admin.display(description=_("WhatsApp"), ordering="lane__session_status")
    def condition(self, license_: License) -> str:
        return mark_html(condition_of(license_))

    @admin.display(description=_("linked number"))
    def linked_number(self, license_: License) -> str:
        lane = lane_of(license_)
        if lane is None or not lane.linked_number:
            return self.get_empty_value_display()
        return format_html('<span class="kpwa-digits">{}</span>', phone.written(lane.linked_number))

    @admin.display(description=_("waiting"))
    def queued(self, license_: License) -> str:
        # On a phone the list has no headings, so the number needs a label.
        words = '<span class="kpwa-label">{}: </span>{}'
        return format_html(words, capfirst(gettext("waiting")), getattr(license_, "kpwa_queued", ""))

    @admin.display(description=_("API key"))
    def stored_key(self, license_: License) -> str:
        return key_hint(license_)

    # The page of one license

    @method_decorator(sensitive_post_parameters("api_key"))
    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        # The API key is hidden from Django's DEBUG page, too.
        request.exception_reporter_filter = self._hiding_filter
        return super().changeform_view(request, *args, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: License | None = None) -> Any:
        # Users who may not edit see which key is stored instead of the input field for a key.
        if self._may_edit(request, obj):
            return self.fieldsets
        (_title, options), *rest = self.fieldsets
        return [
            (_title, {**options, "fields": ["name", "stored_key", "is_active", "is_default", "alert_email"]}),
            *rest,
        ]

    def has_delete_permission(self, request: HttpRequest, obj: License | None = None) -> bool:
        # Messages protect their license, and the confirmation page would load them all. A license with messages or
        # events is archived instead.
        return super().has_delete_permission(request, obj) and (obj is None or not obj.has_history())

    def save_model(self, request: HttpRequest, obj: License, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if not change and (others := License.objects.kept().exclude(pk=obj.pk)).exists():
            default = obj if obj.is_default else others.filter(is_default=True).first()
            words = gettext("There are several licenses now. Messages that name no license are sent by %(name)s.")
            if default is None:
                words = gettext("There are several licenses now, and none is the default: tick “default” on one.")
            self.message_user(request, words % {"name": default} if default else words, messages.WARNING)
        changes_limit = change and bool(LIMITS.intersection(form.changed_data)) and store().end_cold_holds(obj.pk)
        if changes_limit or WAKING_FIELDS.intersection(form.changed_data):
            wake_license_on_commit(obj.pk)

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        told = super().construct_change_message(request, form, formsets, add)
        if not add and "base_url" in form.changed_data:
            # The license's history has to show to which host the key was sent before and is sent now.
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
            context |= {
                "kpwa_state": state_of(license_, max_queued=self.MAX_QUEUED),
                "kpwa_dashboard_url": Links(self.admin_site, request).to_page(Dashboard, "changelist"),
                **self._what_helps(request, license_),
            }
        return super().render_change_form(request, context, *args, **kwargs)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        from .license_buttons import HARD_TO_GET_BACK

        context = {"hard_to_get_back": HARD_TO_GET_BACK, **(extra_context or {})}
        return super().delete_view(request, object_id, context)

    def get_urls(self) -> list[Any]:
        from .license_link import check_view, in_use_view, link_view, passkey_view
        from .number_pages import check_number, send_test

        views: dict[str, tuple[str, Callable[..., HttpResponse]]] = {
            "link": ("link/", link_view),
            "link_check": ("link/check/", check_view),
            "passkey": ("link/passkey/", passkey_view),
            "in_use": ("link/in_use/", in_use_view),
            "send_test": ("send_test/", send_test),
            "check_number": ("check_number/", check_number),
        }
        own = [
            path(f"<path:object_id>/{ending}", self._view(view), name=self.url_name(name))
            for name, (ending, view) in views.items()
        ]
        # Before Django's own URLs, whose last pattern `<path:object_id>/` matches everything.
        return [*own, *super().get_urls()]

    def _view(self, view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        hidden = sensitive_post_parameters("to")(partial(view, self))
        return outside_transactions(self.admin_site.admin_view(hidden))

    def _what_helps(self, request: HttpRequest, license_: License) -> dict[str, Any]:
        """Return the buttons and links that the user may use, as template variables for each part of the page."""
        helps = condition_of(license_).help.value
        offered = {
            name: OfferedButton(found.button._replace(is_primary=name == helps), found.url)
            for found in self.offered_buttons(request, license_)
            for name in [found.button.name]
        }

        def buttons(*names: str) -> list[OfferedButton]:
            return [offered[name] for name in names if name in offered]

        may_operate = self.may(request, MAY_OPERATE)
        return {
            "kpwa_helps": helps,
            "kpwa_link_url": self.url_of("link", license_.pk) if self.may(request, MAY_LINK) else "",
            "kpwa_passkey_url": (
                self.url_of("passkey", license_.pk) if helps == Help.PASSKEY and self.may(request, MAY_LINK) else ""
            ),
            "kpwa_whatsapp_buttons": buttons("check_status", "resume", "pause", "end_restriction", "restart"),
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
