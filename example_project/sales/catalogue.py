"""The sample catalogue: an Indonesian coffee shop's menu."""

from __future__ import annotations

from typing import Any

MENU = (
    ("coffee", "Kopi Susu Gula Aren", 18_000),
    ("coffee", "Kopi Tubruk", 12_000),
    ("coffee", "Es Kopi Pandan", 22_000),
    ("coffee", "Cappuccino", 25_000),
    ("coffee", "Kopi Jahe Rempah", 20_000),
    ("drink", "Es Teh Manis", 8_000),
    ("drink", "Teh Tarik", 15_000),
    ("drink", "Wedang Uwuh", 14_000),
    ("drink", "Es Cokelat Aceh", 21_000),
    ("food", "Nasi Goreng Kampung", 28_000),
    ("food", "Mie Goreng Jawa", 26_000),
    ("food", "Soto Ayam Lamongan", 27_000),
    ("food", "Roti Bakar Srikaya", 17_000),
    ("snack", "Pisang Goreng Madu", 15_000),
    ("snack", "Tahu Isi Pedas", 10_000),
    ("snack", "Cireng Bumbu Rujak", 12_000),
    ("snack", "Klepon", 9_000),
    ("snack", "Risoles Mayo", 11_000),
)
"""Category, name, price in rupiah."""


def seed(product_model: Any) -> None:
    """Fill an empty catalogue with the menu; a catalogue that has products is left unchanged."""
    if not product_model.objects.exists():
        product_model.objects.bulk_create(
            product_model(category=category, name=name, price=price) for category, name, price in MENU
        )
