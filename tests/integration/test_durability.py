"""What the database must keep: commits despite a power cut, times in UTC, and rows that a site refers to."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from django_kpwa import retention
from django_kpwa.checks.database import check_durability, check_time_zone
from django_kpwa.dispatch import drive
from django_kpwa.models import HourlyStatistic, OutboundMessage
from django_kpwa.outbox import send_message

pytestmark = pytest.mark.django_db(transaction=True)

LAX = {
    "sqlite": ("PRAGMA synchronous=NORMAL", "PRAGMA synchronous=FULL"),
    "postgresql": ("SET synchronous_commit = off", "SET synchronous_commit = on"),
}


def execute(*statements):
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@pytest.mark.skipif(connection.vendor not in LAX, reason="there it is a setting of the whole server")
def test_a_database_that_answers_before_it_has_synced_is_warned_of():
    lax, strict = LAX[connection.vendor]
    execute(lax)
    try:
        [found] = check_durability(None, databases=("default",))
        assert found.id == "kpwa.W090"
        assert found.hint
    finally:
        execute(strict)
    assert check_durability(None, databases=("default",)) == []


@pytest.mark.skipif(connection.vendor != "mysql", reason="other databases have no binary log")
def test_a_binary_log_that_is_not_synced_is_warned_of_where_there_is_one():
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@log_bin, @@sync_binlog")
        has_log, sync = cursor.fetchone()
    expected = [] if sync == 1 else [f"sync_binlog is {sync}"]

    def said():
        words = [message.msg for message in check_durability(None, databases=("default",))]
        return [f"sync_binlog is {sync}" for each in words if f"(sync_binlog is {sync})" in each]

    assert said() == (expected if has_log else [])
    with connection.execute_wrapper(lambda execute, sql, *rest: execute(sql.replace("@@log_bin", "1"), *rest)):
        assert said() == expected


def test_a_time_zone_of_the_databases_own_is_refused_where_our_times_would_be_others(monkeypatch):
    assert check_time_zone(None) == []
    monkeypatch.setitem(connection.settings_dict, "TIME_ZONE", "Asia/Jakarta")
    found = [message.id for message in check_time_zone(None)]
    assert found == ([] if connection.vendor == "postgresql" else ["kpwa.E090"])


@contextmanager
def pointed_to(message):
    """Create a table of the site with a foreign key to this message, and drop it after the block."""
    table = OutboundMessage._meta.db_table
    deferred = "" if connection.vendor == "mysql" else "DEFERRABLE INITIALLY DEFERRED"
    execute(
        f"CREATE TABLE site_note (id integer PRIMARY KEY, message_id bigint NOT NULL, "
        f"FOREIGN KEY (message_id) REFERENCES {table} (id) {deferred})",
        f"INSERT INTO site_note VALUES (1, {message.pk})",
    )
    try:
        yield
    finally:
        execute("DROP TABLE site_note")


def test_a_purge_keeps_what_a_table_of_the_sites_points_to(license_, caplog):
    messages = [send_message("081234567890", f"{number}", license=license_) for number in range(10)]
    drive(license_.pk)
    old = timezone.now() - timedelta(days=4000)
    for number, message in enumerate(messages):
        OutboundMessage.objects.filter(pk=message.pk).update(settled_at=old + timedelta(seconds=number))
    HourlyStatistic.objects.create(license=license_, hour=old.replace(minute=0, second=0, microsecond=0))
    kept = messages[2]
    with pointed_to(kept):
        purged = retention.purge(batch_size=4)
        assert (purged.messages, purged.statistics) == (9, 1)
        assert list(OutboundMessage.objects.values_list("pk", flat=True)) == [kept.pk]
        assert kept.attempts.count() == 1
        assert f"OutboundMessage {kept.pk} is kept" in caplog.text
    assert retention.purge().messages == 1
