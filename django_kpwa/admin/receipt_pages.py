"""The pages of the registered receipt classes: their list, and the preview of one class for an object."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.text import capfirst
from django.utils.timesince import timesince
from django.utils.translation import get_language_info, gettext

from .. import phone
from ..counts import count_up_to
from ..models import OutboundMessage, ReceiptFailure
from ..receipts import Receipt, Registration, registry, send_now
from ..receipts.missing import classes
from ..receipts.preview import known_messages, preview
from ..words import STATUSES
from .base import MAY_SEND, KpwaAdmin
from .bubble import Bubble, image_link, wa_html
from .buttons import confirmation
from .links import Links
from .receipt_preview import Objects, result_of

_DEFAULT_EVENT_ID = Receipt.get_event_id


class ReceiptPages:
    """The pages for one user. The caller checks the permissions to view receipts, and to add messages."""

    MAX_FAILURES_COUNTED = 100

    def __init__(self, admin: KpwaAdmin, request: HttpRequest) -> None:
        self._admin, self._request = admin, request

    def show_list(self, extra_context: dict[str, Any]) -> HttpResponse:
        links = Links(self._admin.admin_site, self._request)
        context = {
            "title": capfirst(self._admin.opts.verbose_name_plural),
            "receipts": [
                {
                    "description": _described(registration),
                    "url": self._admin.url_of("preview", registration.label),
                    "failures": self._failures_of(registration, links),
                }
                for registration in registry.registrations()
            ],
            "missing_url": self._admin.url_of("missing") if classes() else "",
            **extra_context,
        }
        return self._page("list.html", context)

    def _failures_of(self, registration: Registration, links: Links) -> dict[str, Any] | None:
        """Return the number of a class's failures, and the URL of their list; None if the user may not view it."""
        url = links.to_page(ReceiptFailure, "changelist", receipt=registration.label)
        if not url:
            return None
        failures = ReceiptFailure.objects.filter(receipt=registration.label)
        return {"count": count_up_to(self.MAX_FAILURES_COUNTED, failures), "url": url}

    def show_preview(self, label: str) -> HttpResponse:
        """Show the receipt that the object of the GET would get.

        Raises `Http404` for an unknown class, and `PermissionDenied` for a user who may not view its objects.
        """
        registration = _registration_or_404(label)
        objects = Objects(self._admin.admin_site, self._request, registration.model)
        typed = self._request.GET.get("pk", "").strip()
        obj = None
        if typed:
            objects.check_may_view()
            obj = objects.find(typed, registration.receipt)
        context = {
            "title": registration.name,
            "description": _described(registration),
            "label": label,
            "list_url": self._admin.url_of("changelist"),
            "may_view": objects.may_view,
            # Not the primary key of a link from a failure, which the user did not type.
            "typed": "" if obj is not None else typed,
            "newest": self._newest(registration, objects),
            **(self._previewed(registration, objects, obj) if obj is not None else {}),
        }
        return self._page("preview.html", context)

    def send_now(self, label: str) -> HttpResponse:
        """Send the receipt of the object of the POST, after a confirmation. Raises as `show_preview()` does."""
        registration = _registration_or_404(label)
        objects = Objects(self._admin.admin_site, self._request, registration.model)
        objects.check_may_view()
        obj = objects.get(self._request.POST.get("pk", ""))
        if obj is None:
            raise Http404
        back = self._preview_url(label, obj)
        shown = preview(registration, obj)
        if shown.known is not None:
            self._tell(gettext("It has this receipt already."), shown.known, messages.WARNING)
            return HttpResponseRedirect(back)
        if not shown.can_be_sent:
            self._tell_nothing_sent()
            return HttpResponseRedirect(back)
        if "confirmed" not in self._request.POST:
            asked = gettext("The receipt goes to %(number)s.") % {"number": phone.written(shown.recipient)}
            names, fields = [objects.name_of(obj, registration.receipt)], [("pk", str(obj.pk))]
            title = gettext("Send now")
            return confirmation(self._admin, self._request, title, [asked], names, back=back, fields=fields)
        self._send(registration, obj)
        return HttpResponseRedirect(back)

    def _send(self, registration: Registration, obj: Model) -> None:
        sent = send_now(obj, type(registration.receipt))
        if not sent:
            self._tell_nothing_sent()
            return
        label = gettext("Send now")
        self._admin.log_addition(self._request, sent[0], f"{label}: {registration.name}")
        self._tell(gettext("The receipt is queued."), sent[0], messages.SUCCESS)

    def _tell_nothing_sent(self) -> None:
        words = gettext("Nothing was sent. The reason is shown below.")
        self._admin.message_user(self._request, words, messages.WARNING)

    def _tell(self, words: str, message: OutboundMessage, level: int) -> None:
        address = self._url_of(message)
        if address:
            words = format_html('{} <a href="{}">{}</a>', words, address, gettext("Open the message"))
        self._admin.message_user(self._request, words, level)

    def _newest(self, registration: Registration, objects: Objects) -> list[dict[str, Any]]:
        newest = objects.newest() if objects.may_view else []
        known = known_messages(registration, newest)
        return [
            {
                "pk": obj.pk,
                "name": objects.name_of(obj, registration.receipt),
                "url": self._preview_url(registration.label, obj),
                "mark": STATUSES[known[obj.pk].status] if obj.pk in known else None,
            }
            for obj in newest
        ]

    def _previewed(self, registration: Registration, objects: Objects, obj: Model) -> dict[str, Any]:
        shown = preview(registration, obj)
        rendered = shown.rendered
        result_mark, result_words = result_of(shown)
        return {
            "chosen": obj,  # not `object`: admin themes treat that as the object that the page belongs to
            "object_name": objects.name_of(obj, registration.receipt),
            "object_url": objects.url_of(obj),
            "preview": shown,
            "recipient": phone.written(shown.recipient),
            "result_mark": result_mark,
            "result_words": result_words,
            "bubble": Bubble(text=wa_html(rendered.text), image=image_link(rendered.image_url)) if rendered else None,
            "message_mark": STATUSES[shown.known.status] if shown.known else None,
            "message_url": self._url_of(shown.known) if shown.known else "",
            "send_url": (
                self._admin.url_of("send_now", registration.label)
                if shown.can_be_sent and self._admin.may(self._request, MAY_SEND)
                else ""
            ),
        }

    def _url_of(self, message: OutboundMessage) -> str:
        """Return the URL of the message's page; empty if the message was purged or the user may not view it."""
        return (
            ""
            if message.was_purged
            else Links(self._admin.admin_site, self._request).to_object(OutboundMessage, message.pk)
        )

    def _preview_url(self, label: str, obj: Model) -> str:
        return f"{self._admin.url_of('preview', label)}?{urlencode({'pk': obj.pk})}"

    def _page(self, template: str, context: dict[str, Any]) -> HttpResponse:
        return self._admin.render_page(self._request, f"registeredreceipt/{template}", context)


def _registration_or_404(label: str) -> Registration:
    registration = registry.find(label)
    if registration is None:
        raise Http404
    return registration


def _described(registration: Registration) -> dict[str, str]:
    """Return what a receipt class declares, as text for people. `template` is empty if it renders its text itself."""
    receipt = registration.receipt
    has_own_ids = type(receipt).get_event_id is not _DEFAULT_EVENT_ID
    return {
        "name": registration.name,
        "about": (type(receipt).__doc__ or "").strip().partition("\n")[0],
        "model": str(capfirst(registration.model._meta.verbose_name)),
        "event": gettext("told apart by get_event_id()") if has_own_ids else receipt.event or type(receipt).__name__,
        "template": receipt.template_name,
        "language": _language(receipt.language),
        "max_age": _span(receipt.max_age),
        "expires_after": _span(receipt.expires_after),
    }


def _span(span: timedelta | None) -> str:
    if span is None:
        return gettext("no limit")
    now = timezone.now()
    return timesince(now - span, now)


def _language(code: str) -> str:
    try:
        name = str(get_language_info(code or settings.LANGUAGE_CODE)["name_translated"])
    except KeyError:
        name = code or settings.LANGUAGE_CODE
    return name if code else gettext("%(language)s (the site's)") % {"language": name}
