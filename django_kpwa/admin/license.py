"""Licenses in the admin. The API key goes in and never comes out: no page, error or log entry holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.debug import SafeExceptionReporterFilter, get_exception_reporter_filter
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables

from ..conditions import lane_of
from ..encryption import clean_api_key
from ..exceptions import InvalidApiKeyError
from ..models import License
from ..wake import wake_license_on_commit
from .buttons import ButtonsAdmin

if TYPE_CHECKING:
    _ModelForm = forms.ModelForm[License]
else:
    _ModelForm = forms.ModelForm

MAX_KEY_LENGTH = 500
WAKING_FIELDS = frozenset({"api_key", "is_active"})
"""What lets waiting messages go when it changes."""


class LicenseForm(_ModelForm):
    api_key = forms.CharField(
        label=_("API key"),
        required=False,
        strip=False,
        max_length=MAX_KEY_LENGTH,
        widget=forms.PasswordInput(render_value=False, attrs={"autocomplete": "off", "size": 60}),
    )

    class Meta:
        model = License
        fields = ["name", "is_active", "base_url", "pace_min_seconds", "pace_max_seconds"]

    @sensitive_variables()  # what was posted is among the arguments
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields.get("api_key")
        if field is None:  # a person who may only look
            return
        field.required = not self.instance.api_key_ciphertext
        field.help_text = _key_help(self.instance)

    @sensitive_variables()
    def clean_api_key(self) -> str:
        typed: str = self.cleaned_data["api_key"]
        if not typed:
            return ""
        try:
            return clean_api_key(typed)
        except InvalidApiKeyError:
            # In the words of the form: those of the error are a developer's, and not translated.
            raise ValidationError(
                _("The API key has white space or unusual characters inside. Copy it from the gateway's dashboard.")
            ) from None

    def save(self, commit: bool = True) -> License:
        if self.cleaned_data.get("api_key"):
            self.instance.set_api_key(self.cleaned_data["api_key"])
        return super().save(commit)


def key_hint(license_: License) -> str:
    """Says which key is stored, with its last four characters at most."""
    if not license_.api_key_ciphertext:
        return gettext("none")
    if not license_.api_key_hint:
        return gettext("stored")
    return gettext("ends in %(end)s") % {"end": license_.api_key_hint}


class LicenseAdmin(ButtonsAdmin):
    form = LicenseForm
    list_display = ["name", "whatsapp", "linked_number", "paused", "stored_key", "is_active"]
    list_filter = ["is_active"]
    search_fields = ["name"]
    readonly_fields = ["whatsapp", "linked_number", "paused"]
    fieldsets = [
        (None, {"fields": ["name", "is_active", "api_key"]}),
        (_("State"), {"fields": ["whatsapp", "linked_number", "paused"]}),
        (_("How it sends"), {"fields": ["base_url", "pace_min_seconds", "pace_max_seconds"]}),
    ]
    # Deleting many would load every message of each to show what protects it.
    actions = None

    @method_decorator(sensitive_post_parameters("api_key"))
    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        # Django reads it off the request: what is marked as sensitive stays hidden from its DEBUG page, too.
        request.exception_reporter_filter = _hiding_filter()
        return super().changeform_view(request, *args, **kwargs)

    def get_queryset(self, request: HttpRequest) -> QuerySet[License]:
        return super().get_queryset(request).select_related("lane")

    def get_fieldsets(self, request: HttpRequest, obj: License | None = None) -> Any:
        # Who may only look sees which key is stored in the place of the field that takes one.
        if self._may_edit(request, obj):
            return self.fieldsets
        (_title, options), *rest = self.fieldsets
        return [(_title, {**options, "fields": ["name", "is_active", "stored_key"]}), *rest]

    def has_delete_permission(self, request: HttpRequest, obj: License | None = None) -> bool:
        # Messages protect their license; the confirmation would load all of them to say so.
        return super().has_delete_permission(request, obj) and (obj is None or not obj.messages.exists())

    def save_model(self, request: HttpRequest, obj: License, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if WAKING_FIELDS.intersection(form.changed_data):
            wake_license_on_commit(obj.pk)

    @admin.display(description=_("WhatsApp"), ordering="lane__session_status")
    def whatsapp(self, license_: License) -> str:
        lane = lane_of(license_)
        return lane.get_session_status_display() if lane else ""

    @admin.display(description=_("linked number"))
    def linked_number(self, license_: License) -> str:
        lane = lane_of(license_)
        return lane.linked_number if lane else ""

    @admin.display(description=_("paused because"), ordering="lane__pause_reason")
    def paused(self, license_: License) -> str:
        lane = lane_of(license_)
        return lane.get_pause_reason_display() if lane and lane.pause_reason else ""

    @admin.display(description=_("API key"))
    def stored_key(self, license_: License) -> str:
        return key_hint(license_)

    def _may_edit(self, request: HttpRequest, obj: License | None) -> bool:
        return self.has_add_permission(request) if obj is None else self.has_change_permission(request, obj)


def _key_help(license_: License) -> str:
    if not license_.api_key_ciphertext:
        return gettext("From the gateway's dashboard. It is stored encrypted and never shown again.")
    if not license_.api_key_hint:
        return gettext("A key is stored. Leave this empty to keep it; it is never shown.")
    return gettext("A key that ends in %(end)s is stored. Leave this empty to keep it; it is never shown.") % {
        "end": license_.api_key_hint
    }


def _hiding_filter() -> SafeExceptionReporterFilter:
    """The site's own filter of error reports, at work under DEBUG as well."""

    class HidingFilter(get_exception_reporter_filter(None).__class__):  # type: ignore[misc]
        def is_active(self, request: HttpRequest | None) -> bool:
            return True

    return HidingFilter()
