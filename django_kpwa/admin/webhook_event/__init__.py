"""What came in by webhook: what was understood of it, what it moved, and the body as it came.

Everybody who learns the webhook's address can fill these pages, so nothing of a body is ever more than escaped text.
What customers write is shown to who may view it, and never loaded or logged beyond that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.contrib.auth import get_permission_codename
from django.db.models import F, QuerySet
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Substr
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils import formats, timezone
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from ...conditions import event_mark, status_mark
from ...models import WebhookEvent
from ..dates import WhenFilter
from ..license_filter import LicenseFilter
from ..long_list import LongListAdmin
from ..many import press_many
from ..message_links import MessageLinks
from .bodies import body_of
from .reading import GIST_FIELDS, START_CHARACTERS, gist_of, parts_of
from .reprocessing import MOST_AT_ONCE, REPROCESS, tell
from .search import search_events
from .troubles import troubles_of
from .words import meaning_of

__all__ = ["WebhookEventAdmin"]


class WebhookEventAdmin(LongListAdmin):
    list_display = ["status_shown", "kind_shown", "gist", "received", "message_link", "license"]
    list_display_links = ["status_shown", "kind_shown"]
    list_filter = ["status", WhenFilter, "kind", ("license", LicenseFilter)]
    filtered_by = ["status", "kind", "license"]
    list_select_related = ["license"]
    search_fields = ["sender_number"]
    search_help_text = _("A customer's number as you would type it, the gateway's id of a message, or an event's id.")
    sortable_by = ["received"]
    ordering = ["-received_at", "-pk"]
    date_hierarchy = "received_at"
    actions = ["reprocess"]
    buttons = [REPROCESS]
    change_list_template = "admin/django_kpwa/webhookevent/change_list.html"
    change_form_template = "admin/django_kpwa/webhookevent/change_form.html"
    fields = ["license", "uuid", "gateway_id", "content_type", "processed_at", "tries", "next_try_at"]

    # The list

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookEvent]:
        # Of fifty events that may hold a megabyte each, the list takes two short texts.
        events: QuerySet[WebhookEvent] = super().get_queryset(request)
        return events.defer("body", "error", "understood").annotate(
            message_status=F("message__status"),
            **{
                f"{name}_start": Substr(KeyTextTransform(name, "understood"), 1, START_CHARACTERS)
                for name in GIST_FIELDS
            },
        )

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        troubles = troubles_of(self.url_of("changelist"), request.GET)
        return super().changelist_view(request, {**(extra_context or {}), "kpwa_troubles": troubles})

    def prepare_page(self, request: HttpRequest, records: Sequence[Any]) -> None:
        links = MessageLinks(self.admin_site, request)
        for event in records:
            event.kpwa_message_url = links.to(event.message_id)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[WebhookEvent], search_term: str
    ) -> tuple[QuerySet[WebhookEvent], bool]:
        return search_events(queryset, search_term), False

    @admin.display(description=_("status"))
    def status_shown(self, event: WebhookEvent) -> str:
        return _mark(event_mark(event.status))

    @admin.display(description=_("kind"))
    def kind_shown(self, event: WebhookEvent) -> str:
        return event.get_kind_display() if event.kind else self.get_empty_value_display()

    @admin.display(description=_("what it says"))
    def gist(self, event: WebhookEvent) -> str:
        who, what = gist_of({name: getattr(event, f"{name}_start", None) for name in GIST_FIELDS})
        return format_html('<span class="kpwa-who">{}</span> {}', who, what) if who else what

    @admin.display(description=_("message"))
    def message_link(self, event: WebhookEvent) -> str:
        status = getattr(event, "message_status", None)
        if status is None:
            return self.get_empty_value_display()
        mark = _mark(status_mark(status))
        address = getattr(event, "kpwa_message_url", "")
        return format_html('<a href="{}">{}</a>', address, mark) if address else mark

    @admin.display(description=_("received"), ordering="received_at")
    def received(self, event: WebhookEvent) -> str:
        at = formats.date_format(timezone.localtime(event.received_at), "SHORT_DATETIME_FORMAT")
        return f"{at} ({event.times_received}\N{NO-BREAK SPACE}×)" if event.times_received > 1 else at

    def has_reprocess_permission(self, request: HttpRequest) -> bool:
        return self.may(request, get_permission_codename("reprocess", self.opts))

    @admin.action(description=_("Process again"), permissions=["reprocess"])
    def reprocess(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        return press_many(self, request, queryset, REPROCESS, most=MOST_AT_ONCE, tell=tell)

    # The page of one

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        event = context.get("original")
        if event is not None:
            parts, more = parts_of(event)
            context |= {
                # Django's would say the status a second time.
                "subtitle": event.get_kind_display(),
                "kpwa_mark": event_mark(event.status),
                "kpwa_meaning": meaning_of(event),
                "kpwa_parts": parts,
                "kpwa_more_parts": more,
                "kpwa_body": body_of(event),
                "kpwa_message": event.message and status_mark(event.message.status),
                "kpwa_message_url": MessageLinks(self.admin_site, request).to(event.message_id),
            }
        return super().render_change_form(request, context, *args, **kwargs)


def _mark(mark: Any) -> str:
    return render_to_string("admin/django_kpwa/mark.html", {"mark": mark})
