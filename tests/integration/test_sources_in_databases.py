"""Sales with the same primary key in several databases: each has its own receipt, text, chip and failures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SITE = """
from tests.settings import *

HOME = "{home}"
ENGINE = "django.db.backends.sqlite3"
LONG = "branch" * 30
DATABASES = {{
    "default": {{"ENGINE": ENGINE, "NAME": HOME + "/default.sqlite3"}},
    "replica": {{"ENGINE": ENGINE, "NAME": HOME + "/default.sqlite3"}},
    "branch2": {{"ENGINE": ENGINE, "NAME": HOME + "/branch2.sqlite3"}},
    "Branch2": {{"ENGINE": ENGINE, "NAME": HOME + "/other.sqlite3"}},
    LONG: {{"ENGINE": ENGINE, "NAME": HOME + "/long.sqlite3"}},
}}
DATABASE_ROUTERS = {routers}


class FromReplica:
    def db_for_read(self, model, **hints):
        return "replica"

    def db_for_write(self, model, **hints):
        return "default"

    def allow_relation(self, *objects, **hints):
        return True
"""
BEGIN = """
import django; django.setup()
from django.conf import settings
from django.core.management import call_command
from django.db import transaction
from django_kpwa import receipts, testing, shop_counter
from django_kpwa.models import License, OutboundMessage, ReceiptFailure, Status
from django_kpwa.outbox import send_message
from tests.shop.models import CounterSale, Line, Sale
from tests.shop.whatsapp import PaidReceipt

BRANCHES = ["branch2", "Branch2", settings.LONG]
call_command("migrate", database="default", verbosity=0, skip_checks=True)
for alias in ("default", *BRANCHES):
    call_command("migrate", "shop", database=alias, verbosity=0, skip_checks=True, run_syncdb=True)
row = License(name="Toko"); row.set_api_key("k" * 20); row.save(using="default")


def sell(alias, number, thing):
    with transaction.atomic(using=alias):
        sale = Sale(pk=1, status="paid", customer_phone=number)
        sale.save(using=alias)
        Line(sale=sale, name=thing, price=8000).save(using=alias)
    return sale


def about(obj):
    [by_queryset] = OutboundMessage.objects.using("default").for_source(obj)
    assert shop_counter.messages_about([obj])[obj] == [by_queryset]
    return by_queryset
"""
STORY = """
first, second, third = sell("default", "081200000001", "Kopi"), sell("branch2", "081200000002", "Teh"), \
    sell("Branch2", "081200000003", "Roti")
assert OutboundMessage.objects.using("default").count() == 3
for sale, number in ((first, "1"), (second, "2"), (third, "3")):
    assert about(sale).recipient == "628120000000" + number
    # Loaded again, as a proxy, and saved again.
    loaded = CounterSale.objects.using(sale._state.db).get(pk=1)
    assert about(loaded) == about(sale)
    Sale.objects.using(sale._state.db).get(pk=1).save(using=sale._state.db)
    assert receipts.send_now(Sale.objects.using(sale._state.db).get(pk=1), PaidReceipt) == [about(sale)]
assert OutboundMessage.objects.using("default").count() == 3
assert not ReceiptFailure.objects.using("default").exists()

# Equal to Django, and two for us.
shop_counter.prefetch_messages([first, second])
assert [message.recipient for message in first._kpwa_messages + second._kpwa_messages] == \
    ["6281200000001", "6281200000002"]
try:
    shop_counter.messages_about([first, second])
except ValueError as error:
    assert "two databases" in str(error)
else:
    raise AssertionError

OutboundMessage.objects.using("default").update(due_at="2020-01-01T00:00:00Z")
texts = {sent.to: sent.text for sent in testing.deliver()}
assert [texts["628120000000" + number].split()[2] for number in "123"] == ["Kopi", "Teh", "Roti"], texts

# What is not possible is refused at the sale, which is stored.
long = sell(settings.LONG, "081200000004", "Susu")
assert Sale.objects.using(settings.LONG).filter(pk=1).exists()
failure = ReceiptFailure.objects.using("default").get()
assert "characters; at most 100 are allowed" in failure.error, failure.error
assert failure.source_database == settings.LONG[:100]

# A worker without that database says so, and writes nobody else's receipt.
lost = send_message("081200000005", "x", source=second)
OutboundMessage.objects.using("default").filter(pk=lost.pk).update(
    text="", renderer="receipts/shop.sale.PaidReceipt", idempotency_key="receipt@gone:shop.sale:1:paid",
    source_database="gone", due_at="2020-01-01T00:00:00Z")
assert testing.deliver() == []
lost.refresh_from_db(using="default")
assert (lost.status, "database 'gone'" in lost.reason_words) == (Status.FAILED, True), lost.reason_words
"""
PAST_A_ROUTER = """
first, second = sell("default", "081200000001", "Kopi"), sell("branch2", "081200000002", "Teh")
read = Sale.objects.get(pk=1)
assert read._state.db == "replica"
assert about(read) == about(first)
assert about(second).recipient == "6281200000002"
assert receipts.send_now(read, PaidReceipt) == [about(first)]
assert OutboundMessage.objects.using("default").count() == 2
"""


@pytest.mark.parametrize(
    ("routers", "story"),
    [
        pytest.param([], STORY, id="by name"),
        pytest.param(["several_databases.FromReplica"], PAST_A_ROUTER, id="past a router", marks=pytest.mark.slow),
    ],
)
def test_sales_of_one_key_in_several_databases_are_several_sales(tmp_path, routers, story):
    (tmp_path / "several_databases.py").write_text(SITE.format(home=tmp_path, routers=routers))
    kept = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "CELERY_BROKER_URL")}
    environment = {
        **kept,
        "DJANGO_SETTINGS_MODULE": "several_databases",
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
    }
    told = subprocess.run(
        [sys.executable, "-c", BEGIN + story], env=environment, capture_output=True, text=True, timeout=90, check=False
    )
    assert told.returncode == 0, told.stderr[-2000:]
