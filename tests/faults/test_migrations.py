"""Row 35: tables that change or are missing for a while under running workers; waiting messages are not dropped."""

from __future__ import annotations

import os
import threading
import time

from django.db import connection

from django_kpwa.models import OutboundMessage, Status
from tests.processes import run_manage

from .harness import unknown

TABLE = OutboundMessage._meta.db_table


def rename(before, after):
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {before} RENAME TO {after}")


def test_tables_that_are_away_for_a_while_cost_at_most_the_message_in_flight(shop):
    worker = shop.start_worker()
    shop.start_beat()
    shop.send(60)
    shop.phone.wait_for_deliveries(10, 120)
    rename(TABLE, f"{TABLE}_away")
    time.sleep(4)
    rename(f"{TABLE}_away", TABLE)
    shop.settle()
    assert worker.process.poll() is None
    assert "there are no tables of django_kpwa here." in worker.output
    assert len(unknown()) <= 1
    assert shop.statuses()[Status.SENT] == 60 - len(unknown())


def test_an_upgrade_and_its_downgrade_under_load_lose_nothing_and_old_workers_live_with_the_new_tables(shop):
    worker = shop.start_worker()
    shop.start_beat()
    shop.send(40)
    shop.phone.wait_for_deliveries(5, 120)

    def sell():
        shop.sell(10)
        connection.close()

    selling = threading.Thread(target=sell)
    selling.start()
    try:
        shop.migrate("0002")
        selling.join()
        # Old code with the new tables: it stores, claims and records as before.
        shop.sell(10)
        shop.phone.wait_for_deliveries(45, 120)
    finally:
        shop.migrate("0001")
    shop.sell(5)
    shop.settle()
    assert worker.process.poll() is None
    assert len(unknown()) <= 2, "one for each change of the tables, at most"
    assert shop.statuses()[Status.SENT] == 65 - len(unknown())


def test_tables_with_messages_that_wait_are_not_dropped(tmp_path):
    site = {**os.environ, "DATABASE_URL": f"sqlite:///{tmp_path}/site.sqlite3", "KPWA_TEST_SETTINGS": "{}"}

    def manage(*arguments, stdin=""):
        return run_manage(*arguments, stdin=stdin, environment=site)

    assert manage("migrate").returncode == 0
    assert manage("kpwa", "licenses", "add", "Toko", stdin="kunci-uji-0001\n").returncode == 0
    assert manage("kpwa", "send", "081234567890", "Struk 1").returncode == 0
    refused = manage("migrate", "django_kpwa", "zero")
    assert refused.returncode != 0
    assert "1 message waits" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert manage("kpwa", "messages", "cancel", "1").returncode == 0
    assert manage("migrate", "django_kpwa", "zero").returncode == 0
