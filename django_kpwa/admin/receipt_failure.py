"""Receipt classes that raised while a sale was being saved: which, about what, and why."""

from __future__ import annotations

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from ..models import ReceiptFailure
from .readonly import ReadOnlyModelAdmin


class ReceiptFailureAdmin(ReadOnlyModelAdmin):
    list_display = ["receipt", "source", "error", "occurred_at"]
    list_filter = ["receipt"]
    list_select_related = ["source_content_type"]
    readonly_fields = ["source"]
    fields = ["receipt", "source", "error", "occurred_at"]

    @admin.display(description=_("about"))
    def source(self, failure: ReceiptFailure) -> str:
        return f"{failure.source_content_type.name} {failure.source_id}"
