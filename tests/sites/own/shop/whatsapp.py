from __future__ import annotations

from django_kpwa import receipts

from .models import Sale


@receipts.register(Sale)
class SaleReceipt(receipts.Receipt):
    template_name = "shop/receipt.txt"

    def should_send(self, sale):
        return sale.paid_at is not None

    def get_phone_number(self, sale):
        return sale.customer_phone

    def get_occurred_at(self, sale):
        return sale.paid_at
