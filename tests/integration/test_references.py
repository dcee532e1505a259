"""A message names its sale in the shop's own words. This reference is stored, shown in lists, and searched."""

from __future__ import annotations

import csv
import io

import pytest
from django.db import Error, connection, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from django_kpwa import outbox, receipts
from django_kpwa.admin.search import READ
from django_kpwa.models import OutboundMessage, ReceiptFailure, Status
from tests.integration.test_receipts import drive_now
from tests.shop.models import Sale, Ticket
from tests.shop.whatsapp import PaidReceipt

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("license_")]

LIST = "/admin/django_kpwa/outboundmessage/"
NUMBER = "081234567890"


@pytest.fixture
def refers(monkeypatch):
    """Make the test shop's receipt get the reference of a sale from the given function."""
    return lambda function: monkeypatch.setattr(PaidReceipt, "get_reference", lambda self, sale: function(sale))


def sold(**columns):
    return Sale.objects.create(**{"status": Sale.Status.PAID, "customer_phone": NUMBER, **columns})


def reference():
    return OutboundMessage.objects.get().source_reference


def a_missing_table(*_):
    with connection.cursor() as cursor:
        cursor.execute("SELECT number FROM a_table_that_is_missing")


def a_swallowed_error(*_):
    try:
        a_missing_table()
    except Error:
        return "INV 3"


def an_inner_block(*_):
    with transaction.atomic(savepoint=False):
        a_missing_table()


# Stored


def test_a_receipt_is_stored_with_what_its_class_calls_the_sale(refers):
    refers(lambda sale: f"INV-{sale.pk}")
    sale = sold()
    assert reference() == f"INV-{sale.pk}"


def test_a_model_that_says_nothing_of_itself_has_no_reference():
    sold()
    assert reference() == ""


@pytest.mark.parametrize(
    ("said", "stored"),
    [
        ("INV\r\n 7\t\x00\x1b[1m", "INV 7 [1m"),
        ("\u202egnp.7\u202c", "gnp.7"),
        ("half \ud800 of one", "half of one"),
        ("x" * 81, "x" * 79 + "…"),
        ("y" * 80, "y" * 80),
        (17, "17"),
        (None, ""),
        ("\u200b \u3164", ""),
    ],
)
def test_a_reference_is_one_line_of_visible_text(refers, said, stored):
    refers(lambda sale: said)
    sold()
    assert reference() == stored


def test_a_class_that_can_not_tell_the_reference_loses_neither_receipt_nor_sale(refers, caplog):
    refers(lambda sale: {}[f"of {NUMBER}"])
    with transaction.atomic():
        before, sale = Sale.objects.create(), sold()
        after = Sale.objects.create()
    assert reference() == ""
    assert Sale.objects.filter(pk__in=[before.pk, sale.pk, after.pk]).count() == 3
    assert not ReceiptFailure.objects.exists()
    assert "shop.sale.PaidReceipt is left empty" in caplog.text
    assert "81234567890" not in caplog.text


@pytest.mark.parametrize("error", [a_missing_table, an_inner_block, a_swallowed_error])
def test_an_error_of_the_database_is_a_failure_of_the_receipt_and_loses_no_sale(refers, error):
    refers(error)
    with transaction.atomic():
        before, sale = Sale.objects.create(), sold()
        after = Sale.objects.create()
    assert Sale.objects.filter(pk__in=[before.pk, sale.pk, after.pk]).count() == 3
    # Only on PostgreSQL does a swallowed failure make the following statements fail.
    is_sent = error is a_swallowed_error and connection.vendor != "postgresql"
    assert [OutboundMessage.objects.count(), ReceiptFailure.objects.count()] == ([1, 0] if is_sent else [0, 1])


def test_a_reference_costs_no_statement_unless_it_queries(refers):
    def statements():
        sold()  # fills the caches
        with transaction.atomic(), CaptureQueriesContext(connection) as seen:
            sold()
        return [query["sql"].split()[0] for query in seen]

    without = statements()
    refers(lambda sale: f"INV-{sale.pk}")
    assert statements() == without
    refers(lambda sale: f"{Sale.objects.count()} sales")
    assert len(statements()) == len(without) + 1


def test_what_got_its_number_after_the_save_is_called_by_it_when_the_text_is_written(refers):
    refers(lambda sale: "INV-12" if sale.refunds else "")
    sale = sold()
    assert reference() == ""
    Sale.objects.filter(pk=sale.pk).update(refunds=1)
    drive_now()
    assert reference() == "INV-12"


def test_a_failure_says_which_sale_it_was(refers):
    refers(lambda sale: f"INV-{sale.pk}")
    sale = sold(customer_phone="0812")
    assert ReceiptFailure.objects.get().source_reference == f"INV-{sale.pk}"


@pytest.mark.parametrize("error", [a_missing_table, lambda sale: {}["nothing"]])
def test_a_failure_is_kept_where_the_reference_can_not_be_told_either(refers, error):
    refers(error)
    with transaction.atomic():
        sold(customer_phone="0812")
    assert ReceiptFailure.objects.get().source_reference == ""
    assert Sale.objects.count() == 1


def test_a_message_is_called_as_its_source_calls_itself_or_as_it_is_told():
    ticket = Ticket.objects.create(holder="Ani, row 7")
    one = outbox.send_message(NUMBER, "Hadir", source=ticket)
    other = outbox.send_message(NUMBER, "Hadir", source=ticket, reference="T-7")
    alone = outbox.send_group_message("Kasir", "Hadir", reference="shift 2")
    [many] = outbox.send_messages([outbox.Message(NUMBER, "Hadir", source=ticket)])
    for message in (one, other, alone, many):
        message.refresh_from_db()
    assert [each.source_reference for each in (one, other, alone, many)] == [
        "Ani, row 7",
        "T-7",
        "shift 2",
        "Ani, row 7",
    ]


def test_a_source_that_can_not_call_itself_loses_neither_message_nor_transaction(monkeypatch):
    monkeypatch.setattr(Ticket, "__str__", lambda ticket: {}["nothing"])
    with transaction.atomic():
        outbox.send_message(NUMBER, "Hadir", source=Ticket.objects.create())
    assert reference() == ""
    assert Ticket.objects.count() == 1


def test_a_copy_keeps_the_reference():
    original = outbox.send_message(NUMBER, "Struk", reference="INV-7")
    assert outbox.send_to_another_number(original, "081298765432").source_reference == "INV-7"


def test_the_class_is_refused_where_its_reference_can_not_be_asked_for():
    class Wrong(PaidReceipt):
        def get_reference(self):
            return ""

    with pytest.raises(Exception, match="get_reference"):
        receipts.register(Sale)(Wrong)


# Shown and found


def listed(client, term):
    return [message.source_reference for message in client.get(LIST, {"q": term}).context["cl"].result_list]


def test_the_list_its_export_and_the_dashboard_say_the_reference(operator, refers):
    refers(lambda sale: f"INV-<{sale.pk}>")
    sale = sold()
    message = OutboundMessage.objects.get()
    OutboundMessage.objects.update(status=Status.UNKNOWN)
    shown = f"INV-&lt;{sale.pk}&gt;"
    for address in (LIST, f"{LIST}{message.pk}/change/", "/admin/django_kpwa/dashboard/"):
        page = operator.get(address).content.decode()
        assert shown in page
        assert f"Sale {sale.pk}" not in page
    answer = operator.post(LIST, {"action": "export", "_selected_action": [message.pk]})
    [row] = csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode("utf-8-sig")))
    assert row["about"] == f"INV-<{sale.pk}>"


def test_failures_are_listed_with_the_reference(operator, refers):
    refers(lambda sale: "INV-31")
    sold(customer_phone="0812")
    assert "INV-31" in operator.get("/admin/django_kpwa/receiptfailure/").content.decode()


def test_a_row_without_a_reference_shows_model_and_key(operator):
    sale = sold()
    assert f"Sale {sale.pk}" in operator.get(LIST).content.decode()


@pytest.mark.parametrize("term", ["INV/2026/0017", "inv/2026/0017", "0017", "v/2026/00"])
def test_a_reference_is_found_in_any_case_and_by_a_part(operator, term):
    for each in ("INV/2026/0017", "INV/2025/0018", "100%"):
        outbox.send_message(NUMBER, "Struk", reference=each)
    assert listed(operator, term) == ["INV/2026/0017"]


def test_a_sign_that_databases_match_anything_by_is_itself(operator):
    for each in ("100%", "1000"):
        outbox.send_message(NUMBER, "Struk", reference=each)
    assert listed(operator, "0%") == ["100%"]


def test_references_are_read_in_the_newest_messages_alone(operator):
    for each in ("INV-1", "INV-2", "INV-3"):
        outbox.send_message(NUMBER, "Struk", reference=each)
    # Pretend that as many newer messages are stored as a search for parts reads.
    OutboundMessage.objects.filter(source_reference="INV-1").update(id=F("id") - READ)
    assert listed(operator, "inv") == ["INV-3", "INV-2"]


def test_the_list_shows_the_first_line_that_not_every_receipt_begins_with(operator):
    for number in (17, 18):
        outbox.send_message(NUMBER, f"*TOKO MAJU*\nJalan Melati 5\n----------\nNota *{number}*\nKopi")
    outbox.send_message(NUMBER, "*Pesanan* siap")
    outbox.send_message(NUMBER, "Toko tutup besok")
    outbox.send_message(NUMBER, "Toko tutup besok")
    lines = [message.kpwa_first_line for message in operator.get(LIST).context["cl"].result_list]
    assert lines == ["Toko tutup besok", "Toko tutup besok", "Pesanan siap", "Nota 18", "Nota 17"]
