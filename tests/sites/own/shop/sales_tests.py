"""Twenty tests of a shop that are only about sales."""

from __future__ import annotations

import pytest
from django.db import transaction
from django.db.models import Sum
from django.test import TestCase
from django.utils import timezone

from .models import Sale

PHONES = ["0812 3456 7890", "+60 12-345 6789", "", "no number"]


@pytest.mark.django_db
@pytest.mark.parametrize("total", range(1000, 11000, 1000))
def test_a_sale_keeps_its_total(total):
    Sale.objects.create(number="N-1", customer_phone="081234567890", total=total, paid_at=timezone.now())
    assert Sale.objects.get().total == total


@pytest.mark.django_db
@pytest.mark.parametrize("phone", PHONES)
def test_the_till_sells(client, phone):
    assert client.post("/sell/", {"number": "N-2", "phone": phone, "total": 18000}).content == b"N-2"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("phone", PHONES[:3])
def test_the_till_commits(client, phone):
    client.post("/sell/", {"number": "N-3", "phone": phone, "total": 18000})
    assert Sale.objects.get().customer_phone == phone


@pytest.mark.django_db(transaction=True)
def test_an_open_bill_is_paid_later():
    sale = Sale.objects.create(number="N-4", customer_phone="081234567890", total=18000)
    with transaction.atomic():
        sale.paid_at = timezone.now()
        sale.save()
    assert Sale.objects.filter(paid_at=None).count() == 0


@pytest.mark.django_db
def test_a_day_is_added_up():
    for number in range(3):
        Sale.objects.create(number=f"N-{number}", total=1000, paid_at=timezone.now())
    assert Sale.objects.aggregate(Sum("total")) == {"total__sum": 3000}


class SaleTests(TestCase):
    def test_a_sale_is_called_by_its_number(self):
        assert str(Sale.objects.create(number="N-5", total=1000)) == "N-5"
