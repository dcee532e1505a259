"""The list of licenses: what waits for each is counted for the whole page at once."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.views.main import ChangeList
from django.http import HttpRequest

from .state import note_queued


class LicenseChangeList(ChangeList):
    """Each license of the page has its `kpwa_queued`."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list: Any = list(self.result_list)
        note_queued(self.result_list)
