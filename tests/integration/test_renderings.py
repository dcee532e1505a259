"""Texts that are not written: renderings that hang, end their process, or find the database briefly unavailable."""

from __future__ import annotations

import signal
import threading
import time
from datetime import timedelta

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import DatabaseError, InterfaceError, OperationalError, connection
from django.utils import timezone

from django_kpwa import outbox, tasks
from django_kpwa.cli.lane_pool import LanePool
from django_kpwa.dispatch import deadline, drive, render, sweep
from django_kpwa.dispatch.driver import _Driver
from django_kpwa.gateway import locmem
from django_kpwa.models import Lane, OutboundMessage, Status
from django_kpwa.outbox import send_message
from django_kpwa.receipts.render import Rendered
from django_kpwa.schedule import BEAT_SCHEDULE
from tests.integration.test_dispatch_races import ReadsElsewhere
from tests.shop.models import Sale

pytestmark = pytest.mark.django_db(transaction=True)

NUMBER = "081234567890"


class Killed(BaseException):
    """Like SIGKILL: the process can do nothing about it."""


@pytest.fixture
def renders(license_, monkeypatch):
    """Queue a message whose text the given function writes."""

    def queue(function):
        monkeypatch.setattr(render, "render_receipt", function)
        sale = Sale.objects.create()
        return outbox.send_rendered_later(NUMBER, "test/x", idempotency_key="x", source=sale, license=license_)

    return queue


def fresh(message):
    return OutboundMessage.objects.get(pk=message.pk)


def make_due(message):
    OutboundMessage.objects.filter(pk=message.pk).update(due_at=timezone.now() - timedelta(minutes=1))


def test_a_rendering_that_ends_its_process_is_begun_three_times_and_then_fails(license_, renders, form):
    begun = []

    def kill(message):
        begun.append(message.pk)
        raise Killed

    message = renders(kill)
    for _ in range(3):
        with pytest.raises(Killed):
            drive(license_.pk)
        assert fresh(message).status == Status.QUEUED
        make_due(message)
    drive(license_.pk)
    drive(license_.pk)
    message = fresh(message)
    assert (message.status, message.reason, len(begun)) == (Status.FAILED, "render_error", 3)
    assert message.reason_words == "Writing its text was started 3 times and never finished."


def test_a_failed_one_that_a_person_sends_again_is_begun_three_times_again(license_, renders):
    message = renders(lambda message: Rendered("struk"))
    OutboundMessage.objects.filter(pk=message.pk).update(renderings_begun=9)
    drive(license_.pk)
    assert fresh(message).status == Status.FAILED
    outbox.resend(fresh(message))
    drive(license_.pk)
    assert (fresh(message).status, fresh(message).text) == (Status.SENT, "struk")


def sleep(message):
    time.sleep(30)


def spin(message):
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            sum(range(1000))
        except Exception:
            pass


@pytest.mark.parametrize("hang", [sleep, spin])
def test_a_rendering_that_hangs_is_interrupted_tried_again_and_given_up_while_others_go_out(
    license_, renders, monkeypatch, hang
):
    # Stop the timer of pytest-timeout: the driver would leave another's alarm alone.
    signal.setitimer(signal.ITIMER_REAL, 0)
    monkeypatch.setattr(_Driver, "max_seconds_rendering", 0.3)
    message = renders(hang)
    for count in range(1, 4):
        send_message(NUMBER, f"{count}", license=license_)
        began_at = time.monotonic()
        drive(license_.pk)
        assert time.monotonic() - began_at < 3
        assert len(locmem.outbox) == count
        make_due(message)
    message = fresh(message)
    assert (message.status, message.renderings_begun) == (Status.FAILED, 3)
    assert "took longer than" in message.reason_words


def test_in_a_thread_it_is_interrupted_too(license_, renders, monkeypatch):
    monkeypatch.setattr(_Driver, "max_seconds_rendering", 0.3)
    message = renders(spin)
    pool = LanePool(1)
    pool.start([license_.pk])
    began_at = time.monotonic()
    while pool.is_driving() and time.monotonic() - began_at < 10:
        pool.wait(0.1)
    pool.close()
    assert time.monotonic() - began_at < 5
    assert (fresh(message).status, fresh(message).renderings_begun) == (Status.QUEUED, 1)
    assert "took longer than" in fresh(message).reason_words


@pytest.mark.parametrize("in_thread", [False, True])
def test_what_ends_in_time_is_never_interrupted_afterwards(in_thread):
    survived = []

    def work():
        for _ in range(300):
            try:
                deadline.call_within(0.002, lambda: time.sleep(0.0018))
            except deadline.TookTooLongError:
                pass
            sum(range(2000))
        survived.append(True)

    if in_thread:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    else:
        work()
    assert survived == [True]


def test_kpwa_run_forgets_a_lane_whose_thread_never_comes_back_and_drives_it_with_another(license_, renders, settings):
    settings.KPWA = {**settings.KPWA, "CALL_DEADLINE_SECONDS": 0.5}
    thaw = threading.Event()
    # This wait runs no Python code, so nothing can interrupt it.
    message = renders(lambda message: thaw.wait())
    pool = LanePool(1, slice_seconds=0.5)
    pool.start([license_.pk])
    try:
        time.sleep(1)
        send_message(NUMBER, "another", license=license_)
        until = time.monotonic() + 20
        while not locmem.outbox and time.monotonic() < until:
            pool.start(sweep().license_ids)
            pool.wait(0.2)
        assert [sent.text for sent in locmem.outbox] == ["another"]
        assert fresh(message).status == Status.QUEUED
        began_at = time.monotonic()
        pool.close()
        # close() waits for the threads that work, but not for the one that was given up.
        assert time.monotonic() - began_at < 3
    finally:
        thaw.set()


@pytest.mark.parametrize("error", [OperationalError("gone away"), InterfaceError("closed"), TimeoutError("slow")])
def test_what_passes_while_a_text_is_written_leaves_it_waiting_and_then_it_is_sent(license_, renders, error):
    errors = [error]

    def write(message):
        if errors:
            raise errors.pop()
        return Rendered("struk")

    message = renders(write)
    drive(license_.pk)
    waiting = fresh(message)
    assert (waiting.status, waiting.reason) == (Status.QUEUED, "render_error")
    assert waiting.due_at > timezone.now() + timedelta(seconds=30)
    make_due(message)
    drive(license_.pk)
    assert (fresh(message).status, fresh(message).reason, fresh(message).reason_words) == (Status.SENT, "", "")


def test_what_never_passes_fails_after_three(license_, renders):
    def write(message):
        raise OperationalError("gone away")

    message = renders(write)
    for _ in range(3):
        assert fresh(message).status == Status.QUEUED
        drive(license_.pk)
        make_due(message)
    assert (fresh(message).status, fresh(message).renderings_begun) == (Status.FAILED, 3)
    assert "gone away" in fresh(message).reason_words


@pytest.mark.skipif(connection.vendor == "sqlite", reason="has no connection to lose")
def test_a_connection_that_is_lost_while_a_text_is_written_costs_no_receipt(license_, renders):
    is_lost = []

    def write(message):
        if not is_lost:
            is_lost.append(True)
            _end_my_connection()
            Sale.objects.count()
        return Rendered("struk")

    message = renders(write)
    try:
        drive(license_.pk)
    except DatabaseError:
        connection.close()
    assert fresh(message).status == Status.QUEUED
    make_due(message)
    Lane.objects.update(lease_token=None, lease_expires_at=None)
    drive(license_.pk)
    assert fresh(message).status == Status.SENT


def _end_my_connection():
    other = connection.copy()
    with other.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_terminate_backend(%s)", [connection.connection.info.backend_pid])
        else:
            cursor.execute("KILL %s", [connection.connection.thread_id()])
    other.close()


def test_a_time_limit_while_a_text_is_written_leaves_it_waiting_and_ends_the_drive(license_, renders):
    def write(message):
        raise SoftTimeLimitExceeded

    message = renders(write)
    with pytest.raises(SoftTimeLimitExceeded):
        drive(license_.pk)
    assert fresh(message).status == Status.QUEUED
    assert Lane.objects.get().lease_token is None


def test_a_time_limit_in_the_middle_of_a_send_is_a_lost_worker(license_, hooks):
    def run_out(text):
        raise SoftTimeLimitExceeded

    drive(license_.pk)
    message = send_message(NUMBER, "struk", license=license_)
    hooks.before_send = run_out
    drive(license_.pk)
    assert (fresh(message).status, fresh(message).reason) == (Status.UNKNOWN, "worker_lost")
    assert message.attempts.get().cause == "worker_lost"


def test_no_task_of_ours_inherits_the_time_limits_of_the_site(celery_settings):
    celery_settings(task_soft_time_limit=3, task_time_limit=5)
    ours = [task for task in vars(tasks).values() if str(getattr(task, "name", "")).startswith("django_kpwa.")]
    ours = [task for task in ours if hasattr(task, "soft_time_limit")]
    assert {entry["task"] for entry in BEAT_SCHEDULE.values()} < {task.name for task in ours}
    assert {(task.soft_time_limit, task.time_limit) for task in ours} == {(570, 600)}


def test_the_license_of_a_receipt_is_not_read_from_a_replica(license_, renders, settings):
    message = renders(lambda message: Rendered(message.license.name))
    settings.DATABASE_ROUTERS = [ReadsElsewhere()]
    drive(license_.pk)
    settings.DATABASE_ROUTERS = []
    assert fresh(message).text == license_.name
