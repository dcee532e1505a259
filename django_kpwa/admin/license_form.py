"""The form of a license. The API key is write-only: no page, error or log entry ever contains it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables

from ..conf import kpwa_settings
from ..encryption import clean_api_key
from ..exceptions import InvalidApiKeyError
from ..models import License
from .license_state import between

if TYPE_CHECKING:
    _ModelForm = forms.ModelForm[License]
else:
    _ModelForm = forms.ModelForm

MAX_KEY_LENGTH = 500


class LicenseForm(_ModelForm):
    api_key = forms.CharField(
        label=_("API key"),
        required=False,
        strip=False,
        max_length=MAX_KEY_LENGTH,
        widget=forms.PasswordInput(
            render_value=False, attrs={"autocomplete": "new-password", "spellcheck": "false", "size": 50}
        ),
    )

    class Meta:
        model = License
        fields = [
            "name", "is_active", "is_default", "alert_email", "base_url", "pace_min_seconds", "pace_max_seconds",
            "in_use_since", "cold_limit",
        ]  # fmt: skip
        # The browser's own date picker, because the admin's has links whose names violate newer accessibility rules.
        widgets = {"in_use_since": forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"})}
        labels = {
            "pace_min_seconds": _("Shortest gap (seconds)"),
            "pace_max_seconds": _("Longest gap (seconds)"),
        }

    @sensitive_variables()  # the arguments contain what was posted
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tell_usual_pace()
        field = self.fields.get("api_key")
        if field is None:  # the user may only view the license
            return
        field.required = not self.instance.api_key_ciphertext
        field.help_text = _key_help(self.instance)

    def _tell_usual_pace(self) -> None:
        usual = kpwa_settings().PACE_SECONDS
        for name, seconds in zip(("pace_min_seconds", "pace_max_seconds"), usual, strict=True):
            if name in self.fields:
                self.fields[name].widget.attrs |= {"placeholder": f"{seconds:g}", "inputmode": "decimal"}
        if "pace_max_seconds" in self.fields:
            words = gettext("Leave both empty for the usual gap: %(gap)s.") % {"gap": between(*usual)}
            self.fields["pace_max_seconds"].help_text = words

    @sensitive_variables()
    def clean_api_key(self) -> str:
        typed: str = self.cleaned_data["api_key"]
        if not typed:
            return ""
        try:
            return clean_api_key(typed)
        except InvalidApiKeyError:
            # The error's own message is for developers, and not translated.
            raise ValidationError(
                _("The API key contains white space or unusual characters. Copy it from the gateway's dashboard.")
            ) from None

    @sensitive_variables()
    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        is_kept = "api_key" in cleaned and not cleaned["api_key"] and self.instance.api_key_ciphertext
        if is_kept and "base_url" in self.changed_data:
            self.add_error(
                "api_key",
                _("The base URL was changed: enter the API key again. The stored one is not sent to the new address."),
            )
        return cleaned

    def save(self, commit: bool = True) -> License:
        if self.cleaned_data.get("api_key"):
            self.instance.set_api_key(self.cleaned_data["api_key"])
        return super().save(commit)


def key_hint(license_: License) -> str:
    """Return a hint at which key is stored, with at most its last four characters."""
    if not license_.api_key_ciphertext:
        return gettext("none")
    if not license_.api_key_hint:
        return gettext("stored")
    return gettext("ends in %(end)s") % {"end": license_.api_key_hint}


def _key_help(license_: License) -> str:
    if not license_.api_key_ciphertext:
        return gettext("From the gateway's dashboard. It is stored encrypted and never shown again.")
    if not license_.api_key_hint:
        told = gettext("A key is stored. Leave this empty to keep it; it is never shown.")
    else:
        told = gettext("A key that ends in %(end)s is stored. Leave this empty to keep it; it is never shown.") % {
            "end": license_.api_key_hint
        }
    return " ".join([told, gettext("You can get another one from the gateway's dashboard.")])
