from __future__ import annotations

from django.db import models


class Sale(models.Model):
    number = models.CharField(max_length=20)
    customer_phone = models.CharField(max_length=30, blank=True)
    total = models.PositiveIntegerField()
    paid_at = models.DateTimeField(null=True)

    def __str__(self):
        return self.number
