"""The receipts that this shop sends over WhatsApp; django-kpwa finds this module as Django finds `admin.py`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import QuerySet

from django_kpwa import receipts

from .models import Sale


class SaleReceipt(receipts.Receipt):
    """Base class of the two receipts of a sale."""

    status: Sale.Status

    def should_send(self, sale: Sale) -> bool:
        return sale.status == self.status

    def get_phone_number(self, sale: Sale) -> str:
        return sale.customer_phone

    def get_context_data(self, sale: Sale, **context: Any) -> dict[str, Any]:
        return super().get_context_data(
            sale, shop_name=settings.SHOP_NAME, shop_address=settings.SHOP_ADDRESS, **context
        )


@receipts.register(Sale)
class PaidReceipt(SaleReceipt):
    verbose_name = "Struk penjualan"
    event = "paid"
    status = Sale.Status.PAID
    template_name = "sales/receipt.txt"

    def get_occurred_at(self, sale: Sale) -> datetime:
        return sale.paid_at or sale.created_at

    def get_candidates(self, since: datetime, until: datetime) -> QuerySet[Sale]:
        return Sale.objects.filter(paid_at__gte=since, paid_at__lt=until)


@receipts.register(Sale)
class RefundReceipt(SaleReceipt):
    verbose_name = "Struk pengembalian"
    event = "refunded"
    status = Sale.Status.REFUNDED
    template_name = "sales/refund.txt"

    def get_occurred_at(self, sale: Sale) -> datetime:
        return sale.refunded_at or sale.created_at

    def get_candidates(self, since: datetime, until: datetime) -> QuerySet[Sale]:
        return Sale.objects.filter(refunded_at__gte=since, refunded_at__lt=until)
