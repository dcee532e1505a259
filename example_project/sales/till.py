"""The actions of a till: take payment, refund, void. Receipts follow from saving; nothing here mentions them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from django.db import transaction
from django.utils import timezone

from .models import Sale, SaleLine


@dataclass(frozen=True)
class Item:
    """A product in a sale. `price`: for one piece, in whole rupiah."""

    name: str
    price: int
    quantity: int = 1


def ring_up(
    items: Iterable[Item],
    *,
    customer_phone: str = "",
    customer_name: str = "",
    payment: str = Sale.Payment.CASH,
    sale_uuid: uuid.UUID | None = None,
) -> Sale:
    """Record the paid sale of `items` and return it. If a sale with `sale_uuid` exists, it is returned unchanged.

    Raises `ValueError` if there are no items.
    """
    items = list(items)
    if not items:
        raise ValueError("A sale needs at least one item.")
    with transaction.atomic():
        sale, is_new = Sale.objects.get_or_create(
            uuid=sale_uuid or uuid.uuid4(),
            defaults={
                "status": Sale.Status.PAID,
                "payment": payment,
                "customer_name": customer_name,
                "customer_phone": customer_phone,
                "total": sum(item.price * item.quantity for item in items),
                "paid_at": timezone.now(),
            },
        )
        if is_new:
            SaleLine.objects.bulk_create(
                SaleLine(sale=sale, name=item.name, price=item.price, quantity=item.quantity) for item in items
            )
    return sale


def refund(sale: Sale) -> bool:
    """Mark a paid sale as refunded. Returns False if it is not a paid sale."""
    return _move(sale, Sale.Status.REFUNDED, refunded_at=timezone.now())


def void(sale: Sale) -> bool:
    """Void a sale that was a mistake; an unsent receipt is withdrawn. Returns False if it is not a paid sale."""
    return _move(sale, Sale.Status.VOID)


def _move(sale: Sale, status: Sale.Status, **columns: object) -> bool:
    with transaction.atomic():
        moved = Sale.objects.filter(pk=sale.pk, status=Sale.Status.PAID).update(status=status, **columns)
        sale.refresh_from_db()
        if moved:
            # The UPDATE sends no signal; this save does, and so triggers the receipt.
            sale.save(update_fields=["status"])
    return bool(moved)
