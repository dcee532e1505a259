"""What came in by webhook, to look at: what was understood of it, and the body as it came.

Everybody who learns the webhook's address can fill these pages, so nothing of a body is ever more than escaped text.
"""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.text import Truncator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..models import WebhookEvent
from .readonly import ReadOnlyModelAdmin

_LIST_CHARACTERS = 80
_BODY_BYTES_SHOWN = 64 * 1024


class WebhookEventAdmin(ReadOnlyModelAdmin):
    list_display = ["status", "kind", "sender", "text", "times_received", "message_link", "license", "received_at"]
    list_display_links = ["status", "kind"]
    list_filter = ["status", "kind", "license"]
    list_select_related = ["license"]
    readonly_fields = ["sender", "whole_text", "message_link", "understood_fields", "body_as_text"]
    fieldsets = [
        (None, {"fields": ["status", "kind", "sender", "whole_text", "message_link", "license", "error"]}),
        (_("Received"), {"fields": ["received_at", "last_received_at", "times_received", "processed_at", "tries"]}),
        (_("What was understood"), {"fields": ["gateway_id", "understood_fields"]}),
        (_("As it came"), {"fields": ["content_type", "body_as_text"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookEvent]:
        events: QuerySet[WebhookEvent] = super().get_queryset(request)
        return events.defer("body", "error")

    @admin.display(description=_("sender"))
    def sender(self, event: WebhookEvent) -> str:
        return _understood(event, "sender")

    @admin.display(description=_("text"))
    def text(self, event: WebhookEvent) -> str:
        return Truncator(_understood(event, "text")).chars(_LIST_CHARACTERS)

    @admin.display(description=_("text"))
    def whole_text(self, event: WebhookEvent) -> str:
        return _understood(event, "text")

    @admin.display(description=_("message"))
    def message_link(self, event: WebhookEvent) -> str:
        if event.message_id is None:
            return ""
        address = reverse(
            "admin:django_kpwa_outboundmessage_change", args=[event.message_id], current_app=self.admin_site.name
        )
        words = gettext("message %(number)s") % {"number": event.message_id}
        return format_html('<a href="{}">{}</a>', address, words)

    @admin.display(description=_("fields"))
    def understood_fields(self, event: WebhookEvent) -> str:
        return _preformatted(json.dumps(event.understood, indent=2, ensure_ascii=False))

    @admin.display(description=_("body"))
    def body_as_text(self, event: WebhookEvent) -> str:
        body = bytes(event.body)
        text = body[:_BODY_BYTES_SHOWN].decode("utf-8", "backslashreplace")
        if len(body) > _BODY_BYTES_SHOWN:
            text += "\n" + gettext("… and %(count)s bytes more") % {"count": len(body) - _BODY_BYTES_SHOWN}
        return _preformatted(text)


def _understood(event: WebhookEvent, name: str) -> str:
    understood: Any = event.understood
    value = understood.get(name) if isinstance(understood, dict) else None
    return "" if value is None else str(value)


def _preformatted(text: str) -> str:
    return format_html('<pre class="kpwa-raw">{}</pre>', text)
