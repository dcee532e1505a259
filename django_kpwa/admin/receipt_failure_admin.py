"""Receipt failures in the admin: errors that receipt classes raised while an object, such as a sale, was saved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.contrib.admin import ModelAdmin, SimpleListFilter
from django.db import router
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.text import Truncator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..formatting import date_and_time
from ..models import ReceiptFailure, RegisteredReceipt, stored_name
from ..receipts import registry
from .links import Links, Source
from .long_list import LongListAdmin, WhenFilter

_MAX_LINE_LENGTH = 120


class ReceiptFilter(SimpleListFilter):
    """Offers the registered classes. Django's own filter would read the whole table to find the classes in it."""

    title = _("receipt")
    parameter_name = "receipt"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, Any]]:
        return [(each.label, each.label) for each in registry.registrations()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(receipt=self.value()) if self.value() else queryset


class ReceiptFailureAdmin(LongListAdmin):
    list_display = ["receipt", "source", "first_line", "times", "occurred"]
    list_filter = [ReceiptFilter, WhenFilter]
    sortable_by = ["occurred"]
    ordering = ["-occurred_at", "-pk"]
    date_hierarchy = "occurred_at"
    readonly_fields = ["source", "preview"]
    fields = ["receipt", "source", "error", "times", "occurred_at", "preview"]

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

    @admin.display(description=_("try again"))
    def preview(self, failure: ReceiptFailure) -> str:
        address = getattr(failure, "kpwa_preview_url", "")
        if not address:
            return self.get_empty_value_display()
        return format_html('<a href="{}">{}</a>', address, gettext("Look at the preview"))

    @admin.display(description=_("error"))
    def first_line(self, failure: ReceiptFailure) -> str:
        lines = failure.error.strip().splitlines()
        return Truncator(lines[0]).chars(_MAX_LINE_LENGTH) if lines else ""

    @admin.display(description=_("when"), ordering="occurred_at")
    def occurred(self, failure: ReceiptFailure) -> str:
        return date_and_time(failure.occurred_at)

    def _preview_url(self, request: HttpRequest, failure: ReceiptFailure) -> str:
        """Return the URL of the preview of the same receipt for the same object; empty if there is no such page."""
        registration = registry.find(failure.receipt)
        if registration is None or failure.source_database != stored_name(router.db_for_write(registration.model)):
            return ""  # the preview would show another object that has the same key in the model's own database
        links = Links(self.admin_site, request)
        return links.to_page(RegisteredReceipt, "preview", failure.receipt, pk=failure.source_id)
