"""The registered receipt classes: what each would say about an object, and sending it now."""

from __future__ import annotations

from .readonly import ReadOnlyModelAdmin


class RegisteredReceiptAdmin(ReadOnlyModelAdmin):
    pass
