"""Messages in the admin: what was said to whom, what became of it, and what a person can still do about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth import get_permission_codename
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import path
from django.utils import formats, timezone
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_post_parameters

from ... import outbox
from ...conditions import status_mark
from ...exceptions import InvalidMessageError
from ...models import License, OutboundMessage
from ..bubble import bubble_of
from ..dates import WhenFilter
from ..license_filter import LicenseFilter
from ..long_list import LongListAdmin
from ..many import press_many
from ..sources import Source, Sources
from .another_number import AnotherNumberForm
from .decisions import CANCEL, DECISIONS, IT_ARRIVED, SEND_AGAIN
from .export import csv_response
from .filters import NeedsDecisionFilter
from .search import search_messages
from .timeline import timeline_of
from .words import first_line_of, instead_of_text, meaning_of, reason_of, recipient_of, starts_of

__all__ = ["MessageAdmin"]


class MessageAdmin(LongListAdmin):
    list_display = ["status_shown", "recipient_shown", "first_line", "created", "about", "license", "attempts_made"]
    list_display_links = ["status_shown", "recipient_shown"]
    list_filter = [NeedsDecisionFilter, "status", WhenFilter, ("license", LicenseFilter), "recipient_type"]
    filtered_by = ["status", "license", "recipient_type", "source_content_type", "source_id"]
    list_select_related = ["license"]
    search_fields = ["recipient"]
    search_help_text = _("A number as you would type it, a group's name, an idempotency key, or a message's id.")
    sortable_by = ["created"]
    ordering = ["-created_at", "-pk"]
    date_hierarchy = "created_at"
    actions = ["send_again", "it_arrived", "cancel", "export"]
    buttons = DECISIONS
    change_form_template = "admin/django_kpwa/outboundmessage/change_form.html"
    readonly_fields = ["about"]
    fieldsets = [
        (_("Recipient"), {"fields": ["recipient", "recipient_typed", "recipient_type", "license", "about"]}),
        (
            _("Times"),
            {"fields": ["created_at", "due_at", "expires_at", "settled_at", "sent_at", "delivered_at", "read_at"]},
        ),
        (_("Details"), {"fields": ["uuid", "idempotency_key", "priority", "renderer", "rendered_at", "attempts_made"]}),
    ]

    # The list

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        # One of the few messages about a source, which are found by its key.
        narrows = lookup == "source_database__exact" and "source_id__exact" in request.GET
        return narrows or super().lookup_allowed(lookup, value, request)

    def get_queryset(self, request: HttpRequest) -> QuerySet[OutboundMessage]:
        # A list of fifty long receipts needs fifty first lines; the page of one loads its text when it shows it.
        return starts_of(super().get_queryset(request))

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        # A shop with one license reads its name in no row.
        has_several = License.objects.order_by().values("pk")[:2].count() > 1
        return [column for column in self.list_display if has_several or column != "license"]

    def prepare_page(self, request: HttpRequest, records: Sequence[Any]) -> None:
        sources = Sources(self.admin_site, request)
        for message in records:
            message.kpwa_source = sources.of(message)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[OutboundMessage], search_term: str
    ) -> tuple[QuerySet[OutboundMessage], bool]:
        return search_messages(queryset, search_term), False

    @admin.display(description=_("status"))
    def status_shown(self, message: OutboundMessage) -> str:
        return render_to_string("admin/django_kpwa/mark.html", {"mark": status_mark(message.status)})

    @admin.display(description=_("recipient"))
    def recipient_shown(self, message: OutboundMessage) -> str:
        return recipient_of(message)

    @admin.display(description=_("first line"))
    def first_line(self, message: OutboundMessage) -> str:
        return first_line_of(message)

    @admin.display(description=_("when"), ordering="created_at")
    def created(self, message: OutboundMessage) -> str:
        return formats.date_format(timezone.localtime(message.created_at), "SHORT_DATETIME_FORMAT")

    @admin.display(description=_("about"))
    def about(self, message: OutboundMessage) -> str:
        source: Source | None = getattr(message, "kpwa_source", None)
        if source is None:
            return self.get_empty_value_display()
        return format_html('<a href="{}">{}</a>', source.url, source.name) if source.url else source.name

    # What is done to many

    def has_decide_permission(self, request: HttpRequest) -> bool:
        return self.may(request, get_permission_codename("decide", self.opts))

    @admin.action(description=_("Send again"), permissions=["decide"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        return press_many(self, request, queryset, SEND_AGAIN)

    @admin.action(description=_("It arrived"), permissions=["decide"])
    def it_arrived(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        return press_many(self, request, queryset, IT_ARRIVED)

    @admin.action(description=_("Cancel"), permissions=["decide"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        return press_many(self, request, queryset, CANCEL)

    @admin.action(description=_("Export as CSV"), permissions=["view"])
    def export(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        return csv_response(queryset)

    # The page of one

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        message = context.get("original")
        if message is not None:
            message.kpwa_source = Sources(self.admin_site, request).of(message)
            context |= {
                # Django's would say the status a second time.
                "subtitle": recipient_of(message),
                "kpwa_mark": status_mark(message.status),
                "kpwa_meaning": meaning_of(message),
                "kpwa_reason": reason_of(message),
                "kpwa_bubble": bubble_of(message, instead=instead_of_text(message)),
                "kpwa_timeline": timeline_of(message),
                "kpwa_another_number": self._another_number_url(request, message),
            }
        return super().render_change_form(request, context, *args, **kwargs)

    # To another number

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.another_number_view)
        return [
            path("<path:object_id>/another_number/", view, name=self.url_name("another_number")),
            *super().get_urls(),
        ]

    @method_decorator(sensitive_post_parameters("to"))
    def another_number_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        if not self.may(request, "add_outboundmessage"):
            raise PermissionDenied
        message = self.get_object_or_404(request, object_id)
        form = AnotherNumberForm(request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid():
            try:
                return self._send_to(request, message, form.cleaned_data["to"])
            except InvalidMessageError as error:
                form.add_error(None, error.reason)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": gettext("Send to another number"),
            "original": message,
            "form": form,
            "back": self.url_of("change", message.pk),
            "list_url": self.url_of("changelist"),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/django_kpwa/outboundmessage/another_number.html", context)

    def _send_to(self, request: HttpRequest, message: OutboundMessage, to: str) -> HttpResponse:
        sent = outbox.send_to_another_number(message, to)
        words = gettext("Send to another number: %(recipient)s") % {"recipient": sent.masked_recipient}
        self.log_change(request, message, words)
        self.message_user(request, gettext("The message is queued for the other number."), messages.SUCCESS)
        return HttpResponseRedirect(self.url_of("change", sent.pk))

    def _another_number_url(self, request: HttpRequest, message: OutboundMessage) -> str:
        # A text that is not written yet can't be copied.
        if message.needs_rendering or not self.may(request, "add_outboundmessage"):
            return ""
        return self.url_of("another_number", message.pk)
