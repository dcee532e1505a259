"""The orders of the sites' web shop, besides the sales of the till. People know an order only by its number."""

import uuid

from django.db import models
from django.utils import timezone

from django_kpwa.models import OutboundMessage


class Order(models.Model):
    """An order with a UUID as key and without `__str__()`. Pages show the name that its receipt class gives."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    number = models.CharField(max_length=20)
    customer_phone = models.CharField(max_length=32, blank=True)
    ordered_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name = "pesanan"
        verbose_name_plural = "pesanan"
        get_latest_by = "ordered_at"


def add_orders() -> list[OutboundMessage]:
    """Add orders with a receipt, with an invalid number and without a signal. Returns the receipt."""
    told = Order.objects.create(number="WEB-2026-0117", customer_phone="0812 3456 7891")
    Order.objects.create(number="WEB-2026-0118", customer_phone="tidak punya")
    Order.objects.bulk_create([Order(number="WEB-2026-0119", customer_phone="0812 3456 7892")])
    return list(OutboundMessage.objects.for_source(told))
