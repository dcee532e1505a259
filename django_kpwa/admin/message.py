"""Messages in the admin, to look at: what was said to whom, what became of it, and every attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import QuerySet
from django.db.models.functions import Substr
from django.http import HttpRequest
from django.utils.text import Truncator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..models import OutboundMessage, SendAttempt
from .readonly import ReadOnlyModelAdmin

if TYPE_CHECKING:
    _TabularInline = admin.TabularInline[SendAttempt, OutboundMessage]
else:
    _TabularInline = admin.TabularInline

_START_CHARACTERS = 80
_ATTEMPT_FIELDS = (
    "number",
    "outcome",
    "cause",
    "started_at",
    "finished_at",
    "http_status",
    "code",
    "words",
    "gateway_id",
)


class AttemptInline(_TabularInline):
    model = SendAttempt
    fields = _ATTEMPT_FIELDS
    readonly_fields = _ATTEMPT_FIELDS
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Whoever may see a message may see how it was sent.
        return True


class MessageAdmin(ReadOnlyModelAdmin):
    list_display = ["status", "recipient", "first_line", "license", "created_at", "sent_at"]
    list_display_links = ["status", "recipient"]
    list_filter = ["status", "license"]
    list_select_related = ["license"]
    inlines = [AttemptInline]
    readonly_fields = ["source"]
    fieldsets = [
        (None, {"fields": ["status", "reason", "reason_words", "text", "image_url"]}),
        (_("Recipient"), {"fields": ["recipient", "recipient_typed", "recipient_type", "license", "source"]}),
        (
            _("Times"),
            {"fields": ["created_at", "due_at", "expires_at", "settled_at", "sent_at", "delivered_at", "read_at"]},
        ),
        (_("Details"), {"fields": ["uuid", "idempotency_key", "priority", "renderer", "rendered_at", "attempts_made"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[OutboundMessage]:
        # A list of fifty long receipts needs fifty first lines; the page of one loads its text when it shows it.
        messages: QuerySet[OutboundMessage] = super().get_queryset(request)
        return messages.defer("text", "reason_words").annotate(text_start=Substr("text", 1, _START_CHARACTERS + 1))

    @admin.display(description=_("first line"))
    def first_line(self, message: OutboundMessage) -> str:
        start = str(getattr(message, "text_start", "")).strip()
        if not start:
            return gettext("(written when it is sent)") if message.needs_rendering else gettext("(an image)")
        return Truncator(start.splitlines()[0]).chars(_START_CHARACTERS)

    @admin.display(description=_("about"))
    def source(self, message: OutboundMessage) -> str:
        content_type = message.source_content_type
        return f"{content_type.name} {message.source_id}" if content_type else ""
