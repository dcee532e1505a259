"""Heartbeats: which processes write them, how often, and that they never block anything."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_kpwa import tasks
from django_kpwa.models import Heartbeat, Status, outbox_key
from django_kpwa.outbox import send_message
from django_kpwa.store import heartbeats as noting
from django_kpwa.store.heartbeats import note_alive
from tests.processes import start_manage, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def seen_at(name):
    return Heartbeat.objects.get(name=name).seen_at


def make_old():
    Heartbeat.objects.update(seen_at=timezone.now() - timedelta(hours=1))


def test_a_sign_of_life_is_written_and_renewed():
    Heartbeat.objects.note("sweep")
    make_old()
    Heartbeat.objects.note("sweep")
    assert abs(timezone.now() - seen_at("sweep")) < timedelta(seconds=30)
    assert Heartbeat.objects.count() == 1


def test_every_task_says_that_a_worker_took_it(license_):
    for task, arguments in (
        (tasks.dispatch_license, (license_.pk,)),
        (tasks.dispatch_due, ()),
        (tasks.process_due_webhooks, ()),
        (tasks.roll_up_statistics, ()),
        (tasks.purge, ()),
    ):
        noting._noted_at.clear()
        Heartbeat.objects.all().delete()
        task(*arguments)
        assert seen_at("worker")


def test_a_busy_process_says_so_once_in_a_while(monkeypatch):
    note_alive("worker")
    make_old()
    with CaptureQueriesContext(connection) as captured:
        for _ in range(5):
            note_alive("worker")
    assert len(captured) == 0
    noting._noted_at[outbox_key(), "worker"] -= noting.NOTE_EVERY_SECONDS
    note_alive("worker")
    assert abs(timezone.now() - seen_at("worker")) < timedelta(seconds=30)


def test_a_task_does_its_work_where_the_sign_cannot_be_written(license_, caplog):
    message = send_message("081234567890", "struk")

    def refuse(execute, sql, params, many, context):
        if "heartbeat" in sql:
            raise OperationalError("the table is locked: secret 081234567890")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(refuse):
        tasks.dispatch_license(license_.pk)
    message.refresh_from_db()
    assert message.status == Status.SENT
    assert "could not be stored (OperationalError)" in caplog.text
    assert "secret" not in caplog.text


def test_kpwa_run_gives_a_sign_of_its_own(license_):
    with start_manage("kpwa", "run"):
        assert wait_until(Heartbeat.objects.filter(name="run").exists, what="a sign of life of kpwa run")


def test_a_silence_begins_a_new_life(db):
    Heartbeat.objects.note("worker")
    first = Heartbeat.objects.get().since
    Heartbeat.objects.note("worker")
    assert Heartbeat.objects.get().since == first
    make_old()
    Heartbeat.objects.note("worker")
    assert Heartbeat.objects.get().since > first
