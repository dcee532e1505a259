"""Sending a message's words to another number: a form of one field."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ... import phone
from ...exceptions import InvalidPhoneNumberError


class AnotherNumberForm(forms.Form):
    to = forms.CharField(
        label=_("Number"),
        max_length=phone.MAX_TYPED,
        help_text=_("For example 0812 3456 7890. A number of another country begins with + and its code."),
        widget=forms.TextInput(attrs={"type": "tel", "inputmode": "tel", "autocomplete": "off"}),
    )

    def clean_to(self) -> Any:
        typed = self.cleaned_data["to"]
        try:
            phone.parse(typed)
        except InvalidPhoneNumberError:
            raise forms.ValidationError(gettext("This is no phone number. Look at its digits again.")) from None
        return typed
