"""Looks over what waits: they find what a full reading finds, and read no backlog for it."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_kpwa.dispatch import sweep
from django_kpwa.models import Lane, License, OutboundMessage, Status, backlog

pytestmark = pytest.mark.django_db(transaction=True)

HAS_STEPS = connection.vendor != "mysql"


def make_licenses(count):
    License.objects.bulk_create([License(name=f"Outlet {number}", api_key_version=1) for number in range(count)])
    ids = sorted(License.objects.values_list("pk", flat=True))
    Lane.objects.bulk_create([Lane(license_id=pk, session_status="connected") for pk in ids])
    return ids


def row(license_id, *, status=Status.QUEUED, due_in=-60.0, priority=50):
    now = timezone.now()
    return OutboundMessage(
        license_id=license_id,
        recipient_typed="0812",
        recipient="62812",
        text="struk",
        status=status,
        priority=priority,
        created_at=now,
        due_at=now + timedelta(seconds=due_in),
    )


def queued():
    return [license_id for license_ids in backlog.queued_license_ids() for license_id in license_ids]


@pytest.mark.parametrize("seed", range(8))
def test_every_form_finds_the_licenses_that_a_full_reading_finds(seed):
    rng = random.Random(seed)
    ids = make_licenses(12)
    OutboundMessage.objects.bulk_create(
        row(
            rng.choice(ids),
            status=rng.choice([Status.QUEUED, Status.QUEUED, Status.SENT, Status.UNKNOWN]),
            due_in=rng.choice([-3600, -5, 3600]),
            priority=rng.choice([0, 10, 50, 51, 32767]),
        )
        for _ in range(rng.choice([0, 1, 8, 40]))
    )
    waiting = sorted(set(OutboundMessage.objects.filter(status=Status.QUEUED).values_list("license_id", flat=True)))
    due = sorted(set(OutboundMessage.objects.due().values_list("license_id", flat=True)))
    for by in (backlog._queued_by_distinct, *([backlog._queued_by_steps] if HAS_STEPS else [])):
        assert by("default", 0, 500) == waiting
        assert by("default", ids[5], 3) == [pk for pk in waiting if pk > ids[5]][:3]
    for by in (backlog._due_by_first, *([backlog._due_by_steps] if HAS_STEPS else [])):
        assert sorted(by("default", ids)) == due
        assert sorted(by("default", ids[:6])) == [pk for pk in due if pk in ids[:6]]
    assert queued() == waiting
    assert backlog.due_license_ids(ids) == due


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_licenses_beyond_those_of_one_statement_are_found(monkeypatch, at_once):
    monkeypatch.setattr(backlog, "LICENSES_AT_ONCE", at_once)
    ids = make_licenses(5)
    OutboundMessage.objects.bulk_create(row(license_id) for license_id in ids[1:] for _ in range(2))
    assert queued() == ids[1:]
    assert list(sweep().license_ids) == ids[1:]


def test_nothing_waiting_is_nothing_found():
    ids = make_licenses(2)
    assert queued() == []
    assert backlog.due_license_ids(ids) == []
    assert backlog.due_license_ids([]) == []


def test_a_license_whose_lane_was_never_made_is_found():
    ids = make_licenses(2)
    Lane.objects.filter(pk=ids[0]).delete()
    OutboundMessage.objects.bulk_create([row(ids[0])])
    assert sweep().license_ids == (ids[0],)


BACKLOG = 4000


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite does not tell how many rows it read.")
@pytest.mark.parametrize("due_in", [-60.0, 3600.0], ids=["due", "due later"])
def test_a_sweep_does_not_read_a_backlog(due_in):
    if connection.vendor == "mysql" and due_in > 0:
        pytest.skip("There a license's messages are read until one is due.")
    ids = make_licenses(20)
    behind = ids[10]
    OutboundMessage.objects.bulk_create([row(behind, due_in=due_in) for _ in range(BACKLOG)])
    OutboundMessage.objects.bulk_create([row(license_id) for license_id in ids[15:]])
    OutboundMessage.objects.bulk_create([row(license_id, status=Status.SENT) for license_id in ids * 20])
    with connection.cursor() as cursor:
        analyze = "ANALYZE" if connection.vendor == "postgresql" else "ANALYZE TABLE django_kpwa_outboundmessage"
        cursor.execute(analyze)
    assert rows_read(lambda: OutboundMessage.objects.filter(status=Status.QUEUED).count()) >= BACKLOG
    found = []
    assert rows_read(lambda: found.append(sweep().license_ids)) < 500
    assert found == [tuple([behind, *ids[15:]] if due_in < 0 else ids[15:])]


def rows_read(action):
    """Rows and index entries that the database read for `action`."""
    if connection.vendor == "mysql":
        before = handler_reads()
        action()
        return handler_reads() - before
    with CaptureQueriesContext(connection) as captured:
        action()
    return sum(rows_of(query["sql"]) for query in captured if "django_kpwa_outboundmessage" in query["sql"])


def handler_reads():
    with connection.cursor() as cursor:
        cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%'")
        return sum(int(count) for _, count in cursor.fetchall())


def rows_of(statement):
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) " + statement.replace("%", "%%"), [])
        (plans,) = cursor.fetchone()

    def read(plan):
        here = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0) if "Relation Name" in plan else 0
        return here * plan["Actual Loops"] + sum(read(part) for part in plan.get("Plans", ()))

    return read(plans[0]["Plan"])
