"""What our records have in common in the admin: they are looked at, and only the app itself writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest

from .buttons import ButtonsAdmin


class ReadOnlyModelAdmin(ButtonsAdmin):
    """Nothing can be added, changed or deleted; the list never counts the whole table beside what it shows."""

    actions: Sequence[Any] | None = None
    list_per_page = 50
    show_full_result_count = False
    # The primary key: an order that every database reads off an index.
    ordering = ["-pk"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
