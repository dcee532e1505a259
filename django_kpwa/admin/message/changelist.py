"""The list of messages: bounded pages, and what each row shows prepared for the whole page at once."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.views.main import ChangeList
from django.http import HttpRequest

from ..paginator import MOST_COUNTED
from ..sources import Sources
from .filters import Dates, dates_of


class MessageChangeList(ChangeList):
    """`kpwa_dates` stands above the list; each message of the page has its `kpwa_source`."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        sources = Sources(self.model_admin.admin_site, request)
        self.result_list: Any = list(self.result_list)
        for message in self.result_list:
            message.kpwa_source = sources.of(message)

    @property
    def kpwa_dates(self) -> Dates | None:
        return dates_of(self)

    @property
    def kpwa_most_listed(self) -> int | None:
        """How many of the newest are listed, where there are more."""
        return MOST_COUNTED if self.paginator.is_cut else None
