"""A small shop for the tests: sales with lines, which a till may save in any order."""

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
    """A proxy model with the same rows."""

    class Meta:
        proxy = True


class Line(models.Model):
    sale = models.ForeignKey(Sale, models.CASCADE, related_name="lines")
    name = models.CharField(max_length=50)
    price = models.PositiveIntegerField()


class Ticket(models.Model):
    """A model with a UUID as primary key."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    holder = models.CharField(max_length=50, blank=True)

    def __str__(self):
        return self.holder


class Seat(models.Model):
    """A model with a composite primary key."""

    pk = models.CompositePrimaryKey("row", "number")
    row = models.CharField(max_length=5)
    number = models.PositiveSmallIntegerField()


class Invoice(models.Model):
    """A model with a text as primary key, which is compared exactly."""

    number = ExactCharField(primary_key=True, max_length=255)
    customer_phone = models.CharField(max_length=32, blank=True)
