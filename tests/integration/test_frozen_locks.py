"""A process that stands still in the middle of a transaction holds rows, and nobody else stops because of it."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from datetime import timedelta

import pytest
import redis
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from django_kpwa import license_actions, retention, statistics, tasks
from django_kpwa.dispatch import drive, sweep
from django_kpwa.models import (
    DatabaseNow,
    Heartbeat,
    HourlyStatistic,
    Lane,
    License,
    OutboundMessage,
    Status,
    WebhookEvent,
)
from django_kpwa.outbox import Message, send_message, send_messages
from django_kpwa.store import store
from django_kpwa.store.locks import waited_too_long
from django_kpwa.webhooks.arrivals import store_event
from tests.processes import start_celery_beat, start_celery_worker, start_manage, wait_until
from tests.servers import HAS_REDIS
from tests.stores import take_lane

pytestmark = [
    pytest.mark.waits,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite locks the whole file, with a time limit"),
]

NUMBER = "081234567890"


@contextmanager
def frozen_with(*querysets, seconds=None):
    """Hold these rows in an open transaction of another connection, until the block ends or for `seconds`."""
    holds, thaw = threading.Event(), threading.Event()

    def stand_still():
        try:
            with transaction.atomic():
                for rows in querysets:
                    assert list(rows.select_for_update())
                holds.set()
                thaw.wait(seconds or 60)
        finally:
            holds.set()
            connection.close()

    thread = threading.Thread(target=stand_still)
    thread.start()
    holds.wait(10)
    try:
        yield thaw.set
    finally:
        thaw.set()
        thread.join()


@contextmanager
def within(seconds):
    began_at = time.monotonic()
    yield
    assert time.monotonic() - began_at < seconds


def lanes(*licenses):
    return Lane.objects.filter(pk__in=[license_.pk for license_ in licenses])


def messages(license_):
    return OutboundMessage.objects.filter(license=license_)


def statuses(license_):
    return set(messages(license_).values_list("status", flat=True))


def another(name="Cabang"):
    license_ = License(name=name)
    license_.set_api_key("test-api-key-0002")
    license_.save()
    return license_


def abandon(license_):
    """Leave a message as if its worker had died, or stood still past the end of its lease, in the middle of a send."""
    store().ensure_lane(license_.pk)
    assert take_lane(license_.pk)[0]
    send_message(NUMBER, "lost", license=license_)
    messages(license_).update(status=Status.SENDING, attempts_made=1)
    lanes(license_).update(lease_expires_at=timezone.now() - timedelta(seconds=1))


@pytest.mark.parametrize("locked", ["lane", "message"])
def test_a_sweep_settles_and_wakes_all_but_the_lane_whose_rows_are_locked(license_, locked, form):
    other = another()
    abandon(license_)
    abandon(other)
    send_message(NUMBER, "next", license=other)
    rows = lanes(license_) if locked == "lane" else messages(license_)
    with frozen_with(rows), within(3):
        swept = sweep()
        assert other.pk in swept.license_ids
        assert statuses(license_) == {Status.SENDING}
        assert statuses(other) == {Status.UNKNOWN, Status.QUEUED}
    sweep()
    assert statuses(license_) == {Status.UNKNOWN}


@pytest.mark.parametrize("has_lease", [False, True])
def test_a_lane_whose_row_is_locked_is_left_and_taken_once_it_is_free(license_, has_lease, form, caplog):
    drive(license_.pk)
    if has_lease:
        abandon(license_)
    message = send_message(NUMBER, "struk", license=license_)
    with frozen_with(lanes(license_)), within(4):
        assert drive(license_.pk).attempts == 0
        tasks.dispatch_license(license_.pk)
    assert "another process has locked its rows" in caplog.text
    drive(license_.pk)
    assert OutboundMessage.objects.get(pk=message.pk).status == Status.SENT


def test_a_lease_that_was_passed_on_is_left_too_where_its_row_is_locked(license_, form):
    drive(license_.pk)
    lease, _ = take_lane(license_.pk)
    with frozen_with(lanes(license_)), within(3):
        assert drive(license_.pk, lease.token).attempts == 0
    assert store().release_lease(lease)


def test_a_message_whose_row_is_locked_lets_the_process_go(license_, form):
    drive(license_.pk)
    send_message(NUMBER, "struk", license=license_)
    with frozen_with(messages(license_)), within(8):
        drive(license_.pk)
    lanes(license_).update(lease_token=None, lease_expires_at=None)
    drive(license_.pk)
    assert statuses(license_) == {Status.SENT}


def test_an_outcome_is_recorded_though_its_row_is_locked_for_some_seconds(license_, hooks, form):
    """Only this process knows the outcome, so it waits and tries again."""
    drive(license_.pk)
    message = send_message(NUMBER, "struk", license=license_)
    frozen = frozen_with(lanes(license_), seconds=4)
    hooks.after_send = lambda text: frozen.__enter__()
    drive(license_.pk)
    frozen.__exit__(None, None, None)
    message = OutboundMessage.objects.get(pk=message.pk)
    assert (message.status, message.attempts_made) == (Status.SENT, 1)


def test_a_pause_is_ended_though_a_message_of_the_backlog_is_locked(license_):
    held, other = send_message(NUMBER, "held"), send_message(NUMBER, "other")
    messages(license_).update(created_at=timezone.now() - timedelta(hours=1))
    license_actions.pause(license_)
    with frozen_with(messages(license_).filter(pk=held.pk)), within(3):
        assert license_actions.resume(license_)
    assert not lanes(license_).get().pause_reason
    assert dict(messages(license_).values_list("pk", "priority")) == {held.pk: 50, other.pk: 51}


def test_what_is_noted_counted_and_purged_by_one_that_stands_still_stops_nobody(license_, settings):
    settings.KPWA = {**settings.KPWA, "RETENTION_DAYS": {"messages": 1, "events": 1, "statistics": 1}}
    send_message(NUMBER, "struk", license=license_)
    drive(license_.pk)
    sweep()
    statistics.roll_up()
    send_message(NUMBER, "another", license=license_)
    drive(license_.pk)
    old = timezone.now() - timedelta(days=3)
    OutboundMessage.objects.filter(text="struk").update(settled_at=old)
    Heartbeat.objects.bulk_create([Heartbeat(name="worker", seen_at=old)], ignore_conflicts=True)
    held = [Heartbeat.objects.all(), HourlyStatistic.objects.all(), messages(license_)]
    with frozen_with(*held), within(10):
        sweep()
        tasks.roll_up_statistics()
        tasks.purge()
        tasks.dispatch_due()
    statistics.roll_up()
    assert retention.purge().messages == 1


def reported_delivered(license_, text, *, is_sent=False):
    """Return a message that is in doubt, or sent for certain, and a webhook event that says that it was delivered."""
    message = send_message(NUMBER, text, license=license_)
    status, outcome = (Status.SENT, "accepted") if is_sent else (Status.UNKNOWN, "in_doubt")
    OutboundMessage.objects.filter(pk=message.pk).update(status=status, attempts_made=1, in_doubt=not is_sent)
    message.attempts.create(number=1, started_at=timezone.now(), outcome=outcome, gateway_id=f"GW-{text}")
    body = {"id": f"GW-{text}", "status": "Delivered"}
    return message, store_event(license_.pk, json.dumps(body).encode(), "application/json")


@pytest.mark.parametrize("is_sent", [False, True], ids=["in doubt", "sent"])
@pytest.mark.parametrize("locked", ["event", "message"])
def test_webhook_events_are_processed_but_for_the_one_whose_rows_are_locked(license_, locked, is_sent, caplog):
    held, held_event = reported_delivered(license_, "held", is_sent=is_sent)
    others = [reported_delivered(license_, f"other-{number}", is_sent=is_sent)[0] for number in range(3)]
    rows = WebhookEvent.objects.filter(pk=held_event)
    with frozen_with(rows if locked == "event" else OutboundMessage.objects.filter(pk=held.pk)), within(5):
        tasks.process_due_webhooks()
        tasks.process_webhook(held_event)
        assert {OutboundMessage.objects.get(pk=other.pk).status for other in others} == {Status.DELIVERED}
    assert "Traceback" not in caplog.text
    assert WebhookEvent.objects.get(pk=held_event).tries == (1 if locked == "message" else 0)
    WebhookEvent.objects.filter(pk=held_event).update(next_try_at=DatabaseNow())
    tasks.process_due_webhooks()
    assert OutboundMessage.objects.get(pk=held.pk).status == Status.DELIVERED


def test_a_repeat_of_a_webhook_whose_row_is_locked_is_answered(license_):
    _, event_id = reported_delivered(license_, "held")
    body = bytes(WebhookEvent.objects.get(pk=event_id).body)
    with frozen_with(WebhookEvent.objects.filter(pk=event_id)), within(4):
        assert store_event(license_.pk, body, "application/json") is None


def test_an_event_that_was_processed_waits_a_moment_alone_for_its_row(license_, caplog):
    _, event_id = reported_delivered(license_, "held")
    [claimed] = [store().claim_event(event_id, 60)[0]]
    with frozen_with(WebhookEvent.objects.filter(pk=event_id)), within(6), pytest.raises(OperationalError) as caught:
        store().record_event(claimed, {}, next_try_in=None)
    assert waited_too_long(caught.value)


@pytest.fixture
def shops(license_):
    """A first license whose lane a lost worker holds, and 23 others with 46 waiting messages."""
    others = [another(f"Cabang {number}") for number in range(23)]
    Lane.objects.bulk_create(Lane(license=shop, session_status="connected") for shop in [license_, *others])
    abandon(license_)
    send_message(NUMBER, "of the first", license=license_)
    send_messages(Message(NUMBER, "struk", license=shop) for shop in others for _ in range(2))
    return license_, others


def all_sent(others):
    return not OutboundMessage.objects.filter(license__in=others).exclude(status=Status.SENT).exists()


def test_kpwa_run_sends_for_all_others_while_a_lane_is_locked(shops):
    first, others = shops
    with frozen_with(lanes(first), messages(first)), start_manage("kpwa", "run", "--threads", "2"):
        wait_until(lambda: all_sent(others))
        assert statuses(first) == {Status.SENDING, Status.QUEUED}


@pytest.mark.skipif(not HAS_REDIS, reason="workers need a Redis broker")
def test_celery_sends_for_all_others_while_a_lane_is_locked(shops, tmp_path, redis_url):
    first, others = shops
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
    with (
        frozen_with(lanes(first), messages(first)),
        start_celery_worker(redis_url, concurrency=2),
        start_celery_beat(redis_url, schedule_file=tmp_path / "beat"),
    ):
        wait_until(lambda: all_sent(others))
        assert statuses(first) == {Status.SENDING, Status.QUEUED}
