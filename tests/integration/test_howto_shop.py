"""The code of the how-to pages for a shop, run as it is printed."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from io import BytesIO
from types import ModuleType, SimpleNamespace

import pytest
import time_machine
from django.db import transaction
from django.test import Client
from PIL import Image

from django_kpwa.models import OutboundMessage, Priority, Recipient
from django_kpwa.receipts import Receipt
from django_kpwa.validation import check_image_url
from tests.pages import blocks_of
from tests.shop.models import Line, Sale

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("license_")]


def code_of(page: str, **names: object) -> dict[str, object]:
    """Run the page's Python blocks in order and return the names that they define. `names` are defined beforehand."""
    named: dict[str, object] = {"__name__": "a_site", **names}
    for block in blocks_of(page):
        exec(block.replace("from .models import Sale", ""), named)
    return named


def test_the_closing_report_is_sent_once_a_day_and_says_what_was_sold():
    for status in (Sale.Status.PAID, Sale.Status.PAID, Sale.Status.OPEN):
        sale = Sale.objects.create(status=status)
        for price in (10_000, 8_000):
            Line.objects.create(sale=sale, name="Kopi", price=price)
    site = code_of("closing-report.md", Sale=Sale, CELERY_BEAT_SCHEDULE={})
    for _ in range(2):
        site["send_closing_report"]()
    report = OutboundMessage.objects.get()
    assert report.text.endswith("2 penjualan, Rp 36.000")
    [entry] = site["CELERY_BEAT_SCHEDULE"].values()
    assert entry["task"] == "sales.tasks.send_closing_report"


def test_low_stock_is_told_once_until_it_is_restocked():
    tell = code_of("low-stock.md")["tell_of_low_stock"]
    restocked_at = datetime(2026, 11, 1, tzinfo=timezone.utc)
    coffee = SimpleNamespace(pk=1, name="Kopi", stock=6, warn_at=5, restocked_at=restocked_at)
    tell(coffee)
    assert not OutboundMessage.objects.exists()
    for coffee.stock in (5, 4):
        tell(coffee)
    assert OutboundMessage.objects.get().text == "Stok Kopi tinggal 5."
    coffee.restocked_at += timedelta(days=9)
    with pytest.raises(RuntimeError), transaction.atomic():
        tell(coffee)
        raise RuntimeError("the sale is rolled back")
    assert OutboundMessage.objects.count() == 1
    tell(coffee)
    assert OutboundMessage.objects.count() == 2


def test_a_debt_is_reminded_of_once_a_week_and_a_wrong_number_holds_up_no_other():
    old = datetime.now(timezone.utc) - timedelta(days=8)
    for number in ("12", "0812 3456 7890", ""):
        Sale.objects.create(customer_phone=number, sold_at=old)
    Sale.objects.create(customer_phone="0812 3456 7891")
    Sale.objects.create(customer_phone="0812 3456 7892", sold_at=old, status=Sale.Status.VOID)
    remind = code_of("debt-reminder.md", Sale=Sale)["remind_of_debts"]
    with time_machine.travel(datetime.now(timezone.utc), tick=False):
        remind()
        remind()
    reminder = OutboundMessage.objects.get()
    assert (reminder.recipient, reminder.priority) == ("6281234567890", Priority.BULK)
    assert reminder.expires_at is not None


def test_who_asked_to_stop_gets_no_reminder():
    Recipient.objects.create(number="6281234567890", stopped_at=datetime.now(timezone.utc))
    Sale.objects.create(customer_phone="0812 3456 7890", sold_at=datetime.now(timezone.utc) - timedelta(days=8))
    code_of("debt-reminder.md", Sale=Sale)["remind_of_debts"]()
    assert not OutboundMessage.objects.exists()


def test_a_receipts_picture_is_at_an_address_that_ends_and_cannot_be_guessed(settings):
    """Uses its own registry and URLs, because the tests' shop has already registered a receipt for its sales."""
    settings.KPWA = {**settings.KPWA, "PUBLIC_URL": "https://kopi-senja.id"}
    registered = {}
    receipts = SimpleNamespace(Receipt=Receipt, register=lambda model: lambda cls: registered.setdefault(model, cls))
    imports = r"from (\.models import Sale|\.views import receipt_image|django_kpwa import receipts)\n"
    site = {"__name__": "image_site", "Sale": Sale, "receipts": receipts}
    for block in blocks_of("image-receipt.md"):
        exec(re.sub(imports, "", block), site)
    settings.ROOT_URLCONF = ModuleType("urls_of_the_page")
    settings.ROOT_URLCONF.urlpatterns = site["urlpatterns"]
    sale = Sale.objects.create()
    url = registered[Sale]().get_image_url(sale)
    check_image_url(url)
    address = url.removeprefix("https://kopi-senja.id")
    answer = Client().get(address)
    assert Image.open(BytesIO(answer.content)).format == "PNG"
    assert answer["Content-Type"] == "image/png"
    assert Client().get(address.replace("/nota/", "/nota/x")).status_code == 404
    with time_machine.travel(datetime.now(timezone.utc) + timedelta(days=8)):
        assert Client().get(address).status_code == 404
