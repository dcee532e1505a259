"""Receipts in the admin: the registered classes, and the errors that they raised while an object was saved.

Of each class there is a preview of what it would send about an object, and a button that sends it now.

A preview shows a customer's number and purchase, so it needs both the permission to view receipts and the permission
to view the object's model.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin import ModelAdmin, SimpleListFilter
from django.core.exceptions import PermissionDenied
from django.db import router
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path
from django.utils import timezone
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.text import capfirst
from django.utils.timesince import timesince
from django.utils.translation import get_language_info, gettext
from django.utils.translation import gettext_lazy as _

from .. import phone
from ..containing import outside_transactions
from ..counts import count_up_to
from ..formatting import short_time
from ..models import OutboundMessage, ReceiptFailure, RegisteredReceipt, stored_name
from ..receipts import Receipt, Registration, registry, send_now
from ..receipts.missing import classes
from ..receipts.preview import known_messages, preview
from ..words import FAILURES, STATUSES
from .base import ReadOnlyAdmin
from .bubble import Bubble, image_link, wa_html
from .buttons import Button, Done, confirmation
from .links import Links, Source
from .long_list import LongListAdmin, WhenFilter
from .message_admin import MAY_DECIDE
from .receipt_missing import MissingPage
from .receipt_preview import Objects, result_of

MAX_SENT_AT_ONCE = 100
"""Maximum number of failures per press: the site's own receipt class runs for each, and may be slow."""
_DEFAULT_EVENT_ID = Receipt.get_event_id


class RegisteredReceiptAdmin(ReadOnlyAdmin):
    MAX_FAILURES_COUNTED = 100

    def get_urls(self) -> list[Any]:
        # None of Django's own URLs: there are no rows to add, change or delete.
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(self.changelist_view), name=self.url_name("changelist")),
            # Outside of a transaction: each receipt that is sent is committed by itself.
            path("missing/", outside_transactions(wrap(self.missing_view)), name=self.url_name("missing")),
            path(
                "missing/send/", outside_transactions(wrap(self.send_missing_view)), name=self.url_name("send_missing")
            ),
            path("<str:label>/", wrap(self.preview_view), name=self.url_name("preview")),
            path("<str:label>/send_now/", wrap(self.send_now_view), name=self.url_name("send_now")),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        self.check_may_view(request)
        links = Links(self.admin_site, request)
        context = {
            "title": capfirst(self.opts.verbose_name_plural),
            "receipts": [
                {
                    "description": _described(registration),
                    "url": self.url_of("preview", registration.label),
                    "failures": self._failures_of(registration, links),
                }
                for registration in registry.registrations()
            ],
            "missing_url": self.url_of("missing") if classes() else "",
            **(extra_context or {}),
        }
        return self._page(request, "list.html", context)

    def _failures_of(self, registration: Registration, links: Links) -> dict[str, Any] | None:
        """Return how often a class raised an error, and the URL of the list; None if the user may not view it."""
        url = links.to_page(ReceiptFailure, "changelist", receipt=registration.label)
        if not url:
            return None
        failures = ReceiptFailure.objects.filter(receipt=registration.label)
        return {"count": count_up_to(self.MAX_FAILURES_COUNTED, failures), "url": url}

    def missing_view(self, request: HttpRequest) -> HttpResponse:
        self.check_may_view(request)
        return MissingPage(self, request).show()

    def send_missing_view(self, request: HttpRequest) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        self.check_may_view(request)
        if not self.may(request, "add_outboundmessage"):
            raise PermissionDenied
        return MissingPage(self, request).send()

    def preview_view(self, request: HttpRequest, label: str) -> HttpResponse:
        self.check_may_view(request)
        registration = self._registration_or_404(label)
        objects = Objects(self.admin_site, request, registration.model)
        typed = request.GET.get("pk", "").strip()
        obj = None
        if typed:
            objects.check_may_view()
            obj = objects.find(typed, registration.receipt)
        context = {
            "title": registration.name,
            "description": _described(registration),
            "label": label,
            "list_url": self.url_of("changelist"),
            "may_view": objects.may_view,
            # The link from a failure names the primary key, which nobody types.
            "typed": "" if obj is not None else typed,
            "newest": self._newest(registration, objects),
            **(self._previewed(request, registration, objects, obj) if obj is not None else {}),
        }
        return self._page(request, "preview.html", context)

    def send_now_view(self, request: HttpRequest, label: str) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        self.check_may_view(request)
        if not self.may(request, "add_outboundmessage"):
            raise PermissionDenied
        registration = self._registration_or_404(label)
        objects = Objects(self.admin_site, request, registration.model)
        objects.check_may_view()
        obj = objects.get(request.POST.get("pk", ""))
        if obj is None:
            raise Http404
        back = self._preview_url(label, obj)
        shown = preview(registration, obj)
        if shown.known is not None:
            self._tell(request, gettext("It has this receipt already."), shown.known, messages.WARNING)
            return HttpResponseRedirect(back)
        if not shown.can_be_sent:
            self.message_user(request, gettext("Nothing was sent. The reason is shown below."), messages.WARNING)
            return HttpResponseRedirect(back)
        if "confirmed" not in request.POST:
            asked = gettext("The receipt goes to %(number)s.") % {"number": phone.written(shown.recipient)}
            names, fields = [objects.name_of(obj, registration.receipt)], [("pk", str(obj.pk))]
            return confirmation(self, request, gettext("Send now"), [asked], names, back=back, fields=fields)
        self._send(request, registration, obj)
        return HttpResponseRedirect(back)

    def _send(self, request: HttpRequest, registration: Registration, obj: Model) -> None:
        sent = send_now(obj, type(registration.receipt))
        if not sent:
            self.message_user(request, gettext("Nothing was sent. The reason is shown below."), messages.WARNING)
            return
        label = gettext("Send now")
        self.log_addition(request, sent[0], f"{label}: {registration.name}")
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
                "name": objects.name_of(obj, registration.receipt),
                "url": self._preview_url(registration.label, obj),
                "mark": STATUSES[known[obj.pk].status] if obj.pk in known else None,
            }
            for obj in newest
        ]

    def _previewed(
        self, request: HttpRequest, registration: Registration, objects: Objects, obj: Model
    ) -> dict[str, Any]:
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
            "message_url": self._url_of(request, shown.known) if shown.known else "",
            "send_url": (
                self.url_of("send_now", registration.label)
                if shown.can_be_sent and self.may(request, "add_outboundmessage")
                else ""
            ),
        }

    def _url_of(self, request: HttpRequest, message: OutboundMessage) -> str:
        """Return the URL of the message's page; empty if the message was purged or the user may not view it."""
        return "" if message.was_purged else Links(self.admin_site, request).to_object(OutboundMessage, message.pk)

    def _preview_url(self, label: str, obj: Model) -> str:
        return f"{self.url_of('preview', label)}?{urlencode({'pk': obj.pk})}"

    def _registration_or_404(self, label: str) -> Registration:
        registration = registry.find(label)
        if registration is None:
            raise Http404
        return registration

    def _page(self, request: HttpRequest, template: str, context: dict[str, Any]) -> TemplateResponse:
        return self.render_page(request, f"registeredreceipt/{template}", context)


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


# Failures


class ReceiptFilter(SimpleListFilter):
    """Offers the registered classes. Django's own filter would read the whole table to find the classes in it."""

    title = _("receipt")
    parameter_name = "receipt"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, Any]]:
        return [(each.label, each.name) for each in registry.registrations()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(receipt=self.value()) if self.value() else queryset


def _press_send_now(request: HttpRequest, failure: ReceiptFailure) -> Done:
    try:
        message = registry.try_again(failure)
    except LookupError:
        return Done(_("Nothing was sent: the site no longer has this receipt."), messages.ERROR, logged="")
    if message is not None:
        return Done(_("It will be sent."))
    still = ReceiptFailure.objects.filter(pk=failure.pk).first()
    if still is None:
        return Done(_("Nothing was sent: the receipt is no longer wanted."), messages.WARNING)
    row = FAILURES[still.cause]
    words = gettext("Nothing was sent: %(why)s. %(advice)s") % {"why": row.label, "advice": row.advice}
    return Done(words, messages.WARNING, logged="")


def _press_clear(request: HttpRequest, failure: ReceiptFailure) -> Done:
    failure.delete()
    return Done(_("Cleared."))


SEND_NOW = Button("send_now", _("Send now"), "add_outboundmessage", _press_send_now, is_primary=True)
CLEAR = Button(
    "clear",
    _("Clear"),
    MAY_DECIDE,
    _press_clear,
    confirm=_("The failure is no longer listed. The next save that fails lists it again. Nothing is sent."),
)


class ReceiptFailureAdmin(LongListAdmin):
    list_display = ["why", "source", "receipt_shown", "times", "occurred"]
    list_filter = [ReceiptFilter, WhenFilter]
    sortable_by = ["occurred"]
    ordering = ["-occurred_at", "-pk"]
    date_hierarchy = "occurred_at"
    readonly_fields = ["why", "what_to_do", "source", "receipt_shown", "occurred", "preview"]
    fields = ["why", "what_to_do", "source", "receipt_shown", "receipt", "error", "times", "occurred", "preview"]
    actions = ["send_now", "clear"]
    buttons = [SEND_NOW, CLEAR]

    def prepare_page(self, request: HttpRequest, records: Sequence[Any]) -> None:
        links = Links(self.admin_site, request)
        for failure in records:
            failure.kpwa_source = links.to_source_of(failure)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        failure = context.get("original")
        if failure is not None:
            self.prepare_page(request, [failure])
            failure.kpwa_preview_url = self._preview_url(request, failure)
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=_("about"))
    def source(self, failure: ReceiptFailure) -> str:
        source: Source | None = getattr(failure, "kpwa_source", None)
        return source.html if source else self.get_empty_value_display()

    @admin.display(description=_("receipt"))
    def receipt_shown(self, failure: ReceiptFailure) -> str:
        return registry.name_of_label(failure.receipt)

    @admin.display(description=_("try again"))
    def preview(self, failure: ReceiptFailure) -> str:
        address = getattr(failure, "kpwa_preview_url", "")
        if not address:
            return self.get_empty_value_display()
        return format_html('<a href="{}">{}</a>', address, gettext("Look at the preview"))

    @admin.display(description=_("why"))
    def why(self, failure: ReceiptFailure) -> str:
        return capfirst(str(FAILURES[failure.cause].label))

    @admin.display(description=_("what to do"))
    def what_to_do(self, failure: ReceiptFailure) -> str:
        return FAILURES[failure.cause].explained

    def has_send_permission(self, request: HttpRequest) -> bool:
        return self.may(request, SEND_NOW.permission)

    def has_clear_permission(self, request: HttpRequest) -> bool:
        return self.may(request, CLEAR.permission)

    @admin.action(description=_("Send now"), permissions=["send"])
    def send_now(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        return self.press_many(request, queryset, SEND_NOW, limit=MAX_SENT_AT_ONCE)

    @admin.action(description=_("Clear"), permissions=["clear"])
    def clear(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        return self.press_many(request, queryset, CLEAR)

    @admin.display(description=_("when"), ordering="occurred_at")
    def occurred(self, failure: ReceiptFailure) -> str:
        return short_time(failure.occurred_at)

    def _preview_url(self, request: HttpRequest, failure: ReceiptFailure) -> str:
        """Return the URL of the preview of the same receipt for the same object; empty if there is no such page."""
        registration = registry.find(failure.receipt)
        if registration is None or failure.source_database != stored_name(router.db_for_write(registration.model)):
            return ""  # the preview would show another object that has the same key in the model's own database
        links = Links(self.admin_site, request)
        return links.to_page(RegisteredReceipt, "preview", failure.receipt, pk=failure.source_id)
