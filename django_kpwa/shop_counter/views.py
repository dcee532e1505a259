"""The views that a chip's buttons post to: they check the permissions, act, show the result, and redirect back."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable
from typing import Any

from django.apps import apps
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_POST

from .. import outbox, phone
from ..exceptions import InvalidMessageError, InvalidPhoneNumberError, RecipientForgottenError, RecipientStoppedError
from ..models import OutboundMessage, ReceiptFailure, StopReason
from ..receipts import registry
from ..site_urls import find_url, is_url_of_this_site
from ..words import FAILURES
from .chips import person_of

_View = Callable[..., HttpResponse]


def _pressed_by(*codenames: str) -> Callable[[_View], _View]:
    """Return a decorator for a view that accepts only POSTs by users with all these permissions.

    CSRF is checked even if the site has not installed `CsrfViewMiddleware`.
    """

    def decorator(view: _View) -> _View:
        # Without this, error reports would show the customer's number and text in this frame's variables.
        @sensitive_variables()
        @functools.wraps(view)
        def checked(request: HttpRequest, **named: Any) -> HttpResponse:
            person = person_of(request)
            if not all(person.may(codename) for codename in codenames):
                return _refused(request, person.user)
            return view(request, **named)

        return require_POST(never_cache(csrf_protect(checked)))

    return decorator


def _message(message_uuid: uuid.UUID) -> OutboundMessage:
    return get_object_or_404(OutboundMessage.objects.select_related("license"), uuid=message_uuid)


@_pressed_by("decide_outboundmessage")
def resend(request: HttpRequest, message_uuid: uuid.UUID) -> HttpResponse:
    """Queue a message again.

    A message in doubt, or reported as not delivered, needs `confirmed` in the POST, because the customer may get a
    second copy; without it, the confirmation page is returned.
    """
    message = _message(message_uuid)
    if outbox.arrived_elsewhere(message) is not None:
        messages.warning(request, _("Nothing was sent: it arrived at another number."), fail_silently=True)
        return HttpResponseRedirect(_back(request))
    if message.may_have_arrived and "confirmed" not in request.POST:
        return render(request, "django_kpwa/counter/confirm.html", {"back": _back(request), "address": request.path})
    try:
        queued = outbox.resend(message)
    except (RecipientStoppedError, RecipientForgottenError) as error:
        messages.warning(request, _why_not(error), fail_silently=True)
        return HttpResponseRedirect(_back(request))
    if queued:
        _log(request, message, _("Sent again from the counter."))
        messages.success(request, _("It will be sent again."), fail_silently=True)
    else:
        messages.warning(request, _("Nothing was sent: it is already on its way, or has arrived."), fail_silently=True)
    return HttpResponseRedirect(_back(request))


@_pressed_by("lift_recipient")
def asks_again(request: HttpRequest, message_uuid: uuid.UUID) -> HttpResponse:
    """End the stop of the message's number, because the customer asks for messages again."""
    message = _message(message_uuid)
    if outbox.asks_again(message):
        _log(request, message, _("The customer asks again: pressed at the counter."))
        messages.success(request, _("This number gets messages again. Nothing was sent."), fail_silently=True)
    else:
        words = _("Nothing was changed: messages to this number are not stopped.")
        messages.warning(request, words, fail_silently=True)
    return HttpResponseRedirect(_back(request))


@_pressed_by("decide_outboundmessage")
def send_message_now(request: HttpRequest, message_uuid: uuid.UUID) -> HttpResponse:
    """Send a message that was put off without further waiting."""
    message = _message(message_uuid)
    if outbox.send_now(message):
        _log(request, message, _("Sent from the counter without waiting."))
        messages.success(request, _("It will be sent."), fail_silently=True)
    else:
        messages.warning(request, _("Nothing was changed: it no longer waits for a later time."), fail_silently=True)
    return HttpResponseRedirect(_back(request))


@sensitive_post_parameters("to")
# Users can read a text by sending it to their own phone, so this requires the permission to view messages as well.
@_pressed_by("add_outboundmessage", "view_outboundmessage")
def send_to(request: HttpRequest, message_uuid: uuid.UUID) -> HttpResponse:
    """Send the message's text to the number `to` of the POST. If it is invalid, show the form again with status 422."""
    message, typed = _message(message_uuid), request.POST.get("to", "")
    try:
        copy = outbox.send_to_another_number(message, typed)
    except InvalidPhoneNumberError:
        return _ask_again(request, typed, _("This is not a phone number. Please check it."))
    except (RecipientStoppedError, RecipientForgottenError) as error:
        return _ask_again(request, typed, _why_not(error))
    except InvalidMessageError:
        return _ask_again(request, typed, _("This message cannot be sent to another number."))
    _log(request, message, _("Sent to another number from the counter."))
    words = _("It will be sent to %(number)s.") % {"number": copy.masked_recipient}
    messages.success(request, words, fail_silently=True)
    return HttpResponseRedirect(_back(request))


@_pressed_by("add_outboundmessage", "view_outboundmessage")
def send_now(request: HttpRequest, failure_id: int) -> HttpResponse:
    """Queue a receipt that failed before it became a message, once the cause has been fixed."""
    failure = get_object_or_404(ReceiptFailure, pk=failure_id)
    try:
        message = registry.try_again(failure)
    except LookupError:
        words = _("Nothing was sent: the site no longer has this receipt.")
        messages.error(request, words, fail_silently=True)
        return HttpResponseRedirect(_back(request))
    if message is not None and message.reason in StopReason.values:
        messages.warning(request, _why_not(), fail_silently=True)
    elif message is not None:
        _log(request, message, _("Sent from the counter, after it had failed."))
        messages.success(request, _("It will be sent."), fail_silently=True)
    elif (still := ReceiptFailure.objects.filter(pk=failure.pk).first()) is not None:
        row = FAILURES[still.cause]
        words = _("Nothing was sent: %(why)s. %(advice)s") % {"why": row.label, "advice": row.advice}
        messages.warning(request, words, fail_silently=True)
    else:
        messages.warning(request, _("Nothing was sent: the receipt is no longer wanted."), fail_silently=True)
    return HttpResponseRedirect(_back(request))


def _why_not(error: Exception | None = None) -> str:
    if isinstance(error, RecipientForgottenError):
        return _("Nothing was sent: its number and its text were forgotten.")
    return _("Nothing was sent: the owner of this number wants no messages.")


def _ask_again(request: HttpRequest, typed: str, error: str) -> HttpResponse:
    context = {"back": _back(request), "address": request.path, "typed": typed[: phone.MAX_TYPED], "error": error}
    return render(request, "django_kpwa/counter/send_to.html", context, status=422)


def _refused(request: HttpRequest, user: Any) -> HttpResponse:
    is_known = bool(getattr(user, "is_authenticated", False))
    context = {"back": _back(request), "is_known": is_known, "login": "" if is_known else find_url("admin:login")}
    return render(request, "django_kpwa/counter/refused.html", context, status=403)


def _back(request: HttpRequest) -> str:
    """Return the posted `next`, else the referring page, if that is a URL of this site; otherwise the site's root."""
    for wanted in (request.POST.get("next", ""), request.headers.get("Referer", "")):
        if is_url_of_this_site(request, wanted):
            return wanted
    return "/"


def _log(request: HttpRequest, message: OutboundMessage, words: str) -> None:
    """Record the action in the admin's log, if the admin is installed."""
    if not apps.is_installed("django.contrib.admin"):
        return
    from django.contrib.admin.models import CHANGE, LogEntry

    user: Any = request.user
    LogEntry.objects.log_actions(user.pk, [message], CHANGE, change_message=words, single_object=True)
