"""What a till does: take payment, refund, void. Receipts follow from the saves, nothing here mentions them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from django.db import transaction
from django.utils import timezone

from .models import Sale, SaleLine


@dataclass(frozen=True)
class Item:
    """So many of one thing, at a price in whole rupiah each."""

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
    """Sell `items` for payment now, and return the sale. A `sale_uuid` that is known returns that sale unchanged.

    Raises `ValueError` where there are no items.
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
    """Give the money back. False: it is not a paid sale."""
    return _move(sale, Sale.Status.REFUNDED, refunded_at=timezone.now())


def void(sale: Sale) -> bool:
    """Undo a sale that was a mistake; a receipt that is not sent yet is withdrawn. False: it is not a paid sale."""
    return _move(sale, Sale.Status.VOID)


def _move(sale: Sale, status: Sale.Status, **columns: object) -> bool:
    with transaction.atomic():
        moved = Sale.objects.filter(pk=sale.pk, status=Sale.Status.PAID).update(status=status, **columns)
        sale.refresh_from_db()
        if moved:
            # An UPDATE sends no signal; this save is what a receipt hears.
            sale.save(update_fields=["status"])
    return bool(moved)
