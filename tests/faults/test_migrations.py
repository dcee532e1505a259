"""Row 35, as far as there are migrations: tables that are away for a while under running workers."""

from __future__ import annotations

import time

from django.db import connection

from django_kpwa.models import OutboundMessage, Status

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
    assert "failed." in worker.output
    assert len(unknown()) <= 1
    assert shop.statuses()[Status.SENT] == 60 - len(unknown())
