"""The registered receipt classes: what each would say about an object, and sending it now.

A preview shows a customer's number and purchase: who sees it may view receipts, and the object's model as well.
"""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.text import capfirst
from django.utils.translation import gettext

from ... import phone
from ...conditions import status_mark
from ...models import OutboundMessage, ReceiptFailure
from ...receipts import Registration, registry, send_now
from ...receipts.preview import known_messages, preview
from ..bubble import Bubble, image_link
from ..buttons import confirmation
from ..message_links import MessageLinks
from ..readonly import ReadOnlyModelAdmin
from ..whatsapp_text import wa_html
from .listing import described, failures_of
from .objects import Objects, name_of
from .verdict import verdict_of

__all__ = ["RegisteredReceiptAdmin"]


class RegisteredReceiptAdmin(ReadOnlyModelAdmin):
    def get_urls(self) -> list[Any]:
        # None of Django's own: there are no rows to add, change or delete.
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(self.changelist_view), name=self.url_name("changelist")),
            path("<str:label>/", wrap(self.preview_view), name=self.url_name("preview")),
            path("<str:label>/send_now/", wrap(self.send_now_view), name=self.url_name("send_now")),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        self._check_may_view(request)
        failures_url = self._failures_url(request)
        context = {
            "title": capfirst(self.opts.verbose_name_plural),
            "receipts": [
                {
                    "description": described(registration),
                    "url": self.url_of("preview", registration.label),
                    "failures": failures_of(registration, failures_url),
                }
                for registration in registry.registrations()
            ],
            **(extra_context or {}),
        }
        return self._page(request, "list.html", context)

    def preview_view(self, request: HttpRequest, label: str) -> HttpResponse:
        self._check_may_view(request)
        registration = self._registration_or_404(label)
        objects = Objects(self.admin_site, request, registration.model)
        typed = request.GET.get("pk", "").strip()
        obj = None
        if typed:
            objects.check_may_view()
            obj = objects.find(typed)
        context = {
            "title": type(registration.receipt).__name__,
            "description": described(registration),
            "label": label,
            "list_url": self.url_of("changelist"),
            "may_view": objects.may_view,
            "typed": typed,
            "newest": self._newest(registration, objects),
            **(self._previewed(request, registration, objects, obj) if obj is not None else {}),
        }
        return self._page(request, "preview.html", context)

    def send_now_view(self, request: HttpRequest, label: str) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        self._check_may_view(request)
        if not self.may(request, "add_outboundmessage"):
            raise PermissionDenied
        registration = self._registration_or_404(label)
        objects = Objects(self.admin_site, request, registration.model)
        objects.check_may_view()
        obj = objects.find(request.POST.get("pk", ""))
        if obj is None:
            raise Http404
        back = self._preview_url(label, obj)
        shown = preview(registration, obj)
        if shown.known is not None:
            self._tell(request, gettext("It has this receipt already."), shown.known, messages.WARNING)
            return HttpResponseRedirect(back)
        if not shown.can_be_sent:
            self.message_user(request, gettext("Nothing was sent. What stands below says why."), messages.WARNING)
            return HttpResponseRedirect(back)
        if "confirmed" not in request.POST:
            asked = gettext("The receipt goes to %(number)s.") % {"number": phone.written(shown.recipient)}
            return confirmation(
                self, request, gettext("Send now"), [asked], [name_of(obj)], back=back, fields=[("pk", str(obj.pk))]
            )
        self._send(request, registration, obj)
        return HttpResponseRedirect(back)

    def _send(self, request: HttpRequest, registration: Registration, obj: Model) -> None:
        sent = send_now(obj, type(registration.receipt))
        if not sent:
            self.message_user(request, gettext("Nothing was sent. What stands below says why."), messages.WARNING)
            return
        label = gettext("Send now")
        self.log_addition(request, sent[0], f"{label}: {registration.label}")
        self._tell(request, gettext("The receipt is queued."), sent[0], messages.SUCCESS)

    def _tell(self, request: HttpRequest, words: str, message: OutboundMessage, level: int) -> None:
        address = self._url_of(request, message)
        if address:
            words = format_html('{} <a href="{}">{}</a>', words, address, gettext("Open the message"))
        self.message_user(request, words, level)

    def _newest(self, registration: Registration, objects: Objects) -> list[dict[str, Any]]:
        newest = objects.newest() if objects.may_view else []
        known = known_messages(registration, newest)
        return [
            {
                "pk": obj.pk,
                "name": name_of(obj),
                "url": self._preview_url(registration.label, obj),
                "mark": status_mark(known[obj.pk].status) if obj.pk in known else None,
            }
            for obj in newest
        ]

    def _previewed(
        self, request: HttpRequest, registration: Registration, objects: Objects, obj: Model
    ) -> dict[str, Any]:
        shown = preview(registration, obj)
        rendered = shown.rendered
        return {
            "chosen": obj,  # `object` would be taken by themes for what the page belongs to
            "object_name": name_of(obj),
            "object_url": objects.url_of(obj),
            "preview": shown,
            "verdict": verdict_of(shown),
            "bubble": Bubble(text=wa_html(rendered.text), image=image_link(rendered.image_url)) if rendered else None,
            "message_mark": status_mark(shown.known.status) if shown.known else None,
            "message_url": self._url_of(request, shown.known) if shown.known else "",
            "send_url": (
                self.url_of("send_now", registration.label)
                if shown.can_be_sent and self.may(request, "add_outboundmessage")
                else ""
            ),
        }

    def _url_of(self, request: HttpRequest, message: OutboundMessage) -> str:
        """Address of the message's page, where there is one still."""
        return "" if message.was_purged else MessageLinks(self.admin_site, request).to(message.pk)

    def _preview_url(self, label: str, obj: Model) -> str:
        return f"{self.url_of('preview', label)}?{urlencode({'pk': obj.pk})}"

    def _failures_url(self, request: HttpRequest) -> str:
        """Address of the list of failures, for who may view it on this site."""
        if not self.admin_site.is_registered(ReceiptFailure):
            return ""
        failures = self.admin_site.get_model_admin(ReceiptFailure)
        if not isinstance(failures, ReadOnlyModelAdmin) or not failures.has_view_permission(request):
            return ""
        return failures.url_of("changelist")

    def _check_may_view(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied

    def _registration_or_404(self, label: str) -> Registration:
        registration = registry.find(label)
        if registration is None:
            raise Http404
        return registration

    def _page(self, request: HttpRequest, template: str, context: dict[str, Any]) -> TemplateResponse:
        request.current_app = self.admin_site.name
        return TemplateResponse(
            request,
            f"admin/django_kpwa/registeredreceipt/{template}",
            {**self.admin_site.each_context(request), "opts": self.opts, **context},
        )
