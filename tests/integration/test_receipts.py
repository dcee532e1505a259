"""From a saved sale to a message: when there is a message, what it says, and that it never breaks the sale."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from datetime import timezone as dt_timezone

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.utils import timezone, translation

from django_kpwa import outbox, receipts, validation
from django_kpwa.dispatch import drive
from django_kpwa.gateway import locmem
from django_kpwa.models import DatabaseNow, License, OutboundMessage, ReceiptFailure, Status
from tests.shop.models import CounterSale, Line, Sale
from tests.shop.whatsapp import PaidReceipt, RefundReceipt

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("license_")]
in_autocommit = pytest.mark.django_db(transaction=True)

PAID = {"status": Sale.Status.PAID, "customer_phone": "0812 3456 7890"}


class Notice(receipts.Receipt):
    """A receipt for every paid sale. Tests override the methods that they are about."""

    event = "notice"

    def should_send(self, sale):
        return sale.status == Sale.Status.PAID

    def get_phone_number(self, sale):
        return sale.customer_phone

    def get_occurred_at(self, sale):
        return sale.sold_at

    def render(self, sale, **context):
        return f"Catatan {sale.pk}"


def drive_now() -> None:
    """Drive the only lane as if the wait for a sale's lines were over."""
    OutboundMessage.objects.filter(status=Status.QUEUED).update(due_at=DatabaseNow())
    drive(License.objects.get().pk)


def sent_texts() -> list[str]:
    drive_now()
    return [message.text for message in locmem.outbox]


@in_autocommit
def test_lines_saved_after_the_sale_in_its_transaction_are_on_the_receipt():
    with transaction.atomic():
        sale = Sale.objects.create(**PAID)
        Line.objects.create(sale=sale, name="Kopi Tubruk", price=12_000)
    drive(License.objects.get().pk)
    assert [message.text for message in locmem.outbox] == [f"Struk {sale.pk}\nKopi Tubruk Rp 12.000"]
    assert locmem.outbox[0].to == "6281234567890"


@in_autocommit
def test_lines_saved_after_the_sale_in_autocommit_are_on_the_receipt():
    sale = Sale.objects.create(**PAID)
    drive(License.objects.get().pk)
    assert locmem.outbox == []
    Line.objects.create(sale=sale, name="Kopi Tubruk", price=12_000)
    assert sent_texts() == [f"Struk {sale.pk}\nKopi Tubruk Rp 12.000"]


@in_autocommit
def test_a_receipt_of_an_autocommitted_sale_waits_for_the_render_delay(settings):
    settings.KPWA = {**settings.KPWA, "RENDER_DELAY_SECONDS": 7.0}
    Sale.objects.create(**PAID)
    message = OutboundMessage.objects.get()
    assert (message.due_at - message.created_at) == timedelta(seconds=7)


def test_the_message_is_stored_without_its_text_in_the_transaction_of_the_sale():
    with transaction.atomic():
        sale = Sale.objects.create(**PAID)
        message = OutboundMessage.objects.get()
    assert message.text == ""
    assert message.idempotency_key == f"receipt:shop.sale:{sale.pk}:paid"
    assert list(OutboundMessage.objects.for_source(sale)) == [message]


@in_autocommit
def test_a_sale_that_is_rolled_back_has_no_receipt():
    with pytest.raises(RuntimeError), transaction.atomic():
        Sale.objects.create(**PAID)
        raise RuntimeError("the till's power went")
    assert not OutboundMessage.objects.exists()


@in_autocommit
def test_a_sale_rolled_back_to_a_savepoint_has_no_receipt():
    with transaction.atomic():
        kept = Sale.objects.create(**PAID)
        with pytest.raises(RuntimeError), transaction.atomic():
            Sale.objects.create(**PAID)
            raise RuntimeError
    assert OutboundMessage.objects.get().source_id == str(kept.pk)


def test_ten_saves_of_a_paid_sale_send_one_receipt():
    sale = Sale.objects.create(**PAID)
    for _ in range(4):
        sale.save()
    assert len(sent_texts()) == 1
    for _ in range(5):
        sale.save()
    assert len(sent_texts()) == 1


def test_a_sale_that_is_paid_later_gets_its_receipt_then():
    sale = Sale.objects.create(customer_phone="081234567890")
    assert not OutboundMessage.objects.exists()
    sale.status = Sale.Status.PAID
    sale.save(update_fields=["status"])
    assert sent_texts() == [f"Struk {sale.pk}"]


@pytest.mark.parametrize("number", ["", "   "])
def test_a_sale_without_a_number_has_no_receipt_and_no_failure(number):
    Sale.objects.create(status=Sale.Status.PAID, customer_phone=number)
    assert not OutboundMessage.objects.exists()
    assert not ReceiptFailure.objects.exists()


def test_a_fixture_that_is_loaded_sends_nothing(tmp_path):
    row = {"model": "shop.sale", "pk": 77, "fields": {**PAID, "sold_at": timezone.now().isoformat()}}
    fixture = tmp_path / "sales.json"
    fixture.write_text(json.dumps([row]))
    call_command("loaddata", str(fixture), verbosity=0)
    assert Sale.objects.get().pk == 77
    assert not OutboundMessage.objects.exists()
    assert not ReceiptFailure.objects.exists()


def test_editing_a_sale_older_than_max_age_sends_nothing():
    sale = Sale.objects.create(**PAID, sold_at=timezone.now() - timedelta(days=365))
    sale.save()
    assert not OutboundMessage.objects.exists()
    Sale.objects.create(**PAID, sold_at=timezone.now() - timedelta(days=1, hours=23))
    assert OutboundMessage.objects.count() == 1


def test_importing_fifty_sales_of_2021_sends_nothing(register):
    register(Notice)
    register(type("Timeless", (Notice,), {"event": "timeless", "get_occurred_at": lambda self, sale: None}))
    for day in range(50):
        Sale(**PAID, sold_at=datetime(2021, 3, 1, tzinfo=dt_timezone.utc) + timedelta(days=day)).save()
    assert not OutboundMessage.objects.exists()
    # A class that cannot tell the time of its sales stores a failure and sends nothing.
    assert set(ReceiptFailure.objects.values_list("receipt", flat=True)) == {"shop.sale.Timeless"}


def test_a_sale_without_a_number_is_not_asked_for_its_time(register):
    register(type("Timeless", (Notice,), {"get_occurred_at": lambda self, sale: None}))
    Sale.objects.create(status=Sale.Status.PAID)
    assert not ReceiptFailure.objects.exists()


def test_max_age_none_sends_for_a_sale_of_any_age(register):
    register(type("Anniversary", (PaidReceipt,), {"event": "anniversary", "max_age": None}))
    sale = Sale.objects.create(**PAID, sold_at=timezone.now() - timedelta(days=365))
    assert OutboundMessage.objects.get().idempotency_key == f"receipt:shop.sale:{sale.pk}:anniversary"


def test_bulk_create_sends_nothing_and_send_now_is_the_call_that_does():
    with transaction.atomic():
        sales = Sale.objects.bulk_create([Sale(**PAID), Sale(status=Sale.Status.OPEN, customer_phone="081234567890")])
        assert not OutboundMessage.objects.exists()
        queued = [receipts.send_now(sale) for sale in sales]
    assert [len(messages) for messages in queued] == [1, 0]
    assert sent_texts() == [f"Struk {sales[0].pk}"]


def test_send_now_sends_an_old_sale_whose_save_would_not_and_sends_it_once():
    sale = Sale.objects.create(**PAID, sold_at=timezone.now() - timedelta(days=365))
    first = receipts.send_now(sale, PaidReceipt)
    assert receipts.send_now(sale) == first
    sale.save()
    assert len(sent_texts()) == 1


def test_send_now_refuses_what_has_no_receipt_and_what_is_not_saved(license_):
    with pytest.raises(LookupError, match=r"^A receipt is not registered for django_kpwa\.License\.$"):
        receipts.send_now(license_)
    with pytest.raises(LookupError, match=r"^Notice is not registered for shop\.Sale\.$"):
        receipts.send_now(Sale.objects.create(), Notice)
    for unsaved in (Sale(), Sale(pk=1, **PAID)):
        with pytest.raises(ValueError, match="save it first"):
            receipts.send_now(unsaved)
    assert not OutboundMessage.objects.exists()


def test_send_now_keeps_a_bad_number_as_a_failure_and_raises_nothing():
    (sale,) = Sale.objects.bulk_create([Sale(status=Sale.Status.PAID, customer_phone="0812")])
    with transaction.atomic():
        assert receipts.send_now(sale) == []
        sale.save()
    assert ReceiptFailure.objects.get().times == 2


def test_a_sale_voided_before_its_turn_withdraws_the_receipt():
    sale = Sale.objects.create(**PAID)
    sale.status = Sale.Status.VOID
    sale.save()
    assert sent_texts() == []
    message = OutboundMessage.objects.get()
    assert (message.status, message.reason) == (Status.CANCELLED, "withdrawn")
    assert message.reason_words == "No receipt was wanted any more when its turn came."


def test_a_sale_deleted_before_its_turn_withdraws_the_receipt():
    Sale.objects.create(**PAID).delete()
    assert sent_texts() == []
    message = OutboundMessage.objects.get()
    assert (message.status, message.reason_words) == (
        Status.CANCELLED,
        "What the receipt was about has been deleted.",
    )


def test_two_refunds_of_one_sale_are_two_messages_beside_its_receipt():
    sale = Sale.objects.create(**PAID)
    drive_now()
    for refunds in (1, 2):
        sale.status, sale.refunds = Sale.Status.REFUNDED, refunds
        sale.save()
        sale.save()
    assert sent_texts() == [f"Struk {sale.pk}", "Pengembalian refund-1", "Pengembalian refund-2"]


def test_several_receipts_of_one_save_are_each_sent(register):
    register(Notice)
    sale = Sale.objects.create(**PAID)
    assert sorted(sent_texts()) == [f"Catatan {sale.pk}", f"Struk {sale.pk}"]


def test_an_image_is_sent_with_the_text(register):
    register(type("Pictured", (Notice,), {"get_image_url": lambda self, sale: f"https://shop.example/{sale.pk}.png"}))
    sale = Sale.objects.create(**PAID)
    drive_now()
    assert f"https://shop.example/{sale.pk}.png" in [message.image_url for message in locmem.outbox]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"get_image_url": lambda self, sale: "file:///etc/passwd"}, "http"),
        ({"render": lambda self, sale, **context: "x" * (validation.MAX_TEXT_LENGTH + 1)}, "65,537 characters"),
        ({"render": lambda self, sale, **context: "a\x00b"}, "NUL"),
        ({"render": lambda self, sale, **context: 1 / 0}, "ZeroDivisionError"),
        ({"render": receipts.Receipt.render, "template_name": "shop/nowhere.txt"}, "TemplateDoesNotExist"),
    ],
)
def test_what_cannot_be_rendered_fails_with_the_reason_and_holds_up_nothing(register, overrides, words):
    register(type("Broken", (Notice,), overrides))
    sale = Sale.objects.create(**PAID)
    assert sent_texts() == [f"Struk {sale.pk}"]
    failed = OutboundMessage.objects.get(status=Status.FAILED)
    assert failed.reason == "render_error"
    assert words in failed.reason_words


def test_the_reason_of_a_failed_rendering_hides_numbers_and_is_storable(register, caplog):
    def render(self, sale, **context):
        raise ValueError(f"no outlet for {sale.customer_phone}\x00\ud800")

    register(type("Broken", (Notice,), {"render": render}))
    Sale.objects.create(**PAID)
    drive_now()
    failed = OutboundMessage.objects.get(status=Status.FAILED)
    assert failed.reason_words.startswith("ValueError: no outlet for 08")
    assert "3456" not in failed.reason_words + caplog.text


def test_a_receipt_class_that_is_gone_fails_its_waiting_messages(register):
    receipts.register(Sale)(Notice)
    Sale.objects.create(**PAID)
    receipts.unregister(Notice)
    drive_now()
    assert "shop.sale.Notice" in OutboundMessage.objects.get(status=Status.FAILED).reason_words


def test_the_license_that_a_receipt_chooses_sends_it(register):
    outlet = License(name="Toko Cabang")
    outlet.set_api_key("test-api-key-0002")
    outlet.save()
    register(
        type(
            "Branch",
            (Notice,),
            {
                "get_license": lambda self, sale: outlet,
                "render": lambda self, sale, **context: context["license"].name,
            },
        )
    )
    Sale.objects.create(**PAID)
    OutboundMessage.objects.update(due_at=DatabaseNow())
    drive(outlet.pk)
    assert [message.text for message in locmem.outbox] == ["Toko Cabang"]


def _query_nonsense(self, sale):
    with connection.cursor() as cursor:
        cursor.execute("SELECT nothing FROM nowhere")


def _raise(self, sale):
    raise KeyError("no outlet for 081234567890")


@pytest.mark.parametrize(
    "method", ["should_send", "get_phone_number", "get_license", "get_event_id", "get_occurred_at"]
)
@pytest.mark.parametrize("fault", [_raise, _query_nonsense])
def test_a_receipt_class_that_raises_never_breaks_the_sale(register, caplog, method, fault):
    register(type("Faulty", (Notice,), {method: fault}))
    with transaction.atomic():
        sale = Sale.objects.create(**PAID)
        # The transaction is still usable. On PostgreSQL, a failed statement outside a savepoint would have ended it.
        Line.objects.create(sale=sale, name="Kopi Tubruk", price=12_000)
    assert Sale.objects.get().lines.count() == 1
    assert sent_texts() == [f"Struk {sale.pk}\nKopi Tubruk Rp 12.000"]
    failure = ReceiptFailure.objects.get()
    assert (failure.receipt, failure.source_id) == ("shop.sale.Faulty", str(sale.pk))
    assert failure.source_content_type.model_class() is Sale
    assert "shop.sale.Faulty" in caplog.text
    assert "81234567890" not in caplog.text + failure.error


@in_autocommit
def test_a_receipt_class_that_raises_never_breaks_a_sale_in_autocommit(register):
    register(type("Faulty", (Notice,), {"should_send": _query_nonsense}))
    sale = Sale.objects.create(**PAID)
    assert ReceiptFailure.objects.get().source_id == str(sale.pk)
    assert sent_texts() == [f"Struk {sale.pk}"]


def test_a_number_that_is_none_is_kept_as_a_failure_with_its_digits_hidden():
    with transaction.atomic():
        Sale.objects.create(status=Sale.Status.PAID, customer_phone="081234")
    failure = ReceiptFailure.objects.get()
    assert "InvalidPhoneNumberError" in failure.error
    assert "081234" not in failure.error
    assert not OutboundMessage.objects.exists()


def test_a_sale_is_saved_where_there_is_no_license_yet():
    License.objects.all().delete()
    sale = Sale.objects.create(**PAID)
    message = OutboundMessage.objects.get()
    assert (message.license, message.status) == (None, "queued")
    assert not ReceiptFailure.objects.exists()
    assert Sale.objects.filter(pk=sale.pk).exists()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"get_occurred_at": lambda self, sale: timezone.now().replace(tzinfo=None)}, "aware datetime"),
        ({"get_occurred_at": lambda self, sale: None}, "get_occurred_at() returned None; a receipt with a max_age"),
        ({"get_occurred_at": lambda self, sale: sale.sold_at.date()}, "aware datetime"),
        ({"get_event_id": lambda self, sale: 5}, "get_event_id() returned 5"),
        ({"get_event_id": lambda self, sale: " \u200b"}, "get_event_id() returned"),
        ({"get_event_id": lambda self, sale: "x" * 300}, "idempotency_key has"),
        ({"get_phone_number": lambda self, sale: "\ud800"}, "phone number"),
        ({"should_send": lambda self, sale: exec("raise ValueError('a\\x00b\\ud800')")}, "ValueError: ab?"),
    ],
)
def test_a_wrong_answer_of_a_receipt_class_is_kept_with_words_that_say_which(register, overrides, words):
    register(type("Wrong", (Notice,), overrides))
    Sale.objects.create(**PAID)
    assert words in ReceiptFailure.objects.get().error


@in_autocommit
def test_the_sale_is_saved_even_where_the_failure_cannot_be_kept(register, caplog):
    register(type("Faulty", (Notice,), {"should_send": _raise}))
    with connection.schema_editor() as editor:
        editor.alter_db_table(ReceiptFailure, ReceiptFailure._meta.db_table, "kpwa_elsewhere")
    try:
        with transaction.atomic():
            sale = Sale.objects.create(**PAID)
            Line.objects.create(sale=sale, name="Klepon", price=9_000)
    finally:
        with connection.schema_editor() as editor:
            editor.alter_db_table(ReceiptFailure, "kpwa_elsewhere", ReceiptFailure._meta.db_table)
    assert "could not be stored for the admin either" in caplog.text
    assert sent_texts() == [f"Struk {sale.pk}\nKlepon Rp 9.000"]


def test_a_receipt_that_waited_too_long_expires(register):
    register(type("Brief", (Notice,), {"expires_after": timedelta(hours=1)}))
    register(type("Patient", (Notice,), {"event": "patient", "expires_after": None}))
    sale = Sale.objects.create(**PAID)
    brief = OutboundMessage.objects.get(idempotency_key=f"receipt:shop.sale:{sale.pk}:notice")
    patient = OutboundMessage.objects.get(idempotency_key=f"receipt:shop.sale:{sale.pk}:patient")
    assert timedelta(minutes=59) < brief.expires_at - brief.created_at < timedelta(minutes=61)
    assert patient.expires_at is None
    OutboundMessage.objects.filter(pk=brief.pk).update(expires_at=timezone.now() - timedelta(minutes=1))
    drive_now()
    brief.refresh_from_db()
    assert brief.status == Status.EXPIRED


def test_refund_receipts_are_registered_after_paid_ones():
    labels = [registration.label for registration in receipts.registry.registrations(Sale)]
    assert labels == ["shop.sale.PaidReceipt", f"shop.sale.{RefundReceipt.__name__}"]


def test_a_sale_saved_through_a_proxy_and_through_its_model_gets_one_receipt():
    receipts.register(Sale, CounterSale)(Notice)
    try:
        sale = CounterSale.objects.create(**PAID)
        assert OutboundMessage.objects.get().idempotency_key == f"receipt:shop.sale:{sale.pk}:notice"
        Sale.objects.get().save()
        assert sorted(sent_texts()) == [f"Catatan {sale.pk}", f"Struk {sale.pk}"]
    finally:
        receipts.unregister(Notice)


@pytest.mark.parametrize(("language", "rendered"), [("", "en"), ("id", "id")])
def test_the_text_is_in_the_receipts_language_and_the_sites_time_zone(register, language, rendered):
    def render(self, sale, **context):
        return f"{translation.get_language()} {timezone.get_current_timezone_name()}"

    register(type("Spoken", (Notice,), {"language": language, "render": render}))
    with translation.override("fr"), timezone.override("UTC"):
        Sale.objects.create(**PAID)
        assert f"{rendered} Asia/Jakarta" in sent_texts()


@in_autocommit
def test_a_copy_of_a_receipt_that_is_not_written_yet_is_written_for_its_own_event():
    sale = Sale.objects.create(status=Sale.Status.REFUNDED, refunds=1, customer_phone="0812 3456 7890")
    message = OutboundMessage.objects.get()
    assert message.needs_rendering
    copy = outbox.send_to_another_number(message, "0857 1111 2222")
    assert outbox.send_to_another_number(message, "0857 1111 2222").pk == copy.pk
    assert sent_texts() == ["Pengembalian refund-1"] * 2
    assert {sent.to for sent in locmem.outbox} == {"6281234567890", "6285711112222"}
    assert OutboundMessage.objects.for_source(sale).count() == 2
    # Saving the sale again queues nothing: it already has its receipt.
    sale.save()
    assert OutboundMessage.objects.count() == 2


def test_a_receipt_renders_for_a_preview_without_a_message():
    sale = Sale.objects.create()
    Line.objects.create(sale=sale, name="Kopi & Roti", price=9_000)
    assert PaidReceipt().render(sale) == f"Struk {sale.pk}\nKopi & Roti Rp 9.000"
