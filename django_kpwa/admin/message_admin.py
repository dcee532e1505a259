"""Messages in the admin: their recipient, text and status, and the decisions that a user can still make about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth import get_permission_codename
from django.db import DatabaseError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_post_parameters

from .. import outbox, personal_data, ticks
from ..exceptions import RecipientForgottenError, RecipientStoppedError
from ..formatting import short_time
from ..license_conditions import held_by
from ..models import Dashboard, OutboundMessage, RecipientType, Status
from ..store.locks import waited_too_long
from ..words import NOT_ON_WHATSAPP, Words, reason_row, status_row, who_said
from .base import MAY_DECIDE, MAY_FORGET, MAY_LIFT, MAY_SEND, mark_html
from .buttons import Button, Done, OfferedButton
from .links import Links, Source
from .long_list import LicenseFilter, LongListAdmin, WhenFilter, has_several_licenses
from .message_lines import first_line_of, instead_of_text, lines_repeated_in, recipient_of, starts_of

COMPARED = 10
"""Number of the newest messages whose first lines are compared with those of a page."""
FORGET_SECONDS = 10.0
"""Time limit of a page for searching webhook events."""
SECOND_COPY = _("The customer may get a second copy of a message that did arrive after all.")


def _pressing(
    decide: Callable[[OutboundMessage], bool], words: Words
) -> Callable[[HttpRequest, OutboundMessage], Done]:
    def press(request: HttpRequest, message: OutboundMessage) -> Done:
        if decide(message):
            return Done(words)
        told = gettext("Nothing was changed: the message is now “%(status)s”.")
        return Done(told % {"status": message.get_status_display()}, messages.WARNING, logged="")

    return press


_resend = _pressing(outbox.resend, _("The message is queued again."))


def _press_send_again(request: HttpRequest, message: OutboundMessage) -> Done:
    if outbox.arrived_elsewhere(message) is not None:
        return Done(_("Nothing was sent: it arrived at another number."), messages.WARNING, logged="")
    try:
        return _resend(request, message)
    except RecipientStoppedError:
        return Done(_("Nothing was sent: the owner of this number wants no messages."), messages.WARNING, logged="")
    except RecipientForgottenError:
        return Done(_("Nothing was sent: its number and its text were forgotten."), messages.WARNING, logged="")


def _press_asks_again(request: HttpRequest, message: OutboundMessage) -> Done:
    if outbox.asks_again(message):
        return Done(_("This number gets messages again. Nothing was sent."))
    return Done(_("Nothing was changed: messages to this number are not stopped."), messages.WARNING, logged="")


def _press_forget(request: HttpRequest, message: OutboundMessage) -> Done:
    if not _is_to_known_number(message):
        return Done(_("Nothing was changed: it has no number."), messages.WARNING, logged="")
    try:
        told = personal_data.forget(message.recipient, within_seconds=FORGET_SECONDS)
    except DatabaseError as error:
        if not waited_too_long(error):
            raise
        return Done(_("Not all of it was emptied: a row is in use. Try again in a minute."), messages.WARNING)
    message.refresh_from_db()
    words = gettext("Emptied: %(messages)s messages and %(events)s webhook events.") % asdict(told)
    if not told.is_complete:
        left = gettext("There was no time to look through all events; the site's developer can: %(command)s")
        return Done(f"{words} {left % {'command': 'manage.py kpwa forget'}}", messages.WARNING)
    if not told.is_done:
        left = gettext("Something is still on its way. Do the same again in a minute, on that message's page.")
        return Done(f"{words} {left}", messages.WARNING)
    return Done(words)


def _is_to_known_number(message: OutboundMessage) -> bool:
    return message.recipient_type == RecipientType.NUMBER and not message.is_forgotten


SEND_AGAIN = Button(
    "send_again",
    _("Send again"),
    MAY_DECIDE,
    _press_send_again,
    confirm=SECOND_COPY,
    # No question for messages that failed, expired or were cancelled, because they did not arrive.
    confirm_for=lambda message: SECOND_COPY if message.may_have_arrived else "",
    is_offered=lambda message: (
        message.can_be_resent and not message.is_stopped and outbox.arrived_elsewhere(message) is None
    ),
    is_primary=True,
)
ASKS_AGAIN = Button(
    "asks_again",
    _("The customer asks again"),
    MAY_LIFT,
    _press_asks_again,
    confirm=_("Press this only if the customer has asked for messages again. It holds for every license."),
    is_offered=lambda message: message.is_stopped,
)
SEND_NOW = Button(
    "send_now",
    _("Send now"),
    MAY_DECIDE,
    _pressing(outbox.send_now, _("It will be sent.")),
    is_offered=lambda message: message.can_be_sent_now,
)
IT_ARRIVED = Button(
    "it_arrived",
    _("It arrived"),
    MAY_DECIDE,
    _pressing(outbox.mark_sent, _("The message is marked as sent.")),
    is_offered=lambda message: message.status == Status.UNKNOWN,
)
LEAVE_IT = Button(
    "leave_it",
    _("Leave it"),
    MAY_DECIDE,
    _pressing(outbox.dismiss, _("The message is left as it is.")),
    is_offered=lambda message: message.status == Status.UNKNOWN and message.dismissed_at is None,
)
CANCEL = Button(
    "cancel",
    _("Cancel"),
    MAY_DECIDE,
    _pressing(outbox.cancel, _("The message was cancelled.")),
    confirm=_("It will not be sent."),
    is_offered=lambda message: message.status == Status.QUEUED,
)
FORGET = Button(
    "forget",
    _("Forget this number…"),
    MAY_FORGET,
    _press_forget,
    confirm=_(
        "All that this app holds about this number is emptied, for every license: the number, texts, pictures, answers "
        "and keys, in messages and webhook events. What waits is cancelled. Nobody can bring it back. If its owner "
        "asked to stop, that still holds."
    ),
    is_offered=_is_to_known_number,
)

DECISIONS = (SEND_AGAIN, SEND_NOW, ASKS_AGAIN, IT_ARRIVED, LEAVE_IT, CANCEL)


def _is_for_another_number(message: OutboundMessage) -> bool:
    """True if sending to the same number again does not help: it has no WhatsApp, or a copy went to another number."""
    return reason_row(message) is NOT_ON_WHATSAPP or message.copied_to_id is not None


class YesFilter(admin.SimpleListFilter):
    """Base of filters that offer a part of the messages, or all."""

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, Any]]:
        return [("yes", _("yes"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return self.part_of(queryset) if self.value() == "yes" else queryset

    def part_of(self, messages: Any) -> QuerySet[Any]:
        raise NotImplementedError


class NeedsDecisionFilter(YesFilter):
    title = _("needs a decision")
    parameter_name = "needs_decision"

    def part_of(self, messages: Any) -> QuerySet[Any]:
        return messages.undecided()  # type: ignore[no-any-return]


class UndeliveredFilter(YesFilter):
    title = _("reported as not delivered")
    parameter_name = "undelivered"

    def part_of(self, messages: Any) -> QuerySet[Any]:
        return messages.undelivered()  # type: ignore[no-any-return]


class MessageAdmin(LongListAdmin):
    when_empty = _(
        "There is no message yet. Receipts come here by themselves; to try it, press Send a test message on a "
        "license's page."
    )
    list_display = ["status_shown", "recipient_shown", "content", "created"]
    list_display_links = ["status_shown", "recipient_shown"]
    list_filter = [
        NeedsDecisionFilter,
        UndeliveredFilter,
        "status",
        WhenFilter,
        ("license", LicenseFilter),
        "recipient_type",
    ]
    filtered_by = ["status", "license", "recipient_type", "source_content_type", "source_id"]
    list_select_related = ["license"]
    search_fields = ["recipient"]
    search_help_text = _(
        "A number or three of its digits, a group, a reference, words of the message or of the customer's answer. "
        "Parts are found in the newest messages."
    )
    sortable_by = ["created"]
    ordering = ["-created_at", "-pk"]
    date_hierarchy = "created_at"
    actions = ["send_again", "send_now", "it_arrived", "cancel", "export"]
    buttons = (*DECISIONS, FORGET)
    change_form_template = "admin/django_kpwa/outboundmessage/change_form.html"
    readonly_fields = ["about"]
    fieldsets = [
        (_("Recipient"), {"fields": ["recipient", "recipient_typed", "recipient_type", "license", "about"]}),
        (
            _("Times"),
            {
                "fields": [
                    "created_at",
                    "first_due_at",
                    "due_at",
                    "expires_at",
                    "settled_at",
                    "sent_at",
                    "delivered_at",
                    "read_at",
                    "undelivered_at",
                ]
            },
        ),
        (_("Details"), {"fields": ["uuid", "idempotency_key", "priority", "renderer", "rendered_at", "attempts_made"]}),
    ]

    # The list

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        # Only together with the source's key: the index on that key leaves few rows to filter by database.
        narrows = lookup == "source_database__exact" and "source_id__exact" in request.GET
        return narrows or super().lookup_allowed(lookup, value, request)

    def get_queryset(self, request: HttpRequest) -> QuerySet[OutboundMessage]:
        # The list needs only the first lines of texts. The page of one message loads the deferred text by itself.
        return starts_of(super().get_queryset(request))

    def prepare_page(self, request: HttpRequest, records: Sequence[Any]) -> None:
        links = Links(self.admin_site, request)
        # Compared with the newest messages, because a single receipt does not show which lines every receipt has.
        newest = starts_of(OutboundMessage.objects.order_by("-pk"))[:COMPARED]
        repeated = lines_repeated_in([*records, *newest])
        # With a single license, its name in every row would be no information.
        has_several = has_several_licenses()
        ticks.mark_lacking(records)
        for message in records:
            message.kpwa_source = links.to_source_of(message)
            message.kpwa_first_line = first_line_of(message, repeated)
            message.kpwa_names_license = has_several

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[OutboundMessage], search_term: str
    ) -> tuple[QuerySet[OutboundMessage], bool]:
        from .search import search_messages

        return search_messages(queryset, search_term), False

    @admin.display(description=_("status"))
    def status_shown(self, message: OutboundMessage) -> str:
        mark = mark_html(status_row(message))
        if message.license is None or not message.kpwa_names_license:  # type: ignore[attr-defined]
            return mark
        return format_html('{}<span class="kpwa-under">{}</span>', mark, message.license.name)

    @admin.display(description=_("recipient"))
    def recipient_shown(self, message: OutboundMessage) -> str:
        is_number = message.recipient_type == RecipientType.NUMBER
        shape = '<span class="kpwa-digits">{}</span>' if is_number else '<span class="kpwa-group">{}</span>'
        return format_html(shape, recipient_of(message))

    @admin.display(description=_("about"))
    def content(self, message: OutboundMessage) -> str:
        """Return the message's source, and below it the first meaningful line of its text; neither wraps."""
        source: Source | None = message.kpwa_source  # type: ignore[attr-defined]
        line: str = message.kpwa_first_line  # type: ignore[attr-defined]
        if source is None:
            return format_html('<span class="kpwa-line">{}</span>', line)
        return format_html(
            '<span class="kpwa-line" title="{}">{}</span><span class="kpwa-under">{}</span>',
            source.name,
            source.html,
            line,
        )

    @admin.display(description=_("when"), ordering="created_at")
    def created(self, message: OutboundMessage) -> str:
        return short_time(message.created_at)

    @admin.display(description=_("about"))
    def about(self, message: OutboundMessage) -> str:
        source: Source | None = getattr(message, "kpwa_source", None)
        return source.html if source else self.get_empty_value_display()

    # Actions on many

    def has_decide_permission(self, request: HttpRequest) -> bool:
        return self.may(request, get_permission_codename("decide", self.opts))

    @admin.action(description=_("Send again"), permissions=["decide"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        return self.press_many(request, queryset, SEND_AGAIN)

    @admin.action(description=_("Send now"), permissions=["decide"])
    def send_now(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        return self.press_many(request, queryset, SEND_NOW)

    @admin.action(description=_("It arrived"), permissions=["decide"])
    def it_arrived(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        return self.press_many(request, queryset, IT_ARRIVED)

    @admin.action(description=_("Cancel"), permissions=["decide"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        return self.press_many(request, queryset, CANCEL)

    @admin.action(description=_("Export as CSV"), permissions=["view"])
    def export(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        from .message_export import csv_response

        return csv_response(queryset)

    def called(self, obj: Any) -> str:
        # Not `str(obj)`, in which the number is masked for logs.
        parts = (recipient_of(obj), obj.source_reference, str(status_row(obj).label))
        return " · ".join(filter(None, parts))

    # The page of one message

    def prepare_buttons(self, objects: Sequence[Any]) -> None:
        outbox.mark_stopped(objects)

    def offered_buttons(self, request: HttpRequest, obj: Any) -> list[OfferedButton]:
        offered = super().offered_buttons(request, obj)
        if not _is_for_another_number(obj):
            return offered
        return [OfferedButton(each.button._replace(is_primary=False), each.url) for each in offered]

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        from ..health import nobody_sends
        from .bubble import bubble_of
        from .message_timeline import timeline_of

        message = context.get("original")
        if message is not None:
            self.prepare_page(request, [message])
            message.refresh_from_db(fields=["reason_words"])  # deferred, and `reason_row()` does not load it
            # A message without a license waits for the choice of one first.
            is_for_a_sender = message.status == Status.QUEUED and message.license_id is not None
            context |= {
                # Django's subtitle would repeat the status.
                "subtitle": recipient_of(message),
                "kpwa_status": status_row(message),
                "kpwa_held": held_by(message),
                "kpwa_nobody_sends": nobody_sends() if is_for_a_sender else None,
                "kpwa_dashboard_url": Links(self.admin_site, request).to_page(Dashboard, "changelist"),
                "kpwa_reason": reason_row(message),
                "kpwa_who_said": who_said(message),
                "kpwa_bubble": bubble_of(message, instead=instead_of_text(message)),
                "kpwa_timeline": timeline_of(message),
                "kpwa_is_for_another": _is_for_another_number(message),
                "kpwa_another_number": self._another_number_url(request, message),
                "kpwa_copy": self._copy_of(request, message),
            }
        return super().render_change_form(request, context, *args, **kwargs)

    def get_urls(self) -> list[Any]:
        from .number_pages import send_to_another_number

        hidden = sensitive_post_parameters("to")(partial(send_to_another_number, self))
        view = self.admin_site.admin_view(hidden)
        name = self.url_name("another_number")
        # Before Django's own URLs, whose last pattern `<path:object_id>/` matches everything.
        return [path("<path:object_id>/another_number/", view, name=name), *super().get_urls()]

    def _copy_of(self, request: HttpRequest, message: OutboundMessage) -> dict[str, Any] | None:
        """Return what is shown of the copy for another number: the one that arrived, else the newest."""
        if message.copied_to_id is None:
            return None
        newest = OutboundMessage.objects.defer("text").filter(pk=message.copied_to_id).first()
        copy = outbox.arrived_elsewhere(message) or newest
        if copy is None:
            return None
        return {"recipient": recipient_of(copy), "mark": status_row(copy), "url": self.url_of("change", copy.pk)}

    def _another_number_url(self, request: HttpRequest, message: OutboundMessage) -> str:
        # A text that is rendered only when the message is sent can't be copied before, and a forgotten text is gone.
        if message.needs_rendering or message.is_forgotten or not self.may(request, MAY_SEND):
            return ""
        return self.url_of("another_number", message.pk)
