"""A small shop for the tests: a sale with lines, saved in whichever order a till does."""

import uuid

from django.db import models
from django.utils import timezone

from django_kpwa.models.source import ExactCharField


class Sale(models.Model):
    class Status(models.TextChoices):
        OPEN = "open"
        PAID = "paid"
        VOID = "void"
        REFUNDED = "refunded"

    status = models.CharField(max_length=10, choices=Status.choices, default=Status.OPEN)
    customer_phone = models.CharField(max_length=32, blank=True)
    sold_at = models.DateTimeField(default=timezone.now)
    refunds = models.PositiveSmallIntegerField(default=0)


class CounterSale(Sale):
    """The same rows under another name."""

    class Meta:
        proxy = True


class Line(models.Model):
    sale = models.ForeignKey(Sale, models.CASCADE, related_name="lines")
    name = models.CharField(max_length=50)
    price = models.PositiveIntegerField()


class Ticket(models.Model):
    """Named by no number."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    holder = models.CharField(max_length=50, blank=True)

    def __str__(self):
        return self.holder


class Seat(models.Model):
    """Named by two columns."""

    pk = models.CompositePrimaryKey("row", "number")
    row = models.CharField(max_length=5)
    number = models.PositiveSmallIntegerField()


class Invoice(models.Model):
    """Named by what its shop writes on it, letter for letter."""

    number = ExactCharField(primary_key=True, max_length=255)
    customer_phone = models.CharField(max_length=32, blank=True)
