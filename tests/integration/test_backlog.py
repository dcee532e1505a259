"""Searches of the queue find the same as a full reading of the table, without reading the backlog."""

from __future__ import annotations

import random
import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_kpwa.dispatch import sweep
from django_kpwa.models import Lane, License, OutboundMessage, PauseReason, Status
from django_kpwa.store import store
from django_kpwa.store.engine import Store
from django_kpwa.store.results import Pause

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
    return [license_id for license_ids in store().queued_license_ids() for license_id in license_ids]


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
    queries = store()
    for by in (queries._queued_by_distinct, *([queries._queued_by_steps] if HAS_STEPS else [])):
        assert by(0, 500) == waiting
        assert by(ids[5], 3) == [pk for pk in waiting if pk > ids[5]][:3]
    for by in (queries._due_by_first, *([queries._due_by_steps] if HAS_STEPS else [])):
        assert sorted(by(ids)) == due
        assert sorted(by(ids[:6])) == [pk for pk in due if pk in ids[:6]]
    assert set(queries._due_at_their_head(ids)) <= set(due)
    assert queued() == waiting
    assert store().due_license_ids(ids) == due


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_licenses_beyond_those_of_one_statement_are_found(monkeypatch, at_once):
    monkeypatch.setattr(Store, "LICENSES_AT_ONCE", at_once)
    ids = make_licenses(5)
    OutboundMessage.objects.bulk_create(row(license_id) for license_id in ids[1:] for _ in range(2))
    assert queued() == ids[1:]
    assert list(sweep().license_ids) == ids[1:]


def test_nothing_waiting_is_nothing_found():
    ids = make_licenses(2)
    assert queued() == []
    assert store().due_license_ids(ids) == []
    assert store().due_license_ids([]) == []


def test_a_license_whose_lane_was_never_made_is_found():
    ids = make_licenses(2)
    Lane.objects.filter(pk=ids[0]).delete()
    OutboundMessage.objects.bulk_create([row(ids[0])])
    assert sweep().license_ids == (ids[0],)


def overdue(license_id, **columns):
    message = row(license_id)
    message.expires_at = timezone.now() - timedelta(minutes=1)
    for name, value in columns.items():
        setattr(message, name, value)
    return message


def statuses():
    return sorted(OutboundMessage.objects.values_list("status", flat=True))


def test_many_overdue_messages_are_settled_in_few_statements():
    (license_id,) = make_licenses(1)
    OutboundMessage.objects.bulk_create(overdue(license_id, in_doubt=number % 2 == 0) for number in range(60))
    OutboundMessage.objects.bulk_create([row(license_id)])
    with CaptureQueriesContext(connection) as captured:
        changed = store().expire_overdue(100)
    # One statement limits the wait for a lock. On MariaDB the limit is per session, so another statement resets it.
    assert len(captured) <= (8 if connection.vendor == "mysql" else 7)
    assert statuses() == [Status.EXPIRED] * 30 + [Status.QUEUED] + [Status.UNKNOWN] * 30
    assert len(changed) == 60
    assert dict(changed).items() <= dict(OutboundMessage.objects.values_list("pk", "status")).items()
    assert OutboundMessage.objects.exclude(status=Status.QUEUED).filter(settled_at=None).count() == 0


def test_no_more_expire_than_were_asked_for_and_a_sweep_settles_the_rest():
    (license_id,) = make_licenses(1)
    OutboundMessage.objects.bulk_create(overdue(license_id) for _ in range(7))
    assert len(store().expire_overdue(2)) == 2
    assert sweep(max_expired=4, expired_at_once=2).expired_messages == 4
    assert sweep(max_expired=4, expired_at_once=2).expired_messages == 1
    assert statuses() == [Status.EXPIRED] * 7


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer at a time.")
def test_an_overdue_message_that_somebody_is_at_is_left_to_the_next_sweep():
    (license_id,) = make_licenses(1)
    OutboundMessage.objects.bulk_create(overdue(license_id) for _ in range(3))
    held = OutboundMessage.objects.order_by("pk")[1].pk
    is_held, may_end = threading.Event(), threading.Event()

    def hold():
        with transaction.atomic():
            OutboundMessage.objects.filter(pk=held).update(priority=10)
            is_held.set()
            may_end.wait(20)
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert is_held.wait(20)
        assert len(store().expire_overdue(10)) == 2
        assert OutboundMessage.objects.get(pk=held).status == Status.QUEUED
    finally:
        may_end.set()
        holder.join()
    assert store().expire_overdue(10) == [(held, Status.EXPIRED)]


def backlog_of(license_id, count, priority=50):
    OutboundMessage.objects.bulk_create(row(license_id, priority=priority) for _ in range(count))
    OutboundMessage.objects.update(created_at=timezone.now() - timedelta(hours=1))


def priorities():
    return sorted(OutboundMessage.objects.values_list("priority", flat=True))


def test_a_long_backlog_steps_back_once_and_in_small_statements(monkeypatch):
    monkeypatch.setattr(Store, "STEPPED_AT_ONCE", 2)
    license_id, other = make_licenses(2)
    backlog_of(license_id, 5)
    OutboundMessage.objects.bulk_create([row(license_id), row(other), overdue(license_id, status=Status.SENT)])
    for again in (False, True):
        store().pause_license(license_id, Pause(PauseReason.LOGGED_OUT, 30))
        with CaptureQueriesContext(connection) as captured:
            assert store().lift_pause(license_id, PauseReason.LOGGED_OUT)
        assert priorities() == [50, 50, 50] + [51] * 5
        steps = [query for query in captured if "+ 1)" in query["sql"]]
        assert len(steps) == (0 if again else 3)
    assert not Lane.objects.get(pk=license_id).pause_reason


def test_a_lane_whose_backlog_was_being_stepped_back_by_a_lost_worker_is_still_paused(monkeypatch):
    monkeypatch.setattr(Store, "STEPPED_AT_ONCE", 2)
    (license_id,) = make_licenses(1)
    backlog_of(license_id, 3)
    store().pause_license(license_id, Pause(PauseReason.LOGGED_OUT, 30))
    step, stepped = Store._step_backlog_back, []

    def die_in_the_second(self, license_id):
        if stepped:
            raise SystemExit
        stepped.append(license_id)
        return step(self, license_id)

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(Store, "_step_backlog_back", die_in_the_second)
        store().lift_pause(license_id, PauseReason.LOGGED_OUT)
    assert priorities() == [50, 51, 51]
    assert Lane.objects.get(pk=license_id).pause_reason == PauseReason.LOGGED_OUT
    assert store().lift_pause(license_id, PauseReason.LOGGED_OUT)
    assert priorities() == [51] * 3


def test_a_pause_of_another_reason_leaves_the_backlog_where_it_is():
    (license_id,) = make_licenses(1)
    backlog_of(license_id, 2)
    store().pause_license(license_id, Pause(PauseReason.BY_PERSON, None))
    assert not store().lift_pause(license_id, PauseReason.LOGGED_OUT)
    assert priorities() == [50, 50]


BACKLOG = 4000


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite does not tell how many rows it read.")
@pytest.mark.parametrize("due_in", [-60.0, 3600.0], ids=["due", "due later"])
def test_a_sweep_does_not_read_a_backlog(due_in):
    if connection.vendor == "mysql" and due_in > 0:
        pytest.skip("MariaDB and MySQL read a license's messages until one is due.")
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
    """Return the number of rows and index entries that the database reads for `action`."""
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
