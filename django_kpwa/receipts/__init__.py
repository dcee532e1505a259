"""Receipts: one class for each kind of receipt, registered for a model, in the `whatsapp.py` of any app.

    from django_kpwa import receipts

    @receipts.register(Sale)
    class SaleReceipt(receipts.Receipt):
        template_name = "sales/receipt.txt"

        def should_send(self, sale):
            return sale.status == Sale.Status.PAID

        def get_phone_number(self, sale):
            return sale.customer_phone

        def get_occurred_at(self, sale):
            return sale.paid_at

`queueing` stores a message without its text when a sale is saved. `render` writes the text just before the message is
sent. `preview` shows a person what a class would send, without queueing anything.
"""

from __future__ import annotations

from . import registry
from .base import Receipt, Registration
from .registry import register, send_now, unregister

__all__ = ["Receipt", "Registration", "register", "registry", "send_now", "unregister"]
