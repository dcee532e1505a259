"""Trying a license out with one number: a test message to it, and whether it has WhatsApp at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables

from ... import linking, outbox, phone
from ...conditions import Mark, Tone, Words
from ...exceptions import InvalidMessageError
from ...models import License
from ..buttons import refusal
from ..message.another_number import AnotherNumberForm
from .failures import ASKING_ERRORS, failure_of
from .operations import MAY_OPERATE

if TYPE_CHECKING:
    from . import LicenseAdmin

MAY_SEND = "add_outboundmessage"
SEND_TEST = _("Send a test message")
CHECK_NUMBER = _("Check a number")


def send_test(admin: LicenseAdmin, request: HttpRequest, object_id: str) -> HttpResponse:
    """A form of one number; queues a short text to it."""
    for codename in (MAY_OPERATE, MAY_SEND):
        if not admin.may(request, codename):
            return refusal(admin, request, codename)
    license_ = admin.get_object_or_404(request, object_id)
    form = _form(request)
    if form.is_valid():
        try:
            message = outbox.send_message(form.cleaned_data["to"], _test_text(license_), license=license_)
        except InvalidMessageError as error:
            form.add_error(None, error.reason)
        else:
            _log(admin, request, license_, SEND_TEST, message.masked_recipient)
            admin.message_user(request, gettext("The test message is queued."), messages.SUCCESS)
            return HttpResponseRedirect(admin.page_of_message(request, message) or admin.url_of("change", license_.pk))
    intro = gettext("A short text goes to this number, as a receipt would. Choose a phone that you can look at.")
    return _page(admin, request, license_, form, SEND_TEST, intro, gettext("Send"))


def check_number(admin: LicenseAdmin, request: HttpRequest, object_id: str) -> HttpResponse:
    """A form of one number; asks the gateway whether it has WhatsApp, and says so on the same page."""
    if not admin.may(request, MAY_OPERATE):
        return refusal(admin, request, MAY_OPERATE)
    license_ = admin.get_object_or_404(request, object_id)
    form = _form(request)
    found: Mark | None = None
    if form.is_valid():
        found = _asked(admin, request, license_, phone.parse(form.cleaned_data["to"]))
    intro = gettext("The gateway is asked whether this number has WhatsApp. Nothing is sent to it.")
    return _page(admin, request, license_, form, CHECK_NUMBER, intro, gettext("Check"), found)


@sensitive_variables("number", "words")
def _asked(admin: LicenseAdmin, request: HttpRequest, license_: License, number: str) -> Mark | None:
    try:
        check = linking.check_number(license_, number, within_seconds=linking.WEB_SECONDS)
    except ASKING_ERRORS as error:
        failure = failure_of(error)
        _log(admin, request, license_, CHECK_NUMBER, failure.title)
        admin.message_user(request, failure.sentence, messages.ERROR)
        return None
    words = gettext("%(number)s has WhatsApp.") if check.is_registered else gettext("%(number)s has no WhatsApp.")
    _log(admin, request, license_, CHECK_NUMBER, words % {"number": phone.mask(number)})
    tone, symbol = (Tone.GOOD, "✓") if check.is_registered else (Tone.ATTENTION, "✕")
    return Mark(tone, symbol, words % {"number": phone.written(number)})


def _form(request: HttpRequest) -> AnotherNumberForm:
    return AnotherNumberForm(request.POST if request.method == "POST" else None)


def _test_text(license_: License) -> str:
    return gettext("This is a test message of %(name)s. It arrived, so receipts do, too.") % {"name": license_.name}


def _log(admin: LicenseAdmin, request: HttpRequest, license_: License, label: Words, words: Words) -> None:
    admin.log_change(request, license_, f"{label}: {words}")


def _page(
    admin: LicenseAdmin,
    request: HttpRequest,
    license_: License,
    form: forms.Form,
    title: Words,
    intro: str,
    press: str,
    found: Mark | None = None,
) -> TemplateResponse:
    context: dict[str, Any] = {
        **admin.admin_site.each_context(request),
        "opts": admin.opts,
        "title": title,
        "original": license_,
        "form": form,
        "intro": intro,
        "press": press,
        "found": found,
        "back": admin.url_of("change", license_.pk),
        "list_url": admin.url_of("changelist"),
    }
    request.current_app = admin.admin_site.name
    return TemplateResponse(request, "admin/django_kpwa/license/number.html", context)
