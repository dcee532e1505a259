"""Receipt classes that raised while a sale was being saved: which, about what, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.contrib.admin import ModelAdmin, SimpleListFilter
from django.db import router
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import formats, timezone
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.text import Truncator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..models import ReceiptFailure, RegisteredReceipt, stored_name
from ..receipts import registry
from .dates import WhenFilter
from .long_list import LongListAdmin
from .readonly import ReadOnlyModelAdmin
from .sources import Source, Sources

_LIST_CHARACTERS = 120


class ReceiptFilter(SimpleListFilter):
    """The registered classes: Django's own filter would read the whole table to know which there are."""

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
        sources = Sources(self.admin_site, request)
        for failure in records:
            failure.kpwa_source = sources.of(failure)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        failure = context.get("original")
        if failure is not None:
            self.prepare_page(request, [failure])
            failure.kpwa_preview_url = self._preview_url(request, failure)
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=_("about"))
    def source(self, failure: ReceiptFailure) -> str:
        source: Source | None = getattr(failure, "kpwa_source", None)
        if source is None:
            return self.get_empty_value_display()
        return format_html('<a href="{}">{}</a>', source.url, source.name) if source.url else source.name

    @admin.display(description=_("try again"))
    def preview(self, failure: ReceiptFailure) -> str:
        address = getattr(failure, "kpwa_preview_url", "")
        if not address:
            return self.get_empty_value_display()
        return format_html('<a href="{}">{}</a>', address, gettext("Look at the preview"))

    @admin.display(description=_("error"))
    def first_line(self, failure: ReceiptFailure) -> str:
        lines = failure.error.strip().splitlines()
        return Truncator(lines[0]).chars(_LIST_CHARACTERS) if lines else ""

    @admin.display(description=_("when"), ordering="occurred_at")
    def occurred(self, failure: ReceiptFailure) -> str:
        return formats.date_format(timezone.localtime(failure.occurred_at), "SHORT_DATETIME_FORMAT")

    def _preview_url(self, request: HttpRequest, failure: ReceiptFailure) -> str:
        """Where the receipt of the same object is previewed and can be sent, for who may look there."""
        registration = registry.find(failure.receipt)
        if registration is None or not self.admin_site.is_registered(RegisteredReceipt):
            return ""
        if failure.source_database != stored_name(router.db_for_write(registration.model)):
            return ""  # there it would be another object of the same key
        previews = self.admin_site.get_model_admin(RegisteredReceipt)
        if not isinstance(previews, ReadOnlyModelAdmin) or not previews.has_view_permission(request):
            return ""
        return f"{previews.url_of('preview', failure.receipt)}?{urlencode({'pk': failure.source_id})}"
