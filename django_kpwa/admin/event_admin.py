"""Webhook events in the admin: the parsed content of each, the message that it is about, and its body as received.

Anyone who knows the webhook's address can choose what these pages show, so a body is only ever shown as escaped text.
Customers' texts are shown to users allowed to view events; everywhere else they are neither loaded nor logged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth import get_permission_codename
from django.db.models import F, QuerySet
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Substr
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..counts import count_up_to
from ..formatting import date_and_second, short_time
from ..models import NOT_UNDERSTOOD, OutboundMessage, WebhookEvent
from ..words import EVENT_STATUSES, STATUSES, Tone, event_row, status_row
from .base import mark_html
from .buttons import Button, ButtonsAdmin, Done, counted
from .links import Links
from .long_list import LicenseFilter, LongListAdmin, WhenFilter, has_several_licenses
from .message_lines import recipient_of

MAX_REPROCESSED_AT_ONCE = 100
"""Maximum number of events per press: the site's own signal receivers run for each event, and may be slow."""

_LEVELS = {Tone.GOOD: messages.SUCCESS, Tone.BAD: messages.ERROR}
_BUSY = _("Nothing was done: it is being processed right now.")
_NO_BODY = _("Nothing was done: its body was not kept.")
_GONE = _("Nothing was done: it has been deleted.")


def _press(request: HttpRequest, event: WebhookEvent) -> Done:
    from ..webhooks import reprocess

    if not event.body:
        return Done(_NO_BODY, messages.WARNING, logged="")
    if not reprocess(event):  # another process holds the event
        return Done(_BUSY, messages.WARNING, logged="")
    status = WebhookEvent.objects.filter(pk=event.pk).values_list("status", flat=True).first()
    if status is None:
        return Done(_GONE, messages.WARNING, logged="")
    row = EVENT_STATUSES[status]
    return Done(row.report, _LEVELS.get(row.tone, messages.WARNING))


REPROCESS = Button("reprocess", _("Process again"), "reprocess_webhookevent", _press)


def _summarise(admin: ButtonsAdmin, request: HttpRequest, done: Sequence[Done], skipped: int) -> None:
    """Show the number of events for each result."""
    for (words, level), count in Counter((str(each.words), each.level) for each in done).items():
        told = gettext("%(what)s: %(outcome)s") % {"what": counted(admin, count), "outcome": words}
        admin.message_user(request, told, level)


_STATUS_PARAMETER = "status__exact"


class WebhookEventAdmin(LongListAdmin):
    when_empty = _(
        "Nothing has come from the gateway yet. Without the webhook there are no delivery ticks and no answers: press "
        "Register the webhook on a license's page."
    )
    MAX_COUNTED = 1000
    """Events of one status are counted up to this number for the links above the list."""

    list_display = ["status_shown", "gist", "received", "message_link"]
    list_display_links = ["status_shown"]
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
        from .event_content import GIST_FIELDS, START_CHARACTERS

        # Each event may hold a megabyte, of which the list shows two short texts: only their beginnings are read.
        events: QuerySet[WebhookEvent] = super().get_queryset(request)
        return events.defer("body", "error", "understood").annotate(
            message_status=F("message__status"),
            **{
                f"{name}_start": Substr(KeyTextTransform(name, "understood"), 1, START_CHARACTERS)
                for name in GIST_FIELDS
            },
        )

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        troubles = self._troubles(request.GET)
        return super().changelist_view(request, {**(extra_context or {}), "kpwa_troubles": troubles})

    def _troubles(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return the links above the list to events that were not understood, counted up to `MAX_COUNTED` per status.

        `is_chosen` is True if the list shows these events now.
        """
        chosen, list_url = query.get(_STATUS_PARAMETER, ""), self.url_of("changelist")
        events = {status: WebhookEvent.objects.filter(status=status) for status in NOT_UNDERSTOOD}
        counts = {status: count_up_to(self.MAX_COUNTED, found) for status, found in events.items()}
        return [
            {
                "mark": EVENT_STATUSES[status],
                "count": count,
                "url": f"{list_url}?{urlencode({_STATUS_PARAMETER: status.value})}",
                "is_chosen": chosen == status,
            }
            for status, count in counts.items()
            if count or chosen == status
        ]

    def prepare_page(self, request: HttpRequest, records: Sequence[Any]) -> None:
        links = Links(self.admin_site, request)
        has_several = has_several_licenses()
        for event in records:
            event.kpwa_names_license = has_several
            event.kpwa_message_url = links.to_object(OutboundMessage, event.message_id) if event.message_id else ""

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[WebhookEvent], search_term: str
    ) -> tuple[QuerySet[WebhookEvent], bool]:
        from .search import search_events

        return search_events(queryset, search_term), False

    @admin.display(description=_("status"))
    def status_shown(self, event: WebhookEvent) -> str:
        kind = event.get_kind_display() if event.kind else ""
        return format_html('{}<span class="kpwa-under">{}</span>', mark_html(EVENT_STATUSES[event.status]), kind)

    @admin.display(description=_("what it says"))
    def gist(self, event: WebhookEvent) -> str:
        from .event_content import GIST_FIELDS, gist_of

        who, what = gist_of({name: getattr(event, f"{name}_start", None) for name in GIST_FIELDS})
        return format_html('<span class="kpwa-who">{}</span> {}', who, what) if who else what

    @admin.display(description=_("message"))
    def message_link(self, event: WebhookEvent) -> str:
        status = getattr(event, "message_status", None)
        if status is None:
            return self.get_empty_value_display()
        mark = mark_html(STATUSES[status])
        address = getattr(event, "kpwa_message_url", "")
        return format_html('<a href="{}">{}</a>', address, mark) if address else mark

    @admin.display(description=_("received"), ordering="received_at")
    def received(self, event: WebhookEvent) -> str:
        at = short_time(event.received_at)
        shown = f"{at} ({event.times_received}\N{NO-BREAK SPACE}×)" if event.times_received > 1 else at
        if not event.kpwa_names_license:  # type: ignore[attr-defined]
            return shown
        return format_html('{}<span class="kpwa-under">{}</span>', shown, event.license.name)

    def has_reprocess_permission(self, request: HttpRequest) -> bool:
        return self.may(request, get_permission_codename("reprocess", self.opts))

    @admin.action(description=_("Process again"), permissions=["reprocess"])
    def reprocess(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        return self.press_many(request, queryset, REPROCESS, limit=MAX_REPROCESSED_AT_ONCE, summarise=_summarise)

    # The page of one event

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        from .event_content import body_of, parts_of

        event = context.get("original")
        if event is not None:
            self.prepare_page(request, [event])
            parts, more = parts_of(event)
            context |= {
                # Django's subtitle would repeat the status.
                "subtitle": event.get_kind_display() if event.kind else "",
                "kpwa_status": event_row(event),
                "kpwa_parts": parts,
                "kpwa_more_parts": more,
                "kpwa_body": body_of(event),
                "kpwa_message": event.message and status_row(event.message),
                "kpwa_message_url": event.kpwa_message_url,
                "kpwa_recipient": event.message and recipient_of(event.message),
                "kpwa_received_at": date_and_second(event.received_at),
                "kpwa_last_received_at": date_and_second(event.last_received_at),
            }
        return super().render_change_form(request, context, *args, **kwargs)
