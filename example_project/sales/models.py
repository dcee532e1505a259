"""What the shop sells and sold. Amounts are whole rupiah.

A sale's status is changed by the conditional UPDATEs of `till` alone, so that two cashiers cannot refund one twice.
"""

from __future__ import annotations

import uuid

from django.db import models


class Product(models.Model):
    class Category(models.TextChoices):
        COFFEE = "coffee", "Kopi"
        DRINK = "drink", "Minuman lain"
        FOOD = "food", "Makanan"
        SNACK = "snack", "Camilan"

    name = models.CharField("nama", max_length=60, unique=True)
    category = models.CharField("kategori", max_length=10, choices=Category.choices)
    price = models.PositiveIntegerField("harga (Rp)")
    is_available = models.BooleanField("tersedia", default=True)

    class Meta:
        verbose_name = "produk"
        verbose_name_plural = "produk"
        ordering = ["pk"]

    def __str__(self) -> str:
        return self.name


class Sale(models.Model):
    class Status(models.TextChoices):
        OPEN = "open", "terbuka"
        PAID = "paid", "lunas"
        VOID = "void", "batal"
        REFUNDED = "refunded", "dikembalikan"

    class Payment(models.TextChoices):
        CASH = "cash", "Tunai"
        QRIS = "qris", "QRIS"
        CARD = "card", "Kartu"

    # Made by the till's page: the same form sent twice is one sale.
    uuid = models.UUIDField("id publik", default=uuid.uuid4, unique=True, editable=False)
    status = models.CharField("status", max_length=10, choices=Status.choices, default=Status.OPEN)
    payment = models.CharField("pembayaran", max_length=10, choices=Payment.choices, default=Payment.CASH)
    customer_name = models.CharField("nama pelanggan", max_length=60, blank=True)
    customer_phone = models.CharField("nomor WhatsApp", max_length=40, blank=True)
    total = models.PositiveBigIntegerField("total (Rp)", default=0)
    created_at = models.DateTimeField("dibuat", auto_now_add=True)
    paid_at = models.DateTimeField("dibayar", null=True, blank=True)
    refunded_at = models.DateTimeField("dikembalikan", null=True, blank=True)

    class Meta:
        verbose_name = "penjualan"
        verbose_name_plural = "penjualan"
        ordering = ["-pk"]

    def __str__(self) -> str:
        return self.number

    @property
    def number(self) -> str:
        """As it stands on the receipt, e.g. `KS-000042`."""
        return f"KS-{self.pk:06d}"


class SaleLine(models.Model):
    """One line of a sale, with the name and the price of that day."""

    sale = models.ForeignKey(Sale, models.CASCADE, related_name="lines", verbose_name="penjualan")
    name = models.CharField("nama", max_length=60)
    price = models.PositiveIntegerField("harga (Rp)")
    quantity = models.PositiveSmallIntegerField("jumlah", default=1)

    class Meta:
        verbose_name = "item"
        verbose_name_plural = "item"
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.quantity} × {self.name}"

    @property
    def total(self) -> int:
        return self.price * self.quantity
