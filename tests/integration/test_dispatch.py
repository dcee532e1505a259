"""Driving a lane, over a real database: how each outcome changes the message, the attempt and the lane."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from django_kpwa import outbox
from django_kpwa.dispatch import drive, sweep
from django_kpwa.exceptions import (
    BadRequestError,
    GatewayTimeoutError,
    NotConnectedError,
    RateLimitedError,
    ServerError,
    UnauthorizedError,
)
from django_kpwa.gateway import locmem
from django_kpwa.models import Lane, OutboundMessage, PauseReason, Priority, Status
from django_kpwa.outbox import Message, send_group_message, send_message, send_messages
from django_kpwa.store import store
from django_kpwa.store.results import Pause

from .lanes import (
    NUMBER,
    drive_once_connected,
    fresh,
    lane_of,
    make_due,
    set_lane,
    take,
    texts,
)

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_message_is_sent_once_and_its_attempt_keeps_what_the_gateway_said(license_):
    message = send_message(NUMBER, "struk")
    assert drive(license_.pk).attempts == 1
    assert drive(license_.pk).attempts == 0
    assert texts() == ["struk"]
    message = fresh(message)
    attempt = message.attempts.get()
    assert (message.status, message.attempts_made) == (Status.SENT, 1)
    assert message.sent_at is not None
    assert (attempt.outcome, attempt.gateway_id, attempt.http_status) == ("accepted", locmem.outbox[0].id, 200)
    assert (attempt.code, attempt.read_as) == ("20001", "6281234567890")
    lane = lane_of(license_)
    assert (lane.session_status, lane.linked_number) == ("connected", locmem.LINKED_NUMBER)
    assert lane.lease_token is None


def test_a_group_is_sent_to_by_its_name(license_):
    send_group_message("Dapur", "halo")
    drive(license_.pk)
    assert locmem.outbox[0].group_name == "Dapur"


def test_urgent_messages_go_first_then_by_due_time(license_):
    send_message(NUMBER, "bulk", priority=Priority.BULK)
    send_message(NUMBER, "first")
    send_message(NUMBER, "second")
    send_message(NUMBER, "urgent", priority=Priority.URGENT)
    drive(license_.pk)
    assert texts() == ["urgent", "first", "second", "bulk"]


def test_a_message_for_later_waits(license_):
    send_message(NUMBER, "later", send_after=timezone.now() + timedelta(hours=1))
    assert drive(license_.pk).attempts == 0
    assert locmem.outbox == []


def test_an_inactive_license_holds_its_messages_and_sends_them_when_active_again(license_):
    license_.is_active = False
    license_.save()
    message = send_message(NUMBER, "x")
    drive(license_.pk)
    assert fresh(message).status == Status.QUEUED
    assert sweep().license_ids == ()
    license_.is_active = True
    license_.save()
    assert sweep().license_ids == (license_.pk,)
    drive(license_.pk)
    assert fresh(message).status == Status.SENT


def test_a_stale_message_expires_and_one_in_doubt_is_in_doubt_again(license_):
    past = timezone.now() - timedelta(minutes=1)
    stale = send_message(NUMBER, "stale", expires_at=past)
    doubtful = send_message(NUMBER, "doubtful", expires_at=past)
    OutboundMessage.objects.filter(pk=doubtful.pk).update(in_doubt=True)
    send_message(NUMBER, "good")
    drive(license_.pk)
    assert texts() == ["good"]
    assert fresh(stale).status == Status.EXPIRED
    assert fresh(doubtful).status == Status.UNKNOWN


def test_only_one_driver_has_a_lane(license_):
    drive(license_.pk)
    assert take(license_) is not None
    assert take(license_) is None
    send_message(NUMBER, "x")
    assert drive(license_.pk).attempts == 0
    assert locmem.outbox == []


@pytest.mark.parametrize("drivers", [8])
def test_drivers_that_race_for_a_lane_send_every_message_once(license_, drivers):
    send_messages(Message(NUMBER, f"m{n}", license=license_) for n in range(40))
    barrier = threading.Barrier(drivers)

    def run():
        try:
            barrier.wait()
            drive(license_.pk)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(drivers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(texts()) == sorted(f"m{n}" for n in range(40))
    assert set(OutboundMessage.objects.values_list("status", "attempts_made")) == {(Status.SENT, 1)}


def test_without_a_connection_the_message_waits_and_its_attempt_counts(license_):
    message = send_message(NUMBER, "x")
    drive_once_connected(license_)
    locmem.fail_next(NotConnectedError("refused"))
    drive(license_.pk)
    message = fresh(message)
    assert (message.status, message.reason, message.attempts_spent) == (Status.QUEUED, "not_connected", 1)
    assert message.due_at > timezone.now()
    make_due(message)
    drive(license_.pk)
    assert fresh(message).status == Status.SENT
    assert [attempt.outcome for attempt in message.attempts.all()] == ["not_sent", "accepted"]


def test_doubt_is_kept_for_a_person_and_the_next_message_goes_on(license_):
    doubtful = send_message(NUMBER, "a")
    send_message(NUMBER, "b")
    locmem.fail_next(GatewayTimeoutError("late", status_code=504))
    drive(license_.pk)
    doubtful = fresh(doubtful)
    assert (doubtful.status, doubtful.reason, doubtful.in_doubt) == (Status.UNKNOWN, "timeout", True)
    assert doubtful.attempts.get().http_status == 504
    assert texts() == ["b"]


def test_a_resend_after_doubt_that_is_refused_is_in_doubt_again_never_failed(license_):
    message = send_message(NUMBER, "a")
    locmem.fail_next(GatewayTimeoutError("late"))
    drive(license_.pk)
    outbox.resend(fresh(message))
    locmem.fail_next(BadRequestError("no such number", status_code=400))
    drive(license_.pk)
    message = fresh(message)
    assert message.status == Status.UNKNOWN
    assert [attempt.outcome for attempt in message.attempts.all()] == ["in_doubt", "refused"]


def test_a_run_of_failures_pauses_the_lane_alerts_once_and_a_good_status_lifts_it(license_, caplog):
    messages = [send_message(NUMBER, f"m{n}") for n in range(6)]
    locmem.fail_next(*[GatewayTimeoutError("late")] * 3)
    with caplog.at_level(logging.ERROR, "django_kpwa.alerts"):
        drive(license_.pk)
    lane = lane_of(license_)
    assert lane.pause_reason == PauseReason.FAILING
    assert [fresh(message).status for message in messages] == [Status.UNKNOWN] * 3 + [Status.QUEUED] * 3
    assert len([record for record in caplog.records if record.name == "django_kpwa.alerts"]) == 1
    drive(license_.pk)
    assert locmem.outbox == []
    set_lane(license_, paused_until=timezone.now() - timedelta(seconds=1))
    drive(license_.pk)
    assert texts() == ["m3", "m4", "m5"]
    assert lane_of(license_).pause_reason == ""
    assert lane_of(license_).failures == 0


def test_a_probe_that_fails_pauses_again_for_longer_and_burns_no_message(license_, hooks):
    send_message(NUMBER, "x")

    def unreachable():
        raise NotConnectedError("refused")

    hooks.on_status = unreachable
    drive(license_.pk)
    assert (lane_of(license_).pause_reason, lane_of(license_).probes) == (PauseReason.FAILING, 0)
    since = lane_of(license_).paused_at
    for probes in (1, 2):
        set_lane(license_, paused_until=timezone.now() - timedelta(seconds=1))
        drive(license_.pk)
        lane = lane_of(license_)
        assert (lane.probes, lane.paused_at) == (probes, since)
        assert lane.paused_until > timezone.now() + timedelta(seconds=20)
    assert OutboundMessage.objects.get().attempts_made == 0


def test_a_logged_out_license_keeps_its_messages_and_sends_them_once_linked(license_):
    first = send_message(NUMBER, "a")
    drive(license_.pk)
    locmem.unlink()
    second, third = send_message(NUMBER, "b"), send_message(NUMBER, "c")
    drive(license_.pk)
    lane = lane_of(license_)
    assert (lane.pause_reason, lane.session_status) == (PauseReason.LOGGED_OUT, "qr")
    assert fresh(second).status == Status.QUEUED
    assert (fresh(second).attempts_spent, fresh(second).attempts_made) == (0, 1)
    assert fresh(third).attempts_made == 0
    locmem.link()
    set_lane(license_, paused_until=timezone.now() - timedelta(seconds=1))
    assert sweep().license_ids == (license_.pk,)
    drive(license_.pk)
    assert texts() == ["a", "b", "c"]
    assert fresh(first).attempts_made == 1


def test_a_license_that_was_never_linked_is_not_sent_to(license_):
    locmem.unlink()
    message = send_message(NUMBER, "a")
    drive(license_.pk)
    assert fresh(message).attempts_made == 0
    assert lane_of(license_).pause_reason == PauseReason.LOGGED_OUT


def test_a_500_of_a_phone_that_logs_out_with_the_message_is_in_doubt(license_):
    drive_once_connected(license_)
    message = send_message(NUMBER, "a")
    locmem.unlink()
    locmem.fail_next(ServerError("broken", status_code=500))
    drive(license_.pk)
    message = fresh(message)
    assert (message.status, message.in_doubt, message.reason) == (Status.UNKNOWN, True, "logged_out")
    assert message.attempts.get().cause == "logged_out"
    assert lane_of(license_).pause_reason == PauseReason.LOGGED_OUT


def test_a_500_of_a_phone_that_logs_out_is_sent_again_where_the_site_says_so(license_, settings):
    settings.KPWA = {**settings.KPWA, "RESEND_UNKNOWN": ["logged_out"]}
    drive_once_connected(license_)
    message = send_message(NUMBER, "a")
    locmem.unlink()
    locmem.fail_next(ServerError("broken", status_code=500))
    drive(license_.pk)
    message = fresh(message)
    assert (message.status, message.in_doubt, message.reason) == (Status.QUEUED, True, "logged_out")


def test_no_send_begins_while_the_phone_was_seen_logged_out(license_):
    drive_once_connected(license_)
    message = send_message(NUMBER, "a")
    locmem.unlink()
    set_lane(license_, session_status="qr")
    drive(license_.pk)
    assert (fresh(message).status, fresh(message).attempts_made) == (Status.QUEUED, 0)
    assert lane_of(license_).pause_reason == PauseReason.LOGGED_OUT


def test_a_refused_key_pauses_until_another_key_is_entered(license_, caplog):
    drive_once_connected(license_)
    message = send_message(NUMBER, "a")
    locmem.fail_next(UnauthorizedError("no", status_code=401))
    drive(license_.pk)
    assert lane_of(license_).pause_reason == PauseReason.UNAUTHORIZED
    assert (fresh(message).status, fresh(message).attempts_spent) == (Status.QUEUED, 0)
    assert sweep().license_ids == ()
    license_.set_api_key("another-key-0000002")
    license_.save()
    assert sweep().license_ids == (license_.pk,)
    drive(license_.pk)
    assert fresh(message).status == Status.SENT


def test_a_429_pauses_the_lane_without_an_alert_and_goes_on_by_itself(license_, caplog):
    drive_once_connected(license_)
    message = send_message(NUMBER, "a")
    locmem.fail_next(RateLimitedError("slow", retry_after_seconds=120))
    drive(license_.pk)
    lane = lane_of(license_)
    assert lane.pause_reason == PauseReason.RATE_LIMITED
    assert timedelta(seconds=100) < lane.paused_until - timezone.now() < timedelta(seconds=125)
    assert not [record for record in caplog.records if record.name == "django_kpwa.alerts"]
    set_lane(license_, paused_until=timezone.now() - timedelta(seconds=1))
    make_due(message)
    drive(license_.pk)
    assert fresh(message).status == Status.SENT


def test_a_key_that_cannot_be_read_pauses_the_lane_and_says_what_to_do(license_, settings, caplog):
    send_message(NUMBER, "a")
    settings.SECRET_KEY = "another"
    drive(license_.pk)
    assert lane_of(license_).pause_reason == PauseReason.KEY_UNREADABLE
    assert "SECRET_KEYS" in caplog.text
    settings.SECRET_KEY_FALLBACKS = ["tests-only"]
    set_lane(license_, paused_until=timezone.now() - timedelta(seconds=1))
    drive(license_.pk)
    assert texts() == ["a"]


def test_a_persons_pause_stays_whatever_the_gateway_does(license_, hooks):
    send_messages([Message(NUMBER, "a", license=license_), Message(NUMBER, "b", license=license_)])
    drive_once_connected(license_)

    def pause_and_log_out(_):
        store().pause_license(license_.pk, Pause(PauseReason.BY_PERSON, None))
        locmem.unlink()

    hooks.before_send = pause_and_log_out
    drive(license_.pk)
    assert lane_of(license_).pause_reason == PauseReason.BY_PERSON
    locmem.link()
    assert drive(license_.pk).attempts == 0
    assert store().lift_pause(license_.pk, PauseReason.BY_PERSON)
    hooks.before_send = None
    drive(license_.pk)
    assert sorted(texts()) == ["a", "b"]


def test_after_a_pause_new_receipts_go_before_the_backlog(license_):
    drive_once_connected(license_)
    old = send_message(NUMBER, "old")
    OutboundMessage.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(hours=2))
    store().pause_license(license_.pk, Pause(PauseReason.LOGGED_OUT, 30))
    store().lift_pause(license_.pk, PauseReason.LOGGED_OUT)
    send_message(NUMBER, "new")
    drive(license_.pk)
    assert texts() == ["new", "old"]


def test_a_driver_that_is_told_to_stop_records_its_call_and_gives_the_lane_back(license_, hooks):
    send_messages([Message(NUMBER, "a", license=license_), Message(NUMBER, "b", license=license_)])
    stop = []
    hooks.after_send = stop.append
    driven = drive(license_.pk, should_stop=lambda: bool(stop))
    assert (driven.attempts, driven.has_more) == (1, False)
    assert lane_of(license_).lease_token is None
    assert sorted(OutboundMessage.objects.values_list("status", flat=True)) == [Status.QUEUED, Status.SENT]


def test_a_message_stored_while_the_lane_is_given_back_is_seen_by_the_look_after_it(license_, hooks):
    send_message(NUMBER, "a")
    hooks.after_send = lambda text: send_message(NUMBER, "late") if text == "a" else None
    drive(license_.pk)
    assert texts() == ["a", "late"]


def test_the_sweep_starts_from_due_messages_and_finds_a_license_without_a_lane(license_):
    assert sweep().license_ids == ()
    send_message(NUMBER, "a")
    assert not Lane.objects.exists()
    assert sweep().license_ids == (license_.pk,)
    drive(license_.pk)
    assert sweep().license_ids == ()
