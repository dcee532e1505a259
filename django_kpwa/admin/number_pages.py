"""Pages with a form for one number: send a message to another number, send a test message, check for WhatsApp."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables

from .. import license_actions, outbox, phone
from ..exceptions import InvalidMessageError, InvalidPhoneNumberError, RecipientForgottenError, RecipientStoppedError
from ..models import License, OutboundMessage
from ..words import Mark, Tone, Words
from .base import MAY_OPERATE, MAY_SEND, KpwaAdmin
from .buttons import refusal
from .gateway_failures import ASKING_ERRORS, failure_of
from .links import Links

if TYPE_CHECKING:
    from .license_admin import LicenseAdmin

SEND_TEST = _("Send a test message")
CHECK_NUMBER = _("Check a number")
_BACK = _("Back to the license")


class NumberForm(forms.Form):
    to = forms.CharField(
        label=_("Number"),
        max_length=phone.MAX_TYPED,
        help_text=_("For example 0812 3456 7890. A number of another country begins with + and its code."),
        widget=forms.TextInput(attrs={"type": "tel", "inputmode": "tel", "autocomplete": "off"}),
    )

    def clean_to(self) -> Any:
        """Return the number as typed, not parsed: the outbox stores what was typed beside the parsed number."""
        typed = self.cleaned_data["to"]
        try:
            phone.parse(typed)
        except InvalidPhoneNumberError:
            raise forms.ValidationError(gettext("This is not a phone number. Check its digits.")) from None
        return typed


def send_to_another_number(admin: KpwaAdmin, request: HttpRequest, object_id: str) -> HttpResponse:
    """Send a message's text to the number that the user typed, as a new message.

    Raises:
        PermissionDenied: The user may not send messages.
    """
    if not admin.may(request, MAY_SEND):
        raise PermissionDenied
    message: OutboundMessage = admin.get_object_or_404(request, object_id)
    form = _form(request)
    if form.is_valid():
        try:
            sent = outbox.send_to_another_number(message, form.cleaned_data["to"])
        except RecipientStoppedError:
            form.add_error("to", gettext("Nothing was sent: the owner of this number wants no messages."))
        except RecipientForgottenError:
            form.add_error(None, gettext("Nothing was sent: its number and its text were forgotten."))
        except InvalidMessageError:
            form.add_error(None, gettext("This message cannot be sent to another number."))
        else:
            words = gettext("Send to another number: %(recipient)s") % {"recipient": sent.masked_recipient}
            admin.log_change(request, message, words)
            admin.message_user(request, gettext("The message is queued for the other number."), messages.SUCCESS)
            return HttpResponseRedirect(admin.url_of("change", sent.pk))
    intro = gettext("The same text is sent to this number as a new message. The first message stays as it is.")
    title, back = gettext("Send to another number"), gettext("Back to the message")
    return _page(admin, request, message, form, title, intro, submit=gettext("Send"), back=back)


def send_test(admin: LicenseAdmin, request: HttpRequest, object_id: str) -> HttpResponse:
    """Queue a short test message to the number that the user typed."""
    for codename in (MAY_OPERATE, MAY_SEND):
        if not admin.may(request, codename):
            return refusal(admin, request, codename)
    license_: License = admin.get_object_or_404(request, object_id)
    form = _form(request)
    if form.is_valid():
        try:
            message = outbox.send_message(form.cleaned_data["to"], _test_text(license_), license=license_)
        except RecipientStoppedError:
            form.add_error("to", gettext("Nothing was sent: the owner of this number wants no messages."))
        except InvalidMessageError as error:
            form.add_error(None, error.reason)
        else:
            _log(admin, request, license_, SEND_TEST, message.masked_recipient)
            admin.message_user(request, gettext("The test message is queued."), messages.SUCCESS)
            page = Links(admin.admin_site, request).to_object(OutboundMessage, message.pk)
            return HttpResponseRedirect(page or admin.url_of("change", license_.pk))
    intro = gettext("A short message is sent to this number. Use a number whose phone you have at hand.")
    return _page(admin, request, license_, form, SEND_TEST, intro, submit=gettext("Send"), back=_BACK)


def check_number(admin: LicenseAdmin, request: HttpRequest, object_id: str) -> HttpResponse:
    """Ask the gateway whether the number that the user typed has WhatsApp, and show the result on the same page."""
    if not admin.may(request, MAY_OPERATE):
        return refusal(admin, request, MAY_OPERATE)
    license_: License = admin.get_object_or_404(request, object_id)
    form = _form(request)
    found: Mark | None = None
    if form.is_valid():
        found = _checked(admin, request, license_, phone.parse(form.cleaned_data["to"]))
    intro = gettext("The gateway is asked whether this number has WhatsApp. Nothing is sent to it.")
    return _page(admin, request, license_, form, CHECK_NUMBER, intro, submit=gettext("Check"), back=_BACK, found=found)


@sensitive_variables("number", "words")
def _checked(admin: LicenseAdmin, request: HttpRequest, license_: License, number: str) -> Mark | None:
    try:
        check = license_actions.check_number(license_, number, within_seconds=license_actions.WEB_SECONDS)
    except ASKING_ERRORS as error:
        failure = failure_of(error)
        _log(admin, request, license_, CHECK_NUMBER, failure.title)
        admin.message_user(request, failure.sentence, messages.ERROR)
        return None
    words = gettext("%(number)s has WhatsApp.") if check.is_registered else gettext("%(number)s has no WhatsApp.")
    _log(admin, request, license_, CHECK_NUMBER, words % {"number": phone.mask(number)})
    tone, symbol = (Tone.GOOD, "✓") if check.is_registered else (Tone.ATTENTION, "✕")
    return Mark(tone, symbol, words % {"number": phone.written(number)})


def _form(request: HttpRequest) -> NumberForm:
    return NumberForm(request.POST if request.method == "POST" else None)


def _test_text(license_: License) -> str:
    return gettext("This is a test message from %(name)s. It arrived, so receipts will, too.") % {"name": license_.name}


def _log(admin: KpwaAdmin, request: HttpRequest, obj: License, label: Words, words: Words) -> None:
    admin.log_change(request, obj, f"{label}: {words}")


def _page(
    admin: KpwaAdmin,
    request: HttpRequest,
    obj: License | OutboundMessage,
    form: NumberForm,
    title: Words,
    intro: str,
    *,
    submit: str,
    back: Words,
    found: Mark | None = None,
) -> TemplateResponse:
    context: dict[str, Any] = {
        "title": title,
        "original": obj,
        "form": form,
        "intro": intro,
        "submit": submit,
        "found": found,
        "back": back,
        "back_url": admin.url_of("change", obj.pk),
        "list_url": admin.url_of("changelist"),
    }
    return admin.render_page(request, "number.html", context)
