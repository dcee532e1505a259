"""Sales in another database than the outbox: messages are stored when the sales' own transaction commits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SITE = """
from example_project.settings import *

DATABASES["till"] = {**DATABASES["default"], "NAME": SHOP_HOME / "till.sqlite3"}
DATABASE_ROUTERS = ["two_databases.Router"]


class Router:
    def db_for_read(self, model, **hints):
        return "till" if model._meta.app_label == "sales" else "default"

    db_for_write = db_for_read

    def allow_migrate(self, db, app_label, **hints):
        return (db == "till") == (app_label == "sales")
"""
STORY = """
import django; django.setup()
from django.core.management import call_command
from django.db import transaction
from django_kpwa.models import License, OutboundMessage, ReceiptFailure
from django_kpwa.receipts.render import render_receipt
from django_kpwa import receipts
from example_project.sales.models import Sale, SaleLine

for alias in ("default", "till"):
    call_command("migrate", database=alias, verbosity=0)
row = License(name="Toko"); row.set_api_key("k" * 20); row.save()
paid = {"status": "paid", "customer_phone": "081234567890", "total": 8000}

with transaction.atomic(using="till"):
    sale = Sale.objects.create(**paid)
    SaleLine.objects.create(sale=sale, name="Es Teh Manis", price=8000)
    print("inside", OutboundMessage.objects.count(), receipts.send_now(sale))
message = OutboundMessage.objects.get()
print("committed", OutboundMessage.objects.count(), "Es Teh Manis" in render_receipt(message).text)

try:
    with transaction.atomic(using="till"):
        Sale.objects.create(**paid)
        raise RuntimeError
except RuntimeError:
    print("rolled back", OutboundMessage.objects.count())

Sale.objects.create(**paid)
late = OutboundMessage.objects.latest("pk")
print("autocommit", OutboundMessage.objects.count(), late.due_at > late.created_at)

with transaction.atomic(using="till"), transaction.atomic():
    Sale.objects.create(**paid | {"customer_phone": "0812"})
print("bad number", OutboundMessage.objects.count(), ReceiptFailure.objects.count())
"""


def test_a_sale_on_another_database_gets_its_message_when_it_is_committed_there(tmp_path):
    (tmp_path / "two_databases.py").write_text(SITE)
    kept = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "CELERY_BROKER_URL")}
    environment = {
        **kept,
        "DJANGO_SETTINGS_MODULE": "two_databases",
        "SHOP_HOME": str(tmp_path / "home"),
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
    }
    told = subprocess.run(
        [sys.executable, "-c", STORY], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines() == [
        "inside 0 []",
        "committed 1 True",
        "rolled back 1",
        "autocommit 2 True",
        "bad number 2 1",
    ]
