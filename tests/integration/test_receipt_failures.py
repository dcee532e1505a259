"""Failures of one object's receipt are stored as one, and the next save that succeeds removes it."""

from __future__ import annotations

import threading

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_kpwa import receipts
from django_kpwa.models import OutboundMessage, ReceiptFailure
from django_kpwa.receipts import failures
from tests.shop.models import Sale
from tests.shop.whatsapp import PaidReceipt

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("license_")]

BAD, GOOD = "0812", "0812 3456 7890"


def sold(phone=BAD, status=Sale.Status.PAID):
    return Sale.objects.create(status=status, customer_phone=phone)


def save(sale, **fields):
    for name, value in fields.items():
        setattr(sale, name, value)
    sale.save()


def test_ten_failing_saves_of_one_sale_are_one_failure_that_counts_them_with_the_last_error():
    sale = sold()
    for _ in range(8):
        sale.save()
    save(sale, customer_phone="081234567890 / 081398765432")
    failure = ReceiptFailure.objects.get()
    assert (failure.receipt, failure.source_id, failure.times) == ("shop.sale.PaidReceipt", str(sale.pk), 10)
    assert "InvalidPhoneNumberError" in failure.error
    assert "too short" not in failure.error


def test_two_sales_have_a_failure_each():
    first, second = sold(), sold()
    first.save()
    found = ReceiptFailure.objects.order_by("pk").values_list("source_id", "times")
    assert list(found) == [(str(first.pk), 2), (str(second.pk), 1)]


def test_a_good_save_clears_the_failure_of_its_sale_and_no_other():
    first, second = sold(), sold()
    save(first, customer_phone=GOOD)
    assert OutboundMessage.objects.count() == 1
    assert ReceiptFailure.objects.get().source_id == str(second.pk)


@pytest.mark.parametrize("fields", [{"customer_phone": ""}, {"status": Sale.Status.VOID}])
def test_so_does_a_save_after_which_nothing_is_wanted(fields):
    sale = sold()
    save(sale, **fields)
    assert not ReceiptFailure.objects.exists()
    assert not OutboundMessage.objects.exists()


def test_so_does_send_now():
    sale = sold()
    Sale.objects.update(customer_phone=GOOD)
    assert len(receipts.send_now(Sale.objects.get(pk=sale.pk), PaidReceipt)) == 1
    assert not ReceiptFailure.objects.exists()


def test_so_does_a_later_save_of_a_sale_that_has_its_receipt():
    sale = sold(GOOD)
    save(sale, customer_phone=BAD)  # the message waits, and the sale is read again when the text is written
    ReceiptFailure.objects.create(
        receipt="shop.sale.PaidReceipt",
        source_content_type=ContentType.objects.get_for_model(Sale),
        source_id=str(sale.pk),
        error="x",
        occurred_at=timezone.now(),
    )
    failures._none_until.clear()
    save(sale, customer_phone=GOOD)
    assert not ReceiptFailure.objects.exists()


def test_a_failure_that_is_rolled_back_is_none_and_one_that_is_cleared_in_a_rolled_back_sale_stays():
    with pytest.raises(RuntimeError), transaction.atomic():
        sold()
        raise RuntimeError
    assert not ReceiptFailure.objects.exists()
    sale = sold()
    with pytest.raises(RuntimeError), transaction.atomic():
        save(sale, customer_phone=GOOD)
        raise RuntimeError
    assert ReceiptFailure.objects.get().times == 1


def test_where_nothing_has_failed_a_sale_asks_for_failures_once_in_a_while_and_a_new_one_never():
    failures._none_until.clear()

    def asked(sell):
        with CaptureQueriesContext(connection) as queries:
            sell()
        return sum("receiptfailure" in query["sql"] for query in queries)

    assert asked(lambda: sold(GOOD)) == 0
    sale = Sale.objects.get()
    assert asked(sale.save) == 2  # one query for each receipt class of the model
    assert asked(sale.save) == 0
    other = sold(GOOD, Sale.Status.OPEN)
    assert asked(lambda: save(other, status=Sale.Status.PAID)) == 0


def test_sales_that_fail_at_once_are_all_counted():
    sales = [sold(GOOD) for _ in range(4)]
    Sale.objects.update(customer_phone=BAD)
    OutboundMessage.objects.all().delete()
    begin = threading.Barrier(4, timeout=30)

    def fail(sale):
        try:
            for each in (sale, sales[0]):
                begin.wait()
                receipts.send_now(Sale.objects.get(pk=each.pk), PaidReceipt)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=fail, args=[sale]) for sale in sales]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    counted = dict(ReceiptFailure.objects.values_list("source_id", "times"))
    assert counted == {str(sale.pk): 5 if sale == sales[0] else 1 for sale in sales}
