"""Receipts in the admin: the registered classes, and the errors that they raised while an object was saved.

Each class has a preview of what it would send for an object, and a button that sends it now.

A preview shows a customer's number and purchase, so it needs both the permission to view receipts and the permission
to view the object's model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin import ModelAdmin, SimpleListFilter
from django.core.exceptions import PermissionDenied
from django.db import router
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.urls import path
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..containing import outside_transactions
from ..formatting import short_time
from ..models import ReceiptFailure, RegisteredReceipt, StopReason, stored_name
from ..receipts import registry
from ..words import FAILURES
from .base import MAY_DECIDE, MAY_SEND, ReadOnlyAdmin
from .buttons import Button, Done
from .links import Links, Source
from .long_list import LongListAdmin, WhenFilter

MAX_SENT_AT_ONCE = 100
"""Maximum number of failures per press: the site's own receipt class runs for each, and may be slow."""


class RegisteredReceiptAdmin(ReadOnlyAdmin):
    def get_urls(self) -> list[Any]:
        # None of Django's own URLs: there are no rows to add, change or delete.
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(self.changelist_view), name=self.url_name("changelist")),
            # Outside of a transaction, so that each queued receipt is committed by itself.
            path("missing/", outside_transactions(wrap(self.missing_view)), name=self.url_name("missing")),
            path(
                "missing/send/", outside_transactions(wrap(self.send_missing_view)), name=self.url_name("send_missing")
            ),
            path("<str:label>/", wrap(self.preview_view), name=self.url_name("preview")),
            path("<str:label>/send_now/", wrap(self.send_now_view), name=self.url_name("send_now")),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        from .receipt_pages import ReceiptPages

        self.check_may_view(request)
        return ReceiptPages(self, request).show_list(extra_context or {})

    def missing_view(self, request: HttpRequest) -> HttpResponse:
        from .receipt_missing import MissingPage

        self.check_may_view(request)
        return MissingPage(self, request).show()

    def send_missing_view(self, request: HttpRequest) -> HttpResponse:
        from .receipt_missing import MissingPage

        return self._refused(request) or MissingPage(self, request).send()

    def preview_view(self, request: HttpRequest, label: str) -> HttpResponse:
        from .receipt_pages import ReceiptPages

        self.check_may_view(request)
        return ReceiptPages(self, request).show_preview(label)

    def send_now_view(self, request: HttpRequest, label: str) -> HttpResponse:
        from .receipt_pages import ReceiptPages

        return self._refused(request) or ReceiptPages(self, request).send_now(label)

    def _refused(self, request: HttpRequest) -> HttpResponse | None:
        """Return the response to a request that is not a POST, else None.

        Raises `PermissionDenied` if the user may not send messages.
        """
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        self.check_may_view(request)
        if not self.may(request, MAY_SEND):
            raise PermissionDenied
        return None


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
    if message is not None and message.reason in StopReason.values:
        return Done(_("Nothing was sent: the owner of this number wants no messages."), messages.WARNING)
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


SEND_NOW = Button("send_now", _("Send now"), MAY_SEND, _press_send_now, is_primary=True)
CLEAR = Button(
    "clear",
    _("Clear"),
    MAY_DECIDE,
    _press_clear,
    confirm=_("The failure is no longer listed. The next save that fails lists it again. Nothing is sent."),
)


class ReceiptFailureAdmin(LongListAdmin):
    when_empty = _("No receipt has failed. There is nothing to do here.")
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
