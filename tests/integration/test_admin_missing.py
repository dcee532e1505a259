"""The admin's page of missing receipts, and the dashboard's part about them."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone

from django_kpwa import receipts
from django_kpwa.admin.receipt_missing import MissingPage
from django_kpwa.models import OutboundMessage, ReceiptFailure
from django_kpwa.receipts import looks
from django_kpwa.receipts.missing import Found, classes
from tests.shop.models import Sale, Ticket
from tests.shop.whatsapp import PaidReceipt

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("license_")]

PAGE = "/admin/django_kpwa/registeredreceipt/missing/"
SEND = f"{PAGE}send/"
DASHBOARD = "/admin/django_kpwa/dashboard/"
PAID = "shop.sale.PaidReceipt"
NUMBER = "0812 3456 7890"


def untold(count=1, minutes=10, phone=NUMBER):
    sold_at = timezone.now() - timedelta(minutes=minutes)
    rows = [Sale(status=Sale.Status.PAID, customer_phone=phone, sold_at=sold_at) for _ in range(count)]
    return Sale.objects.bulk_create(rows)


@pytest.fixture(autouse=True)
def reference(monkeypatch):
    monkeypatch.setattr(PaidReceipt, "get_reference", lambda self, sale: f"INV-{sale.pk}")


def words_of(answer):
    return " ".join(re.sub(r"<[^>]*>", " ", answer.content.decode()).split())


def press(client, confirmed=True, **fields):
    span = {"since": (timezone.now() - timedelta(days=1)).isoformat(), "until": timezone.now().isoformat()}
    yes = {"confirmed": "yes"} if confirmed else {}
    return client.post(SEND, {"label": PAID, **span, **yes, **fields}, follow=confirmed)


def test_the_page_says_what_became_of_each_receipt_and_links_to_the_sales(operator):
    [row] = untold()
    untold(phone="")
    Sale.objects.create(status=Sale.Status.PAID, customer_phone=NUMBER, sold_at=timezone.now() - timedelta(minutes=5))
    answer = operator.get(PAGE)
    shown = words_of(answer)
    assert "Paid receipt: the last 2 days" in shown
    assert "1 ✕ never queued" in shown
    assert "1 – without a number" in shown
    assert "1 ◷ waiting" in shown
    assert f"INV-{row.pk}" in shown
    assert "3456" not in shown


@pytest.mark.parametrize(("span", "found"), [("hour", 1), ("day", 2), ("week", 3), ("nonsense", 2)])
def test_the_time_is_chosen(operator, span, found, monkeypatch):
    monkeypatch.setattr(PaidReceipt, "max_age", None)
    for minutes in (10, 10 * 60, 3 * 24 * 60):
        untold(minutes=minutes)
    assert f"{found} ✕ never queued" in words_of(operator.get(PAGE, {"span": span}))


def test_send_asks_first_then_queues_each_once_and_keeps_who_did(operator):
    rows = untold(3)
    asked = words_of(press(operator, confirmed=False))
    assert "Missing: 3." in asked
    assert f"INV-{rows[0].pk}" in asked
    assert not OutboundMessage.objects.exists()
    assert "3 receipts are queued." in words_of(press(operator))
    assert "No receipt is missing." in words_of(press(operator))
    assert OutboundMessage.objects.count() == 3
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.user.username) == (PAID, "boss")
    assert "3 receipts are queued." in entry.get_change_message()
    assert press(operator, confirmed=False).status_code == 302


def test_what_fails_when_it_is_sent_is_told(operator):
    untold(phone="0812")
    assert "1 could not be made" in words_of(press(operator))
    assert ReceiptFailure.objects.count() == 1


def test_a_long_time_is_looked_at_for_some_seconds_and_the_command_named(operator, monkeypatch):
    monkeypatch.setattr(MissingPage, "LOOK_SECONDS", 0.0)
    untold()
    shown = words_of(operator.get(PAGE))
    assert "Time was up after 0 sales." in shown
    assert "manage.py kpwa missing --since" in shown
    assert "not all sales were looked at" in words_of(press(operator, confirmed=False))
    monkeypatch.setattr(MissingPage, "SEND_SECONDS", 0.0)
    assert "Press again for the rest." in words_of(press(operator))
    assert not OutboundMessage.objects.exists()


def test_the_first_hundred_are_listed(operator, monkeypatch):
    monkeypatch.setattr(Found, "MAX_NAMED", 5)
    untold(8)
    shown = words_of(operator.get(PAGE))
    assert len(re.findall(r"INV-\d+", shown)) == 5
    assert "… and 3 more" in shown


def test_a_class_that_raises_is_told(operator, monkeypatch):
    monkeypatch.setattr(PaidReceipt, "get_candidates", lambda self, since, until: {}[NUMBER])
    shown = words_of(operator.get(PAGE))
    assert "get_candidates() KeyError" in shown
    assert "3456" not in shown


@pytest.mark.urls("tests.shop.backoffice")
def test_a_sale_leads_to_its_page(operator):
    [row] = untold()
    address = PAGE.replace("/admin/", "/back/office/")
    assert f'href="/back/office/shop/sale/{row.pk}/change/">INV-{row.pk}<' in operator.get(address).content.decode()


@pytest.mark.urls("tests.shop.backoffice")
def test_who_is_shown_some_sales_alone_sees_and_sends_those(staff):
    class TicketReceipt(receipts.Receipt):
        template_name, max_age = "shop/paid.txt", None

        def should_send(self, ticket):
            return True

        def get_phone_number(self, ticket):
            return NUMBER

        def get_candidates(self, since, until):
            return Ticket.objects.all()

    receipts.register(Ticket)(TicketReceipt)
    try:
        [anis, _] = Ticket.objects.bulk_create([Ticket(holder="ani"), Ticket(holder="budi")])
        client = staff("view_registeredreceipt", "view_ticket", "add_outboundmessage")
        address = PAGE.replace("/admin/", "/back/office/")
        shown = words_of(client.get(address))
        assert "1 ✕ never queued" in shown
        assert "budi" not in shown
        fields = {"label": "shop.ticket.TicketReceipt", "span": "day", "confirmed": "yes"}
        assert client.post(f"{address}send/", fields).status_code == 302
        assert OutboundMessage.objects.get().source_id == str(anis.pk)
    finally:
        receipts.unregister(TicketReceipt)


def test_without_the_models_permission_sales_are_counted_and_neither_named_nor_sent(staff):
    untold()
    client = staff("view_registeredreceipt", "add_outboundmessage")
    shown = words_of(client.get(PAGE))
    assert "1 ✕ never queued" in shown
    assert "INV-" not in shown
    assert "Send the missing" not in shown.replace("“Send the missing”", "")
    assert press(client).status_code == 403


def test_who_may_not_send_is_not_offered_to(staff):
    untold()
    client = staff("view_registeredreceipt", "view_sale")
    shown = words_of(client.get(PAGE))
    assert "INV-" in shown
    assert "Send the missing" not in shown.replace("“Send the missing”", "")
    assert press(client).status_code == 403
    assert not OutboundMessage.objects.exists()


def test_nothing_is_sent_by_a_get_and_unknown_classes_are_not_found(operator):
    assert operator.get(SEND).status_code == 405
    assert press(operator, label="shop.sale.Nothing").status_code == 404


def test_the_list_of_receipts_leads_to_the_page(operator, monkeypatch):
    assert f'href="{PAGE}"' in operator.get("/admin/django_kpwa/registeredreceipt/").content.decode()


# The dashboard


def test_the_dashboard_shows_the_last_look_and_looks_at_nothing_itself(operator, monkeypatch):
    untold(5)
    assert "Nobody has looked for them yet." in words_of(operator.get(DASHBOARD))
    looks.look_regularly()
    monkeypatch.setattr(PaidReceipt, "get_candidates", lambda self, since, until: pytest.fail("get_candidates() ran"))
    answer = operator.get(DASHBOARD)
    shown = words_of(answer)
    assert "Sales for which no receipt was ever made: 5." in shown
    assert "Paid receipt ✕ never queued: 5" in shown
    assert f"{PAGE}?since=" in answer.content.decode()


def test_the_link_of_the_dashboard_leads_to_what_it_tells_of(operator):
    untold(5)
    looks.look_regularly()
    address = re.search(rf'href="({PAGE}[^"]*)"', operator.get(DASHBOARD).content.decode())[1].replace("&amp;", "&")
    assert "5 ✕ never queued" in words_of(operator.get(address))
    press(operator)
    assert "Paid receipt ✓ none is missing" in words_of(operator.get(DASHBOARD))


def test_a_site_whose_classes_name_no_candidates_has_no_such_part(operator, monkeypatch):
    for registration in classes():
        receipt_class = type(registration.receipt)
        monkeypatch.setattr(receipt_class, "get_candidates", receipt_class.__mro__[-2].get_candidates)
    assert "Missing receipts" not in words_of(operator.get(DASHBOARD))
    assert f'href="{PAGE}"' not in operator.get("/admin/django_kpwa/registeredreceipt/").content.decode()
    assert "a developer defines get_candidates()" in words_of(operator.get(PAGE))
