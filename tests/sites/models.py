"""What the sites' shop sells beside the till's sales: orders of a web shop, which people know by their number alone."""

import uuid

from django.db import models
from django.utils import timezone

from django_kpwa.models import OutboundMessage


class Order(models.Model):
    """Its key is for machines, and it has no `__str__()`: what is shown of it is what its receipt class calls it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    number = models.CharField(max_length=20)
    customer_phone = models.CharField(max_length=32, blank=True)
    ordered_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name = "pesanan"
        verbose_name_plural = "pesanan"
        get_latest_by = "ordered_at"


def add_orders() -> list[OutboundMessage]:
    """An order with its receipt, which is returned; one whose number is none; and one that nothing told of."""
    told = Order.objects.create(number="WEB-2026-0117", customer_phone="0812 3456 7891")
    Order.objects.create(number="WEB-2026-0118", customer_phone="tidak punya")
    Order.objects.bulk_create([Order(number="WEB-2026-0119", customer_phone="0812 3456 7892")])
    return list(OutboundMessage.objects.for_source(told))
