"""A purged message is not sent a second time: its key is kept, but its number and its text are not."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.apps import apps
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_kpwa import outbox, receipts, retention
from django_kpwa.dispatch import drive
from django_kpwa.gateway import locmem
from django_kpwa.models import (
    DatabaseNow,
    KeptKey,
    License,
    OutboundMessage,
    ReceiptFailure,
    Status,
    idempotency_digest,
)
from django_kpwa.outbox import Message, send_message, send_messages
from django_kpwa.store.engine import Store
from tests.cli import kpwa
from tests.shop.models import Sale
from tests.shop.whatsapp import PaidReceipt
from tests.stores import INSERTS, stored_by

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("license_")]

NUMBER, OTHER = "0812 0000 0001", "0812 0000 0002"
LONG_AGO = timezone.now() - timedelta(days=1000)


def purge_all():
    OutboundMessage.objects.update(status=Status.SENT, settled_at=LONG_AGO)
    return retention.purge().messages


@pytest.fixture(params=INSERTS)
def form(request):
    with stored_by(request.param):
        yield


@pytest.mark.parametrize("license_given", [True, False])
@pytest.mark.usefixtures("form")
def test_a_key_whose_message_was_purged_sends_nothing(license_given):
    chosen = License.objects.get() if license_given else None
    message = send_message(NUMBER, "struk", idempotency_key="order-1", license=chosen)
    assert purge_all() == 1
    for _ in range(2):
        with transaction.atomic():
            again = send_message(NUMBER, "struk", idempotency_key="order-1", license=chosen)
            sale = Sale.objects.create()
        assert (again.pk, again.status, again.was_purged) == (message.pk, Status.SENT, True)
        assert (again.text, again.recipient, again.created_at) == ("", "", message.created_at)
        assert Sale.objects.filter(pk=sale.pk).exists()
    assert send_message(NUMBER, "struk", idempotency_key="order-2", license=chosen).was_purged is False
    assert OutboundMessage.objects.count() == 1


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("keys", [["a"], ["a", "b", None, "c", "a"]])
def test_of_many_messages_those_of_a_purged_key_are_not_stored(keys):
    first = send_message(NUMBER, "struk", idempotency_key="a")
    purge_all()
    stored = send_messages([Message(NUMBER, "struk", idempotency_key=key) for key in keys])
    assert [message.was_purged for message in stored] == [key == "a" for key in keys]
    assert {message.pk for message in stored if message.was_purged} == {first.pk}
    assert OutboundMessage.objects.count() == len([key for key in keys if key != "a"])


def test_neither_number_nor_text_is_left_in_any_table():
    send_message("081234567890", "Rahasia Bu Sari", idempotency_key="order-1")
    send_message("081234567890", "Rahasia Bu Sari")
    purge_all()
    [kept] = KeptKey.objects.all()
    assert kept.digest == idempotency_digest("order-1")
    for model in apps.get_app_config("django_kpwa").get_models():
        for values in model.objects.values_list():
            told = " ".join(map(str, values))
            assert "Rahasia" not in told
            assert "81234567890" not in told
            assert "order-1" not in told


def send_all():
    OutboundMessage.objects.filter(status=Status.QUEUED).update(due_at=DatabaseNow())
    drive(License.objects.get().pk)
    return [sent.to[-1] for sent in locmem.outbox]


def sell(number, **values):
    with transaction.atomic():
        return Sale.objects.create(pk=7, status=Sale.Status.PAID, customer_phone=number, **values)


def test_a_sale_that_is_saved_after_the_purge_of_its_receipt_gets_no_second_one():
    sale = sell(NUMBER)
    assert send_all() == ["1"]
    purge_all()
    for _ in range(2):
        Sale.objects.get().save()
    [known] = receipts.send_now(sale, PaidReceipt)
    assert known.was_purged
    assert send_all() == ["1"]
    assert not OutboundMessage.objects.exists()
    assert not ReceiptFailure.objects.exists()


def test_another_sale_under_a_purged_key_gets_its_receipt():
    for number in (NUMBER, NUMBER, OTHER):
        sell(number)
        send_all()
        purge_all()
        Sale.objects.all().delete()
    sale = sell(NUMBER)
    for _ in range(2):
        Sale.objects.get().save()
    assert send_all() == ["1", "1", "2", "1"]
    assert [message.idempotency_key for message in OutboundMessage.objects.for_source(sale)] == [
        "receipt:shop.sale:7:paid:4"
    ]
    assert not ReceiptFailure.objects.exists()


def test_where_a_purged_key_does_not_tell_it_is_shown():
    sell(NUMBER)
    purge_all()
    Sale.objects.all().delete()
    Sale.objects.create(pk=7, customer_phone=OTHER)
    sale = Sale.objects.get()
    sale.status = Sale.Status.PAID
    sale.save()
    assert send_all() == []
    assert "KnownReceiptError" in ReceiptFailure.objects.get().error


def test_a_preview_and_the_command_line_know_a_purged_receipt(operator):
    sale = sell(NUMBER)
    purge_all()
    page = operator.get("/admin/django_kpwa/registeredreceipt/shop.sale.PaidReceipt/?pk=7").content.decode()
    assert "This receipt exists already" in page
    assert "outboundmessage/" not in page.partition("kpwa-known")[2].partition("</p>")[0]
    address = "/admin/django_kpwa/registeredreceipt/shop.sale.PaidReceipt/send_now/"
    answer = operator.post(address, {"pk": sale.pk, "confirmed": "1"}, follow=True)
    assert "It has this receipt already" in answer.content.decode()
    send_message(NUMBER, "x", idempotency_key="order-1")
    purge_all()
    assert kpwa("send", NUMBER, "x", "--key", "order-1", "--wait")[0] == 0


def test_a_copy_to_another_number_may_be_asked_for_again_once_the_first_was_purged():
    original = send_message(NUMBER, "x")
    copy = outbox.send_to_another_number(original, OTHER)
    OutboundMessage.objects.filter(pk=copy.pk).update(status=Status.SENT, settled_at=LONG_AGO)
    assert retention.purge().messages == 1
    assert not outbox.send_to_another_number(original, OTHER).was_purged


def test_a_message_that_was_queued_again_meanwhile_stays_and_keeps_its_key(monkeypatch):
    message = send_message(NUMBER, "x", idempotency_key="order-1")
    OutboundMessage.objects.update(status=Status.SENT, settled_at=LONG_AGO)
    keep = Store.keep_keys

    def keep_and_queue_again(*arguments):
        keep(*arguments)
        OutboundMessage.objects.update(status=Status.QUEUED, settled_at=None)

    monkeypatch.setattr(Store, "keep_keys", keep_and_queue_again)
    assert retention.purge().messages == 0
    again = send_message(NUMBER, "x", idempotency_key="order-1")
    assert (again.pk, again.was_purged, again.text) == (message.pk, False, "x")
    monkeypatch.undo()
    assert purge_all() == 1
    assert KeptKey.objects.count() == 1


def test_a_message_without_a_key_costs_no_look_at_those_that_are_kept():
    with CaptureQueriesContext(connection) as queries:
        send_message(NUMBER, "x")
        send_messages([Message(NUMBER, "x"), Message(NUMBER, "y")])
    asked = [query["sql"] for query in queries if "keptkey" in query["sql"] and "UNNEST" not in query["sql"]]
    assert asked == []


@pytest.mark.parametrize("keys", [[], [3], [3, 30]])
def test_many_messages_are_stored_in_the_order_given_however_many_keys_are_kept(keys):
    KeptKey.objects.bulk_create(
        [
            KeptKey(digest=idempotency_digest(f"old {number}"), message_id=number, created_at=LONG_AGO, status="sent")
            for number in range(2000)
        ]
    )
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE django_kpwa_keptkey")
    stored = send_messages(
        Message(NUMBER, str(number), idempotency_key=f"new {number}" if number in keys else None)
        for number in range(60)
    )
    assert [message.text for message in OutboundMessage.objects.order_by("due_at", "pk")] == [
        message.text for message in stored
    ]
