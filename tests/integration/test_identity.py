"""What identifies a receipt: two objects never share a key or each other's messages, on any database."""

from __future__ import annotations

import pytest

from django_kpwa import receipts, shop_counter
from django_kpwa.admin.messages_inline import _about
from django_kpwa.dispatch import drive
from django_kpwa.gateway import locmem
from django_kpwa.models import License, OutboundMessage, ReceiptFailure
from django_kpwa.outbox import send_message
from tests.shop.models import CounterSale, Invoice, Sale

NUMBER = "0812 3456 7890"
# MariaDB's usual collations treat all of these as equal.
ALIKE = ["INV-a1", "inv-a1", "Inv-á1", "INV-a1 ", "INV-a1  "]


class Notice(receipts.Receipt):
    """Takes its event from the name of the invoice's customer, so that tests can choose the event."""

    max_age = None

    def should_send(self, invoice):
        return True

    def get_phone_number(self, invoice):
        return NUMBER

    def get_event_id(self, invoice):
        return invoice.customer_phone

    def render(self, invoice, **context):
        return f"[{invoice.pk}] [{context['event_id']}]"


@pytest.fixture
def notices():
    receipts.register(Invoice)(Notice)
    yield
    receipts.unregister(Notice)


def test_keys_that_look_alike_have_messages_of_their_own(license_):
    invoices = [Invoice.objects.create(number=number) for number in ALIKE]
    expected = [send_message(NUMBER, "x", source=invoice) for invoice in invoices]
    found = shop_counter.messages_about(invoices)
    for invoice, message in zip(invoices, expected, strict=True):
        assert found[invoice] == [message]
        assert list(OutboundMessage.objects.for_source(invoice)) == [message]
        assert _about(invoice) == [message]


def test_a_chip_of_one_key_alone_is_not_lost_over_another_that_looks_alike(license_):
    first, second = [Invoice.objects.create(number=number) for number in ALIKE[:2]]
    message = send_message(NUMBER, "x", source=first)
    assert shop_counter.messages_about([second]) == {second: []}
    assert shop_counter.messages_about([first, second]) == {first: [message], second: []}


def test_receipts_of_keys_that_look_alike_are_each_sent(license_, notices):
    for number in ALIKE:
        for event_id in ("Paid", "paid", "paid "):
            Invoice.objects.update_or_create(number=number, defaults={"customer_phone": event_id})
    assert OutboundMessage.objects.count() == len(ALIKE) * 3
    assert not ReceiptFailure.objects.exists()


def test_colons_and_long_keys_reach_the_customer_as_they_are(license_, notices):
    for number, event_id in [("a:b", "c"), ("a", "b:c%3A"), ("x" * 255, "paid")]:
        Invoice.objects.create(number=number, customer_phone=event_id)
    OutboundMessage.objects.update(due_at=OutboundMessage.objects.earliest("due_at").created_at)
    drive(License.objects.get().pk)
    assert {sent.text for sent in locmem.outbox} == {"[a:b] [c]", "[a] [b:c%3A]", f"[{'x' * 255}] [paid]"}


def test_a_sale_has_its_messages_under_each_of_its_names(license_):
    sale = Sale.objects.create()
    counter_sale = CounterSale.objects.get(pk=sale.pk)
    messages = [send_message(NUMBER, "a", source=sale), send_message(NUMBER, "b", source=counter_sale)]
    for named in (sale, counter_sale):
        assert list(OutboundMessage.objects.for_source(named).order_by("pk")) == messages
        assert shop_counter.messages_about([named])[named] == messages[::-1]


def test_an_object_saved_under_a_key_of_another_type_keeps_its_messages(license_):
    sale = Sale(pk="0077", status=Sale.Status.PAID, customer_phone=NUMBER)
    sale.save()
    Sale.objects.get(pk=77).save()
    message = OutboundMessage.objects.get()
    assert message.source_id == "77"
    assert list(OutboundMessage.objects.for_source(sale)) == [message]
    assert list(OutboundMessage.objects.for_source(Sale.objects.get())) == [message]
