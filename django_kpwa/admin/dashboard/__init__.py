"""The page that says whether receipts are going out, and what to press where they are not."""

from __future__ import annotations

from ..readonly import ReadOnlyModelAdmin


class DashboardAdmin(ReadOnlyModelAdmin):
    pass
