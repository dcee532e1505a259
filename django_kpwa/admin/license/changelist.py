"""The list of licenses: what waits for each is counted for the whole page at once."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import SimpleListFilter
from django.contrib.admin.views.main import ChangeList
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from .state import note_queued


class ArchivedFilter(SimpleListFilter):
    """Archived licenses stand in the list only for who asks for them."""

    title = _("archived")
    parameter_name = "archived"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("Yes"))]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.exclude(archived_at=None) if self.value() == "yes" else queryset.filter(archived_at=None)


class LicenseChangeList(ChangeList):
    """Each license of the page has its `kpwa_queued`."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list: Any = list(self.result_list)
        note_queued(self.result_list)
