"""Receipts in the admin: the classes, the preview of each, sending by hand with permission, and failures."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation
from django.utils.translation import gettext_lazy

from django_kpwa import outbox, receipts
from django_kpwa.admin.receipt_pages import ReceiptPages
from django_kpwa.admin.receipt_preview import MAX_NEWEST, Objects, _newest_first
from django_kpwa.models import License, OutboundMessage, ReceiptFailure, Status
from django_kpwa.receipts import registry
from django_kpwa.receipts.render import render_receipt
from tests.shop.models import CounterSale, Sale, Ticket
from tests.shop.whatsapp import PaidReceipt

LIST = "/admin/django_kpwa/registeredreceipt/"
FAILURES = "/admin/django_kpwa/receiptfailure/"
PAID = f"{LIST}shop.sale.PaidReceipt/"
TICKET = "registeredreceipt/shop.ticket.TicketReceipt/"
NUMBER = "081234567890"
MARKUP = "<script>alert('here')</script>"


@pytest.fixture
def registered():
    """Return a function that registers a receipt class for the test."""
    classes = []

    def register(receipt_class, *models):
        classes.append(receipts.register(*models)(receipt_class))
        return f"{LIST}{models[0]._meta.label_lower}.{receipt_class.__name__}/"

    yield register
    for receipt_class in classes:
        receipts.unregister(receipt_class)


class TicketReceipt(receipts.Receipt):
    """An entrance ticket."""

    event = "issued"
    max_age = None
    expires_after = timedelta(hours=3)
    language = "id"

    def should_send(self, ticket):
        return True

    def get_phone_number(self, ticket):
        return NUMBER

    def render(self, ticket, **context):
        return f"*Tiket* {ticket.holder}"


def an_exploding_receipt(method):
    """Return a receipt class whose `method` raises an exception with a number in its message."""

    def explode(self, *args, **kwargs):
        raise KeyError(f"no total for {NUMBER}")

    return type("ExplodingReceipt", (TicketReceipt,), {method: explode})


def a_sale(**fields):
    """Create a sale that was never saved, as far as its receipts know."""
    [sale] = Sale.objects.bulk_create([Sale(**{"status": "paid", "customer_phone": NUMBER, **fields})])
    return sale if sale.pk else Sale.objects.latest("pk")


def page_of(client, address, obj):
    answer = client.get(address, {"pk": obj.pk})
    assert answer.status_code == 200
    return answer.content.decode()


def send_now(client, address, obj, **fields):
    return client.post(f"{address}send_now/", {"pk": obj.pk, **fields}, follow=True)


# The list


def test_people_read_the_name_of_a_class_that_it_gives_itself(operator, registered):
    named = type("NamedReceipt", (TicketReceipt,), {"verbose_name": gettext_lazy("receipt")})
    address = registered(named, Ticket)
    a_failure(receipt="shop.ticket.NamedReceipt")
    pages = [operator.get(url).content.decode() for url in (LIST, address, FAILURES)]
    with translation.override("id"):
        assert registry.find("shop.ticket.NamedReceipt").name == "Struk"

    assert ">Receipt</a>" in pages[0]
    assert "<h1>Receipt</h1>" in pages[1]
    assert '<td class="field-receipt_shown">Receipt</td>' in pages[2]
    assert ">Paid receipt</a>" in pages[0]
    assert not any("NamedReceipt<" in page for page in (pages[0], pages[2]))


def test_a_name_that_is_none_is_refused(registered):
    with pytest.raises(ImproperlyConfigured, match="verbose_name"):
        registered(type("NumberedReceipt", (TicketReceipt,), {"verbose_name": 7}), Ticket)


def test_the_registered_classes_are_listed_in_words(operator, registered):
    address = registered(TicketReceipt, Ticket)
    page = operator.get(LIST).content.decode()

    for part in (address, PAID, "shop/paid.txt", "An entrance ticket.", "Indonesian", "3\N{NO-BREAK SPACE}hours"):
        assert part in page
    assert "no limit" in page
    assert "render() writes the text" in page
    assert "told apart by get_event_id()" in page  # RefundReceipt


def test_failures_are_counted_to_a_limit_and_linked(operator, staff, monkeypatch):
    a_failure()
    page = operator.get(LIST).content.decode()
    link = f"{FAILURES}?receipt=shop.sale.PaidReceipt"
    assert f'href="{link}"' in page
    assert "1 failure" in page
    assert operator.get(link).context["cl"].result_count == 1
    assert operator.get(f"{FAILURES}?receipt=shop.sale.RefundReceipt").context["cl"].result_count == 0

    monkeypatch.setattr(ReceiptPages, "MAX_FAILURES_COUNTED", 2)
    a_failure(source_id="8")
    a_failure(source_id="9")
    assert "2+ failures" in operator.get(LIST).content.decode()
    assert FAILURES not in staff("view_registeredreceipt").get(LIST).content.decode().partition('id="content"')[2]


def test_a_site_without_receipts_is_told_how_to_write_one(operator, monkeypatch):
    monkeypatch.setattr("django_kpwa.receipts.registry._by_label", {})
    assert "@receipts.register(Sale)" in operator.get(LIST).content.decode()


# The preview


def test_a_preview_shows_what_would_be_sent_as_whatsapp_does_and_stores_nothing(operator, license_, registered):
    address = registered(TicketReceipt, Ticket)
    [ticket] = Ticket.objects.bulk_create([Ticket(holder="Bu Sari")])
    page = page_of(operator, address, ticket)

    assert "<strong>Tiket</strong> Bu Sari" in page
    assert "kpwa-bubble" in page
    for part in ("0812-3456-7890", "issued", "Toko Utama", "can be sent", "Send now"):
        assert part in page
    assert not OutboundMessage.objects.exists()
    assert not ReceiptFailure.objects.exists()


def test_a_preview_says_what_the_worker_would(operator, license_):
    sale = a_sale()
    page = page_of(operator, PAID, sale)
    [message] = receipts.send_now(sale, PaidReceipt)

    assert render_receipt(message).text.splitlines()[0] in page


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({}, "can be sent"),
        ({"status": "open"}, "not wanted"),
        ({"customer_phone": ""}, "no number"),
        ({"customer_phone": "0812 abc"}, "not a phone number"),
        ({"sold_at": timezone.now() - timedelta(days=30)}, "too old to be sent automatically"),
    ],
    ids=["ready", "open", "no number", "wrong number", "old"],
)
def test_a_preview_says_whether_it_would_go_out(operator, license_, fields, verdict):
    page = page_of(operator, PAID, a_sale(**fields))

    assert f"</span> {verdict}</span>" in page
    assert ("/send_now/" in page) is (verdict in ("can be sent", "too old to be sent automatically"))


def test_a_sale_whose_receipt_exists_is_told_so_with_a_link(operator, license_):
    sale = Sale.objects.create(status="paid", customer_phone=NUMBER)
    message = OutboundMessage.objects.get()
    OutboundMessage.objects.update(status=Status.READ)
    page = page_of(operator, PAID, sale)

    assert "exists already" in page
    assert f'href="/admin/django_kpwa/outboundmessage/{message.pk}/change/"' in page
    assert "</span> read</span>" in page
    assert "/send_now/" not in page


def test_the_newest_are_offered_with_what_became_of_their_receipts(operator, license_):
    old = a_sale()
    for _ in range(MAX_NEWEST - 1):
        a_sale()
    Sale.objects.create(status="paid", customer_phone=NUMBER)
    with CaptureQueriesContext(connection) as queries:
        page = operator.get(PAID).content.decode()

    assert page.count("?pk=") == MAX_NEWEST
    assert f'?pk={old.pk}"' not in page
    assert page.count("kpwa-mark kpwa-waiting") == 1
    assert len([query for query in queries if query["sql"].startswith("SELECT")]) < 10


def test_an_object_is_found_by_its_reference_or_a_part_of_it(operator, license_, registered, monkeypatch):
    address = registered(TicketReceipt, Ticket)
    monkeypatch.setattr(Objects, "MAX_REFERENCES", 2)
    known, old, whole, part = (Ticket.objects.create(holder=name) for name in ("KS-1", "KS-2", "KS-77", "KS-770"))
    OutboundMessage.objects.filter(source_id=str(known.pk)).update(source_reference="INV-2026-001")
    OutboundMessage.objects.exclude(source_id=str(known.pk)).delete()
    monkeypatch.setattr(Ticket._meta, "get_latest_by", "holder")

    def found(typed):
        chosen = operator.get(address, {"pk": typed}).context.get("chosen")
        return chosen and chosen.pk

    assert found("inv-2026-001") == found("026-0") == known.pk
    assert found("ks-77") == whole.pk
    assert found("S-770") == part.pk
    assert found("KS-2") is None  # neither sent nor among the newest
    assert found("KS") is None
    assert found(str(old.pk)) == old.pk


@pytest.mark.parametrize(
    ("latest_by", "ordering", "expected"),
    [
        ("sold_at", [], ["-sold_at", "-pk"]),
        (["-sold_at"], [], ["sold_at", "-pk"]),
        (None, ["-sold_at"], ["-sold_at", "-pk"]),
        (None, ["sold_at", "status"], ["-sold_at", "-pk"]),
        (None, ["status"], ["-pk"]),
        (None, [], ["-pk"]),
    ],
)
def test_the_newest_are_those_of_the_models_own_order(operator, license_, monkeypatch, latest_by, ordering, expected):
    monkeypatch.setattr(Sale._meta, "get_latest_by", latest_by)
    monkeypatch.setattr(Sale._meta, "ordering", ordering)
    first = a_sale(sold_at=timezone.now())
    second = a_sale(sold_at=timezone.now() - timedelta(days=1))
    offered = [each["pk"] for each in operator.get(PAID).context["newest"]]

    assert _newest_first(Sale) == expected
    assert offered == ([first.pk, second.pk] if expected[0] == "-sold_at" else [second.pk, first.pk])


@pytest.mark.parametrize("typed", ["999999", "abc", "%00", "9" * 60, "1;DROP", "-1", "1e5", "٣"])
def test_a_key_that_names_nothing_is_told_so(operator, license_, typed):
    answer = operator.get(f"{PAID}?pk={typed}")

    assert answer.status_code == 200
    assert "Not found." in answer.content.decode()


@pytest.mark.parametrize(
    "method",
    ["should_send", "get_phone_number", "get_event_id", "get_license", "get_occurred_at", "get_image_url", "render"],
)
def test_what_a_class_raises_is_told_in_words_and_masked(operator, license_, registered, method):
    address = registered(an_exploding_receipt(method), Ticket)
    [ticket] = Ticket.objects.bulk_create([Ticket(holder="Bu Sari")])
    page = page_of(operator, address, ticket)

    assert "no total for" in page
    assert "KeyError" in page
    assert NUMBER not in page
    assert "raises an error" in page
    assert "/send_now/" not in page
    assert "Nothing was sent" in send_now(operator, address, ticket, confirmed="yes").content.decode()
    assert not OutboundMessage.objects.exists()


def test_a_statement_that_fails_in_a_class_does_not_spoil_the_page(operator, license_, registered):
    class Careless(TicketReceipt):
        def render(self, ticket, **context):
            with connection.cursor() as cursor:
                cursor.execute("SELECT no_such_column FROM shop_ticket")

    address = registered(Careless, Ticket)
    [ticket] = Ticket.objects.bulk_create([Ticket(holder="Bu Sari")])

    assert "no_such_column" in page_of(operator, address, ticket)
    assert Ticket.objects.exists()  # the surrounding transaction still works


def test_an_object_that_cannot_name_itself_is_shown_by_its_key(operator, license_, registered, monkeypatch):
    address = registered(TicketReceipt, Ticket)
    [ticket] = Ticket.objects.bulk_create([Ticket(holder="Bu Sari")])
    monkeypatch.setattr(Ticket, "__str__", lambda self: 1 / 0)

    # Nobody can read a UUID, but its beginning tells it from others.
    shown = page_of(operator, address, ticket).replace(f"pk={ticket.pk}", "").replace(f'value="{ticket.pk}"', "")
    assert f"Ticket {str(ticket.pk)[:8]}…" in shown
    assert str(ticket.pk) not in shown


def test_an_object_is_called_by_its_reference_wherever_it_is_shown(operator, license_, registered):
    class Numbered(TicketReceipt):
        def get_reference(self, ticket):
            return "WEB-2026-0117"

    address = registered(Numbered, Ticket)
    [ticket] = Ticket.objects.bulk_create([Ticket(holder="Bu Sari")])

    for page in (operator.get(address).content.decode(), page_of(operator, address, ticket)):
        assert ">WEB-2026-0117<" in page
        assert "Bu Sari</a>" not in page


def test_a_text_that_is_too_long_or_an_image_that_is_no_address_is_told(operator, license_, registered):
    class TooMuch(TicketReceipt):
        def get_image_url(self, ticket):
            return "javascript:alert(1)"

    address = registered(TooMuch, Ticket)
    [ticket] = Ticket.objects.bulk_create([Ticket(holder="Bu Sari")])
    page = page_of(operator, address, ticket)

    assert "image_url begins with" in page
    assert 'href="javascript' not in page.lower()


def test_stored_markup_never_becomes_live(operator, license_, registered):
    address = registered(TicketReceipt, Ticket)
    [ticket] = Ticket.objects.bulk_create([Ticket(holder=MARKUP)])
    failure = a_failure(receipt=MARKUP, source_id=MARKUP, error=MARKUP)
    pages = [
        page_of(operator, address, ticket),
        operator.get(FAILURES).content.decode(),
        operator.get(f"{FAILURES}{failure.pk}/change/").content.decode(),
        send_now(operator, address, ticket).content.decode(),
    ]
    assert all("&lt;script&gt;" in page and "<script>alert" not in page for page in pages)
    echoed = operator.get(address, {"pk": MARKUP}).content.decode()
    assert "<script>alert" not in echoed


def test_a_license_that_cannot_be_chosen_is_told(operator, db):
    assert "There is no license yet" in page_of(operator, PAID, a_sale())


# Sending now


def test_send_now_asks_first_then_queues_and_is_kept_in_the_log(staff, license_):
    sender = staff("view_registeredreceipt", "view_sale", "view_outboundmessage", "add_outboundmessage")
    sale = a_sale(sold_at=timezone.now() - timedelta(days=30))
    asked = send_now(sender, PAID, sale).content.decode()
    assert "0812-3456-7890" in asked
    assert not OutboundMessage.objects.exists()
    told = send_now(sender, PAID, sale, confirmed="yes").content.decode()

    message = OutboundMessage.objects.get()
    assert (message.status, message.source_id) == (Status.QUEUED, str(sale.pk))
    assert "The receipt is queued." in told
    assert f'href="/admin/django_kpwa/outboundmessage/{message.pk}/change/"' in told
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.change_message) == (str(message.pk), "Send now: Paid receipt")


def test_a_receipt_that_exists_is_not_sent_a_second_time(operator, license_):
    sale = Sale.objects.create(status="paid", customer_phone=NUMBER)
    OutboundMessage.objects.update(status=Status.FAILED)
    told = send_now(operator, PAID, sale, confirmed="yes").content.decode()

    assert "has this receipt already" in told
    assert OutboundMessage.objects.get().status == Status.FAILED
    assert not LogEntry.objects.exists()


def test_what_is_not_wanted_is_not_sent(operator, license_):
    told = send_now(operator, PAID, a_sale(status="open"), confirmed="yes").content.decode()

    assert "Nothing was sent" in told
    assert not OutboundMessage.objects.exists()


def test_a_proxys_receipt_is_its_models(operator, license_, registered):
    class CounterReceipt(TicketReceipt):
        event = "counter"

        def render(self, sale, **context):
            return type(sale).__name__

    address = registered(CounterReceipt, CounterSale)
    sale = a_sale()
    assert ">CounterSale<" in page_of(operator, address, sale)
    send_now(operator, address, sale, confirmed="yes")
    assert "exists already" in page_of(operator, address, sale)


# Permissions


@pytest.mark.parametrize(
    ("permissions", "listed", "previewed", "sent"),
    [
        ([], 403, 403, 403),
        (["view_outboundmessage", "view_receiptfailure", "view_sale", "add_outboundmessage"], 403, 403, 403),
        (["view_registeredreceipt"], 200, 403, 403),
        (["view_registeredreceipt", "add_outboundmessage"], 200, 403, 403),
        (["view_registeredreceipt", "view_sale"], 200, 200, 403),
        (["view_registeredreceipt", "view_sale", "add_outboundmessage"], 200, 200, 302),
    ],
)
def test_a_preview_needs_the_models_permission_and_sending_another(
    staff, license_, permissions, listed, previewed, sent
):
    client, sale = staff(*permissions), a_sale()

    assert client.get(LIST).status_code == client.get(PAID).status_code == listed
    assert client.get(PAID, {"pk": sale.pk}).status_code == previewed
    assert client.post(f"{PAID}send_now/", {"pk": sale.pk, "confirmed": "yes"}).status_code == sent
    assert OutboundMessage.objects.exists() is (sent == 302)


def test_without_the_models_permission_no_object_is_named(staff, license_):
    sale = a_sale()
    page = staff("view_registeredreceipt").get(PAID).content.decode()

    assert "You need the permission" in page
    assert f"?pk={sale.pk}" not in page


def test_nothing_is_sent_by_a_get_and_unknown_receipts_are_not_found(operator, license_):
    sale = a_sale()
    assert operator.get(f"{PAID}send_now/", {"pk": sale.pk}).status_code == 405
    assert operator.get(f"{LIST}shop.sale.NoSuchReceipt/").status_code == 404
    assert operator.post(f"{LIST}shop.sale.NoSuchReceipt/send_now/", {"pk": sale.pk}).status_code == 404
    assert operator.post(f"{PAID}send_now/", {"pk": "999999"}).status_code == 404
    assert operator.get(f"{LIST}add/").status_code == 404


@pytest.mark.urls("tests.shop.backoffice")
def test_another_site_shows_each_person_the_rows_that_its_own_admin_does(staff, license_, registered):
    registered(TicketReceipt, Ticket)
    anis, others = Ticket.objects.bulk_create([Ticket(holder="ani"), Ticket(holder="budi")])
    client = staff("view_registeredreceipt", "view_ticket", "add_outboundmessage")
    address = f"/back/office/django_kpwa/{TICKET}"
    page = page_of(client, address, anis)

    assert f'href="/back/office/shop/ticket/{anis.pk}/change/"' in page
    assert f"?pk={others.pk}" not in page
    assert "Not found." in page_of(client, address, others)
    assert client.post(f"{address}send_now/", {"pk": others.pk, "confirmed": "yes"}).status_code == 404
    assert f'action="{address}send_now/"' in page
    assert send_now(client, address, anis, confirmed="yes").redirect_chain[-1][0].startswith(address)
    assert '"/admin/' not in page


# Failures


def a_failure(**fields):
    return ReceiptFailure.objects.create(
        **{
            "receipt": "shop.sale.PaidReceipt",
            "source_content_type": ContentType.objects.get_for_model(License),
            "source_id": "7",
            "error": "KeyError: 'total'\nand a second line",
            "occurred_at": timezone.now(),
            **fields,
        }
    )


def test_failures_are_listed_with_their_source_and_why(operator, license_):
    failure = a_failure(source_id=str(license_.pk))
    page = operator.get(FAILURES).content.decode()

    assert f'href="/admin/django_kpwa/license/{license_.pk}/change/"' in page
    assert "No receipt was made" in page  # the cause was not stored
    assert "KeyError" not in page
    page = operator.get(f"{FAILURES}{failure.pk}/change/").content.decode()
    assert "a second line" in page
    assert f'href="/admin/django_kpwa/license/{license_.pk}/change/"' in page


def test_a_failure_leads_to_the_preview_of_its_receipt(operator, license_):
    sale = a_sale()
    failure = a_failure(source_content_type=ContentType.objects.get_for_model(Sale), source_id=str(sale.pk))
    gone = a_failure(receipt="shop.sale.GoneReceipt")

    assert f'href="{PAID}?pk={sale.pk}"' in operator.get(f"{FAILURES}{failure.pk}/change/").content.decode()
    assert "GoneReceipt/?pk" not in operator.get(f"{FAILURES}{gone.pk}/change/").content.decode()


def test_the_list_of_failures_counts_no_whole_table_and_asks_the_same_for_many(operator, license_):
    a_failure(source_id="more")
    operator.get(FAILURES)
    with CaptureQueriesContext(connection) as for_one:
        operator.get(FAILURES)
    for number in range(20):
        a_failure(source_id=str(number))
    with CaptureQueriesContext(connection) as for_many:
        operator.get(FAILURES)

    assert len(for_many) == len(for_one)
    about = [query["sql"].upper() for query in for_many if "receiptfailure" in query["sql"]]
    assert not [sql for sql in about if ("COUNT(" in sql and "LIMIT" not in sql) or "DISTINCT" in sql]


def test_failures_are_hidden_from_who_may_not_view_them(staff):
    failure = a_failure()
    client = staff("view_registeredreceipt")

    assert client.get(FAILURES).status_code == 403
    assert client.get(f"{FAILURES}{failure.pk}/change/").status_code == 403


def test_a_source_that_was_deleted_is_still_named(operator, license_):
    outbox.send_message(NUMBER, "Struk")
    failure = a_failure(source_content_type=ContentType.objects.get_for_model(Sale), source_id="404")

    assert "Sale 404" in operator.get(f"{FAILURES}{failure.pk}/change/").content.decode()


def test_a_failure_is_sent_once_it_is_mended_or_cleared_by_a_person(operator, license_):
    sale = Sale.objects.create(status=Sale.Status.PAID, customer_phone="0812")
    failure = ReceiptFailure.objects.get()
    address = f"{FAILURES}{failure.pk}/"
    page = operator.get(f"{address}change/").content.decode()
    assert "The phone number is not one" in page
    assert "Correct the number and save" in page
    assert "Nothing was sent: the phone number is not one." in (
        operator.post(f"{address}send_now/", follow=True).content.decode()
    )
    Sale.objects.filter(pk=sale.pk).update(customer_phone="0812 3456 7890")
    operator.post(f"{address}send_now/")
    assert not ReceiptFailure.objects.exists()
    assert OutboundMessage.objects.get().recipient == "6281234567890"
    another = a_failure()
    asked = operator.post(f"{FAILURES}{another.pk}/clear/").content.decode()
    assert "Nothing is sent." in asked
    operator.post(f"{FAILURES}{another.pk}/clear/", {"confirmed": "yes"})
    assert not ReceiptFailure.objects.exists()
