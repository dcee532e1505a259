"""A primary key that is used again: a new row is a new sale, an edited row is not, and no conflict is silent."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_kpwa import receipts, shop_counter
from django_kpwa.admin.messages_inline import _about
from django_kpwa.dispatch import drive
from django_kpwa.gateway import locmem
from django_kpwa.models import DatabaseNow, License, OutboundMessage, ReceiptFailure, Status
from django_kpwa.outbox import send_message, send_to_another_number
from django_kpwa.receipts import registry
from django_kpwa.receipts.preview import known_messages, preview
from tests.shop.models import CounterSale, Invoice, Line, Sale
from tests.shop.whatsapp import PaidReceipt

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("license_")]

ANI, BUDI = "0812 0000 0001", "0812 0000 0002"
PAID = Sale.Status.PAID


class Notice(receipts.Receipt):
    """A receipt for an invoice, which has no time. The tests that need it register it."""

    event = "notice"
    max_age = None

    def should_send(self, invoice):
        return bool(invoice.customer_phone)

    def get_phone_number(self, invoice):
        return invoice.customer_phone

    def get_occurred_at(self, invoice):
        return None

    def render(self, invoice, **context):
        return f"Catatan {invoice.number}"


@pytest.fixture
def register():
    registered = []

    def register_(receipt_class, model=Sale):
        registered.append(receipt_class)
        return receipts.register(model)(receipt_class)

    yield register_
    for receipt_class in registered:
        receipts.unregister(receipt_class)


def send_all():
    OutboundMessage.objects.filter(status=Status.QUEUED).update(due_at=DatabaseNow())
    drive(License.objects.get().pk)
    return [(sent.to[-1], sent.text.split("\n")[0]) for sent in locmem.outbox]


def sell(number, pk=7, **values):
    with transaction.atomic():
        return Sale.objects.create(pk=pk, status=PAID, customer_phone=number, **values)


def kept():
    return [failure.error for failure in ReceiptFailure.objects.order_by("pk")]


def about(sale):
    [messages] = shop_counter.messages_about([sale]).values()
    return messages


def sent_to(number, pk=7, **values):
    """A sale whose receipt was sent and which was then deleted."""
    sale = sell(number, pk, **values)
    send_all()
    assert OutboundMessage.objects.latest("pk").status == Status.SENT
    Sale.objects.filter(pk=pk).delete()
    locmem.outbox.clear()
    return sale


@pytest.mark.parametrize("second", [BUDI, ANI], ids=["another customer", "the same customer"])
def test_a_sale_that_got_the_key_of_a_deleted_one_has_its_own_receipt_and_chip(second):
    sent_to(ANI)
    sale = sell(second)
    for _ in range(3):
        Sale.objects.get().save()
    assert receipts.send_now(sale, PaidReceipt) == [OutboundMessage.objects.latest("pk")]
    assert send_all() == [(second[-1], "Struk 7")]
    assert OutboundMessage.objects.count() == 2
    assert about(sale) == [OutboundMessage.objects.latest("pk")]
    assert list(OutboundMessage.objects.for_source(sale)) == about(sale)
    assert kept() == []


def test_a_sale_that_is_paid_later_under_a_used_key_has_its_own_receipt():
    sent_to(ANI)
    sale = Sale.objects.create(pk=7, customer_phone=BUDI)
    notice = send_message(BUDI, "Pesanan siap", source=sale)
    sale.status = PAID
    sale.save()
    sale.save()
    assert send_all() == [("2", "Pesanan siap"), ("2", "Struk 7")]
    assert [message.recipient[-1] for message in about(sale)] == ["2", "2"]
    assert notice in about(sale)
    assert kept() == []


def test_where_it_cannot_be_told_nothing_is_sent_and_that_is_shown():
    sent_to(ANI)
    sale = Sale.objects.create(pk=7, customer_phone=ANI)
    sale.status = PAID
    sale.save()
    assert send_all() == []
    [words] = kept()
    assert "KnownReceiptError" in words
    assert "•" not in words, "a time must not be masked as a phone number"
    assert "define get_fingerprint() in PaidReceipt" in words
    assert "0000" not in words


def test_a_key_may_be_used_more_than_twice():
    for number in (ANI, BUDI, ANI, BUDI):
        sent_to(number)
    sale = sell(ANI)
    Sale.objects.get().save()
    assert send_all() == [("1", "Struk 7")]
    assert OutboundMessage.objects.count() == 5
    assert [message.recipient[-1] for message in about(sale)] == ["1"]
    assert sorted(OutboundMessage.objects.values_list("idempotency_key", flat=True)) == [
        "receipt:shop.sale:7:paid", *(f"receipt:shop.sale:7:paid:{number}" for number in (2, 3, 4, 5))
    ]  # fmt: skip
    assert kept() == []


@pytest.mark.parametrize(
    ("edit", "shown"),
    [
        ({"refunds": 1}, False),
        ({"sold_at": -timedelta(hours=3)}, False),
        ({"sold_at": timedelta(hours=1)}, True),
        ({"customer_phone": BUDI}, True),
        ({"customer_phone": "0812-0000-0001 (WA)"}, False),
        ({"customer_phone": "none of ours"}, True),
        ({"customer_phone": ""}, False),
        ({"customer_phone": BUDI, "sold_at": -timedelta(hours=3)}, True),
    ],
)
def test_an_edit_of_one_sale_sends_no_second_receipt_and_another_number_is_shown(edit, shown):
    sale = sell(ANI)
    assert send_all() == [("1", "Struk 7")]
    for name, value in edit.items():
        setattr(sale, name, getattr(sale, name) + value if name == "sold_at" else value)
    for _ in range(2):
        sale.save()
    assert len(send_all()) == 1
    assert bool(kept()) is shown
    assert receipts.send_now(sale, PaidReceipt) == ([OutboundMessage.objects.get()] if sale.customer_phone else [])


def test_a_number_that_is_corrected_before_the_text_is_written_is_no_second_receipt():
    sale = sell(ANI)
    sale.customer_phone = BUDI
    sale.save()
    assert kept() == []
    assert OutboundMessage.objects.count() == 1


def test_a_sale_that_is_dated_ahead_is_one_sale():
    sale = sell(ANI, sold_at=timezone.now() + timedelta(hours=5))
    send_all()
    Sale.objects.get().save()
    sale.refunds = 1
    sale.save()
    assert len(send_all()) == 1
    assert kept() == []


def test_a_time_that_moves_with_every_save_sends_no_second_receipt(register):
    class Moving(PaidReceipt):
        event = "moving"
        template_name = "shop/paid.txt"

        def get_occurred_at(self, sale):
            return timezone.now()

    register(Moving)
    sale = sell(ANI)
    assert len(send_all()) == 2
    for _ in range(5):
        sale.save()
    assert len(send_all()) == 2
    assert all("message" in words for words in kept())
    assert kept()


def test_a_sale_that_is_deleted_and_inserted_again_as_it_was_is_one_sale():
    sale = sent_to(ANI)
    sell(ANI, sold_at=sale.sold_at)
    sell(ANI, pk=8, sold_at=sale.sold_at)
    assert send_all() == [("1", "Struk 8")]
    assert kept() == []


def test_a_column_that_keeps_whole_seconds_is_no_other_sale():
    sale = sell(ANI, sold_at=timezone.now().replace(microsecond=600_000))
    send_all()
    Sale.objects.filter(pk=7).update(sold_at=sale.sold_at.replace(microsecond=0) + timedelta(seconds=1))
    Sale.objects.get().save()
    assert len(send_all()) == 1
    assert kept() == []


def test_a_receipt_that_waits_while_its_key_is_used_again_is_the_new_sales():
    sell(ANI).delete()
    waiting = OutboundMessage.objects.get()
    with transaction.atomic():
        sale = sell(ANI)
        Line.objects.create(sale=sale, name="Teh", price=5_000)
    assert [text for _, text in send_all()] == ["Struk 7"]
    assert "Teh" in locmem.outbox[0].text
    for _ in range(2):
        Sale.objects.get().save()
    assert len(send_all()) == 1
    waiting.refresh_from_db()
    assert waiting.source_fingerprint == f"@{Sale.objects.get().sold_at.isoformat()}"
    assert kept() == []


def test_without_a_time_the_number_of_an_inserted_row_tells(register):
    register(Notice, Invoice)
    for number in (ANI, BUDI):
        Invoice.objects.create(number="INV-1", customer_phone=number)
        send_all()
        Invoice.objects.all().delete()
    assert [to for to, _ in send_all()] == ["1", "2"]
    assert kept() == []
    invoice = Invoice.objects.create(number="INV-1")
    invoice.customer_phone = ANI
    invoice.save()
    assert len(send_all()) == 2
    assert len(kept()) == 1


def test_a_fingerprint_of_the_class_decides_alone(register):
    class Numbered(PaidReceipt):
        event = "numbered"
        template_name = "shop/paid.txt"

        def get_fingerprint(self, sale):
            return f"invoice {sale.refunds}"

    receipts.unregister(PaidReceipt)
    try:
        register(Numbered)
        sale = sent_to(ANI)
        sold_at = sale.sold_at
        sale = Sale.objects.create(pk=7, customer_phone=ANI, refunds=2, sold_at=sold_at)
        sale.status = PAID
        sale.save()
        sale.sold_at = timezone.now() + timedelta(hours=1)
        sale.save()
        assert send_all() == [("1", "Struk 7")]
        assert kept() == []
        sale.customer_phone = BUDI
        sale.save()
        assert len(send_all()) == 1
        assert len(kept()) == 1
        sale.refunds = 3
        sale.save()
        assert send_all() == [("1", "Struk 7"), ("2", "Struk 7")]
    finally:
        receipts.register(Sale)(PaidReceipt)
        # Restore the order of tests.shop.whatsapp.
        registry._by_label["shop.sale.RefundReceipt"] = registry._by_label.pop("shop.sale.RefundReceipt")


@pytest.mark.parametrize("answer", [None, 5])
def test_a_fingerprint_that_is_no_text_is_kept_as_a_failure(register, answer):
    register(type("Odd", (Notice,), {"get_fingerprint": lambda self, invoice: answer}), Invoice)
    Invoice.objects.create(number="INV-1", customer_phone=ANI)
    assert not OutboundMessage.objects.exists()
    assert "get_fingerprint() returned" in kept()[0]


def test_two_classes_of_one_event_on_a_model_and_its_proxy_are_shown(register):
    class Counter(PaidReceipt):
        template_name = "shop/paid.txt"

        def get_event_id(self, sale):
            return "paid"

    register(Counter, CounterSale)
    sell(ANI)
    send_all()
    CounterSale.objects.get().save()
    assert len(send_all()) == 1
    assert "another receipt class" in kept()[0]


def test_a_preview_tells_what_a_save_would_do():
    sent_to(ANI)
    [paid] = [each for each in registry.registrations(Sale) if isinstance(each.receipt, PaidReceipt)]
    Sale.objects.bulk_create([Sale(pk=7, status=PAID, customer_phone=BUDI), Sale(pk=8)])
    new, other = Sale.objects.order_by("pk")
    shown = preview(paid, new)
    assert (shown.known, shown.is_unclear, shown.can_be_sent, shown.event_id) == (None, False, True, "paid")
    [message] = receipts.send_now(new, PaidReceipt)
    assert known_messages(paid, [new, other]) == {7: message}
    assert preview(paid, new).known == message
    send_all()
    Sale.objects.filter(pk=7).update(customer_phone=ANI)
    shown = preview(paid, Sale.objects.get(pk=7))
    assert (shown.known, shown.is_unclear, shown.can_be_sent) == (message, True, False)


def test_a_later_save_of_a_paid_sale_is_one_query():
    sale = sell(ANI)
    send_all()
    sale.save()
    with CaptureQueriesContext(connection) as queries:
        sale.save()
    assert [query["sql"].split()[0] for query in queries if "kpwa" in query["sql"]] == ["SELECT"]


@pytest.mark.parametrize("values", [{"customer_phone": BUDI, "status": PAID}, {"customer_phone": BUDI}, {}])
def test_a_row_that_no_save_told_of_shows_nothing_of_an_earlier_one(values):
    sale = sell(ANI)
    other = send_message(ANI, "Pesanan siap", source=sale)
    send_all()
    assert [message.pk for message in about(sale)] == [other.pk, other.pk - 1]
    Sale.objects.filter(pk=7).delete()
    [new] = Sale.objects.bulk_create([Sale(pk=7, **values)])
    late = send_message(BUDI, "Pesanan siap", source=new)
    assert about(new)[0] == late
    assert _about(new)[0] == late
    assert other.pk - 1 not in [message.pk for message in [*about(new), *_about(new)]]


@pytest.mark.parametrize("edit", [{"sold_at": timedelta(hours=1)}, {"sold_at": -timedelta(hours=1)}, {"refunds": 2}])
def test_an_edited_sale_shows_its_messages(edit):
    sale = sell(ANI)
    send_all()
    for name, value in edit.items():
        setattr(sale, name, getattr(sale, name) + value)
    sale.save()
    assert about(sale) == _about(sale) == [OutboundMessage.objects.get()]


def test_a_sale_shows_its_messages_though_its_class_raises(register, caplog):
    class Raising(PaidReceipt):
        event = "raising"
        template_name = "shop/paid.txt"

    register(Raising)
    sale = sell(ANI)
    send_all()
    Raising.get_occurred_at = lambda self, sale: 1 / 0
    assert len(about(sale)) == 2
    assert "ZeroDivisionError" in caplog.text


def test_a_corrected_number_is_shown_until_the_message_was_sent_there():
    sale = sell(ANI)
    send_all()
    sale.customer_phone = BUDI
    sale.save()
    assert len(kept()) == 1
    send_to_another_number(OutboundMessage.objects.get(), BUDI)
    sale.save()
    assert kept() == []
    assert [to for to, _ in send_all()] == ["1", "2"]
