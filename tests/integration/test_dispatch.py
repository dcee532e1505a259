"""Driving a lane, over a real database: what each outcome does to message, attempt and lane."""

from __future__ import annotations

import logging
import sys
import threading
from datetime import timedelta

import pytest
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_kpwa import license_actions, outbox, signals
from django_kpwa.dispatch import drive, failpoints, sweep
from django_kpwa.exceptions import (
    BadRequestError,
    GatewayTimeoutError,
    NotConnectedError,
    RateLimitedError,
    ServerError,
    UnauthorizedError,
)
from django_kpwa.gateway import locmem
from django_kpwa.gateway.outcome import OutcomeKind
from django_kpwa.models import Lane, OutboundMessage, PauseReason, Priority, Status
from django_kpwa.outbox import Message, send_group_message, send_message, send_messages
from django_kpwa.store import decisions
from django_kpwa.store.lanes import claim_next, release_lease, take_lease
from django_kpwa.store.results import Claim, LeaseLost, Pause

pytestmark = pytest.mark.django_db(transaction=True)

NUMBER = "081234567890"


def lane_of(license_):
    return Lane.objects.get(pk=license_.pk)


def set_lane(license_, **columns):
    Lane.objects.filter(pk=license_.pk).update(**columns)


def fresh(message):
    return OutboundMessage.objects.get(pk=message.pk)


def texts():
    return [sent.text for sent in locmem.outbox]


def make_due(message):
    OutboundMessage.objects.filter(pk=message.pk).update(due_at=timezone.now() - timedelta(minutes=1))


def take(license_, seconds=60.0):
    return take_lease(license_.pk, seconds, resend_lost=False, max_attempts=6)


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


def drive_once_connected(license_):
    """Have the lane know that it is connected, so that the next drive begins with a send."""
    Lane.objects.update_or_create(license=license_, defaults={"session_status": "connected"})


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
        decisions.pause(license_.pk, Pause(PauseReason.BY_PERSON, None))
        locmem.unlink()

    hooks.before_send = pause_and_log_out
    drive(license_.pk)
    assert lane_of(license_).pause_reason == PauseReason.BY_PERSON
    locmem.link()
    assert drive(license_.pk).attempts == 0
    assert decisions.lift_pause(license_.pk, PauseReason.BY_PERSON)
    hooks.before_send = None
    drive(license_.pk)
    assert sorted(texts()) == ["a", "b"]


@pytest.fixture
def a_phone(monkeypatch):
    """In memory there is none."""
    link_another_phone(monkeypatch, "6280000000000")


def link_another_phone(monkeypatch, number):
    monkeypatch.setattr(locmem, "LINKED_NUMBER", number)


def send_the_first(license_):
    """The first message of a license says which phone is its own."""
    send_message(NUMBER, "first")
    drive(license_.pk)


def alerts_in(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "django_kpwa.alerts"]


def test_another_phone_stops_the_lane_after_one_message_until_its_number_is_confirmed(
    license_, monkeypatch, caplog, a_phone
):
    send_the_first(license_)
    first = lane_of(license_).confirmed_number
    assert first == lane_of(license_).linked_number == locmem.LINKED_NUMBER
    link_another_phone(monkeypatch, "6281222222222@c.us")
    one, two = send_message(NUMBER, "one"), send_message(NUMBER, "two")
    drive(license_.pk)
    lane = lane_of(license_)
    assert (fresh(one).status, fresh(two).status) == (Status.SENT, Status.QUEUED)
    assert (lane.pause_reason, lane.paused_until) == (PauseReason.NUMBER_CHANGED, None)
    assert (lane.confirmed_number, lane.linked_number, lane.session_status) == (first, "6281222222222", "connected")
    [alert] = alerts_in(caplog)
    assert "62812•••••222 instead of" in alert
    assert "6281222222222" not in caplog.text
    assert first not in caplog.text
    # Nothing but a person ends it.
    license_actions.check_status(license_)
    locmem.unlink()
    license_actions.check_status(license_)
    locmem.link()
    license_actions.check_status(license_)
    assert not license_actions.resume(license_)
    assert sweep().license_ids == ()
    assert drive(license_.pk).attempts == 0
    assert license_actions.confirm_number(license_)
    drive(license_.pk)
    lane = lane_of(license_)
    assert (fresh(two).status, lane.pause_reason, lane.confirmed_number) == (Status.SENT, "", "6281222222222")
    assert len(alerts_in(caplog)) == 1


def test_after_the_phone_from_before_is_linked_again_the_lane_goes_on_with_it(license_, monkeypatch, a_phone):
    send_the_first(license_)
    first = locmem.LINKED_NUMBER
    link_another_phone(monkeypatch, "6281222222222")
    send_message(NUMBER, "one")
    drive(license_.pk)
    link_another_phone(monkeypatch, first)
    assert license_actions.confirm_number(license_, keep=True)
    for text in ("two", "three"):
        send_message(NUMBER, text)
    drive(license_.pk)
    lane = lane_of(license_)
    assert (texts()[1:], lane.pause_reason) == (["one", "two", "three"], "")
    assert lane.confirmed_number == lane.linked_number == first


def test_a_phone_that_nobody_confirmed_stops_the_lane_again(license_, monkeypatch, caplog, a_phone):
    send_the_first(license_)
    first = locmem.LINKED_NUMBER
    link_another_phone(monkeypatch, "6281222222222")
    for text in ("one", "two", "three"):
        send_message(NUMBER, text)
    drive(license_.pk)
    # Said to be the one from before, and it is not; then confirmed, and a third is linked.
    assert license_actions.confirm_number(license_, keep=True)
    drive(license_.pk)
    assert (lane_of(license_).pause_reason, lane_of(license_).confirmed_number) == ("number_changed", first)
    assert license_actions.confirm_number(license_)
    link_another_phone(monkeypatch, "6281333333333")
    drive(license_.pk)
    lane = lane_of(license_)
    assert (lane.pause_reason, lane.confirmed_number) == ("number_changed", "6281222222222")
    assert len(alerts_in(caplog)) == 3


def test_a_phone_exchanged_while_a_person_pauses_stops_the_lane_when_it_is_resumed(
    license_, hooks, monkeypatch, caplog, a_phone
):
    send_the_first(license_)

    def pause_and_exchange(_):
        license_actions.pause(license_)
        link_another_phone(monkeypatch, "6281222222222")

    hooks.before_send = pause_and_exchange
    send_message(NUMBER, "one")
    waiting = send_message(NUMBER, "two")
    drive(license_.pk)
    assert (lane_of(license_).pause_reason, alerts_in(caplog)) == (PauseReason.BY_PERSON, [])
    hooks.before_send = None
    assert license_actions.resume(license_)
    assert drive(license_.pk).attempts == 0
    assert lane_of(license_).pause_reason == PauseReason.NUMBER_CHANGED
    assert (fresh(waiting).status, len(alerts_in(caplog))) == (Status.QUEUED, 1)


def test_a_lane_that_another_phone_is_linked_to_claims_nothing_before_it_is_paused(license_):
    drive(license_.pk)
    set_lane(license_, session_status="connected", confirmed_number="6281111111111", linked_number="6282222222222")
    message = send_message("081234567890", "a")
    drive(license_.pk)
    assert (fresh(message).status, fresh(message).attempts_made) == (Status.QUEUED, 0)
    assert lane_of(license_).pause_reason == PauseReason.NUMBER_CHANGED


def test_the_number_costs_no_statement_of_its_own(license_):
    drive_once_connected(license_)

    def statements_of(count):
        for number in range(count):
            send_message(NUMBER, f"m{number}")
        with CaptureQueriesContext(connection) as captured:
            drive(license_.pk)
        return len(captured)

    two, four = statements_of(2), statements_of(4)
    # Lane, message, attempt; lane read, next message, its claim, its attempt; and what the transaction itself takes.
    assert (four - two) / 2 <= 9


def test_the_last_error_stays_with_its_time_and_is_the_newest(license_, hooks):
    drive_once_connected(license_)
    assert (lane_of(license_).last_error, lane_of(license_).last_error_at) == ("", None)
    send_message(NUMBER, "a")
    locmem.fail_next(GatewayTimeoutError("no answer within 30 s"))
    drive(license_.pk)
    assert lane_of(license_).last_error == "no answer within 30 s"
    first_at = lane_of(license_).last_error_at
    send_message(NUMBER, "b")
    locmem.fail_next(ServerError("broken", status_code=500, words="Device busy"))
    drive(license_.pk)
    lane = lane_of(license_)
    assert (lane.last_error, lane.last_error_at > first_at) == ("Device busy", True)
    send_message(NUMBER, "c")
    drive(license_.pk)
    assert texts()[-1] == "c"
    assert (lane_of(license_).last_error, lane_of(license_).last_error_at) == ("Device busy", lane.last_error_at)


def test_a_status_check_that_fails_is_the_last_error(license_, hooks):
    send_message(NUMBER, "x")

    def refuse():
        raise NotConnectedError("refused")

    hooks.on_status = refuse
    drive(license_.pk)
    assert lane_of(license_).last_error == "refused"

    def say_why():
        raise ServerError("broken", status_code=500, words="Restarting")

    hooks.on_status = say_why
    set_lane(license_, paused_until=timezone.now() - timedelta(seconds=1))
    drive(license_.pk)
    assert (lane_of(license_).last_error, lane_of(license_).pause_words) == ("Restarting", "Restarting")


def test_after_a_pause_new_receipts_go_before_the_backlog(license_):
    drive_once_connected(license_)
    old = send_message(NUMBER, "old")
    OutboundMessage.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(hours=2))
    decisions.pause(license_.pk, Pause(PauseReason.LOGGED_OUT, 30))
    decisions.lift_pause(license_.pk, PauseReason.LOGGED_OUT)
    send_message(NUMBER, "new")
    drive(license_.pk)
    assert texts() == ["new", "old"]


def test_the_pace_passes_the_lease_on_and_its_token_works_once(license_):
    license_.pace_min_seconds, license_.pace_max_seconds = 5, 6
    license_.save()
    send_messages([Message(NUMBER, "a", license=license_), Message(NUMBER, "b", license=license_)])
    driven = drive(license_.pk)
    assert driven.attempts == 1
    assert 4 < driven.wait_seconds <= 6
    assert take(license_) is None
    set_lane(license_, next_send_at=timezone.now())
    again = drive(license_.pk, driven.lease_token)
    assert again.attempts == 1
    assert drive(license_.pk, driven.lease_token).attempts == 0
    assert texts() == ["a", "b"]


def test_a_long_pace_gives_the_lane_back_and_the_sweep_waits_for_its_time(license_):
    license_.pace_min_seconds, license_.pace_max_seconds = 100, 100
    license_.save()
    send_messages([Message(NUMBER, "a", license=license_), Message(NUMBER, "b", license=license_)])
    driven = drive(license_.pk)
    assert (driven.attempts, driven.lease_token) == (1, None)
    assert lane_of(license_).lease_token is None
    assert sweep().license_ids == ()
    set_lane(license_, next_send_at=timezone.now())
    assert sweep().license_ids == (license_.pk,)


def test_a_slice_ends_and_says_that_there_is_more(license_):
    send_messages([Message(NUMBER, "a", license=license_), Message(NUMBER, "b", license=license_)])
    driven = drive(license_.pk, slice_seconds=0)
    assert driven.has_more
    assert lane_of(license_).lease_token is None


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


# --- workers that are lost, late or frozen ----------------------------------------------------------------------------


def claim_as_a_worker_that_dies(license_):
    lease = take(license_)
    claim = claim_next(lease, 60).next
    assert isinstance(claim, Claim)
    set_lane(license_, lease_expires_at=timezone.now() - timedelta(seconds=1))
    return lease, claim


def test_taking_a_lost_workers_lane_puts_its_message_in_doubt_in_the_same_moment(license_):
    drive(license_.pk)
    message = send_message(NUMBER, "x")
    claim_as_a_worker_that_dies(license_)
    lease = take(license_)
    assert lease.lost_message_ids == (message.pk,)
    message = fresh(message)
    assert (message.status, message.reason, message.in_doubt) == (Status.UNKNOWN, "worker_lost", True)
    assert message.attempts.get().outcome == OutcomeKind.IN_DOUBT


def test_the_sweep_settles_a_lost_lane_that_nobody_takes_and_tells_it(license_):
    heard = []

    def hear(message, **_):
        heard.append(message.reason)

    drive(license_.pk)
    message = send_message(NUMBER, "x")
    claim_as_a_worker_that_dies(license_)
    signals.message_unknown.connect(hear)
    try:
        assert sweep().abandoned_lanes == 1
        assert sweep().abandoned_lanes == 0
    finally:
        signals.message_unknown.disconnect(hear)
    assert fresh(message).status == Status.UNKNOWN
    assert heard == ["worker_lost"]
    assert lane_of(license_).lease_token is None


def test_a_site_may_choose_that_a_lost_workers_message_is_sent_again(license_, settings):
    settings.KPWA = {**settings.KPWA, "RESEND_UNKNOWN": ["worker_lost"]}
    drive(license_.pk)
    message = send_message(NUMBER, "x")
    claim_as_a_worker_that_dies(license_)
    drive(license_.pk)
    assert fresh(message).status == Status.SENT
    assert fresh(message).attempts_made == 2


def test_a_late_answer_of_a_worker_that_lost_its_lease_turns_doubt_into_sent(license_, hooks):
    message = send_message(NUMBER, "x")

    def lose_the_lease(_):
        set_lane(license_, lease_expires_at=timezone.now() - timedelta(seconds=1))
        assert sweep().abandoned_lanes == 1
        assert fresh(message).status == Status.UNKNOWN

    hooks.after_send = lose_the_lease
    drive(license_.pk)
    message = fresh(message)
    assert (message.status, message.in_doubt) == (Status.SENT, False)
    assert message.attempts.get().outcome == OutcomeKind.ACCEPTED


def test_a_late_certainty_that_nothing_was_sent_ends_the_doubt(license_, hooks):
    message = send_message(NUMBER, "x")
    drive_once_connected(license_)

    def lose_the_lease(_):
        set_lane(license_, lease_expires_at=timezone.now() - timedelta(seconds=1))
        sweep()
        raise BadRequestError("unknown number", status_code=400)

    hooks.before_send = lose_the_lease
    drive(license_.pk)
    message = fresh(message)
    assert (message.status, message.in_doubt, message.reason) == (Status.FAILED, False, "refused")


def test_a_worker_that_lost_its_lease_touches_neither_the_lane_nor_the_next_message(license_, hooks):
    send_messages([Message(NUMBER, "a", license=license_), Message(NUMBER, "b", license=license_)])
    taken = []

    def lose_the_lease(text):
        set_lane(license_, lease_expires_at=timezone.now() - timedelta(seconds=1))
        taken.append(take(license_))

    hooks.after_send = lose_the_lease
    drive(license_.pk)
    assert texts() == ["a"]
    assert lane_of(license_).lease_token == taken[0].token
    assert release_lease(taken[0])


def test_a_claim_under_a_lost_lease_finds_nothing(license_):
    drive(license_.pk)
    send_message(NUMBER, "x")
    lease = take(license_)
    set_lane(license_, lease_expires_at=timezone.now() - timedelta(seconds=1))
    assert take(license_) is not None
    assert claim_next(lease, 60).next == LeaseLost()
    assert not release_lease(lease)


def test_a_worker_that_stood_still_between_claim_and_call_gives_the_message_back(license_, monkeypatch):
    message = send_message(NUMBER, "x")
    monkeypatch.setattr(drive_module(), "MOST_SECONDS_BEFORE_CALL", -1.0)
    drive(license_.pk)
    message = fresh(message)
    assert locmem.outbox == []
    assert (message.status, message.attempts_spent, message.in_doubt) == (Status.QUEUED, 0, False)
    assert message.attempts.get().outcome == OutcomeKind.NOT_SENT
    assert lane_of(license_).lease_token is None


def test_proof_that_comes_while_a_resend_is_in_flight_makes_it_sent(license_, hooks):
    message = send_message(NUMBER, "x")
    drive_once_connected(license_)
    locmem.fail_next(GatewayTimeoutError("late"))
    drive(license_.pk)
    outbox.resend(fresh(message))

    def prove_the_first(_):
        assert not decisions.prove_accepted(message.pk, 1, "GW-1")
        assert fresh(message).status == Status.SENDING
        raise BadRequestError("no", status_code=400)

    hooks.before_send = prove_the_first
    drive(license_.pk)
    message = fresh(message)
    assert message.status == Status.SENT
    assert [attempt.outcome for attempt in message.attempts.all()] == ["accepted", "refused"]


def test_proof_that_comes_while_a_resend_waits_withdraws_it(license_):
    message = send_message(NUMBER, "x")
    locmem.fail_next(GatewayTimeoutError("late"))
    drive(license_.pk)
    outbox.resend(fresh(message))
    assert decisions.prove_accepted(message.pk, 1, "GW-1")
    drive(license_.pk)
    assert locmem.outbox == []
    assert fresh(message).status == Status.SENT


def test_a_gateway_with_a_fault_of_its_own_leaves_doubt_and_no_loop(license_, hooks):
    message = send_message(NUMBER, "x")
    send_message(NUMBER, "y")

    def break_down(_):
        raise RuntimeError("a bug")

    hooks.before_send = break_down
    assert drive(license_.pk).attempts == 1
    assert (fresh(message).status, fresh(message).reason) == (Status.UNKNOWN, "bad_answer")
    assert lane_of(license_).lease_token is None


# --- databases that fail, and answers to a COMMIT that never come -----------------------------------------------------


def drop_the_connection():
    """End this thread's session from the server's side; SQLite has no server, so its file is closed underneath."""
    if connection.vendor == "sqlite":
        connection.connection.close()
        return
    session = connection.connection
    number = session.thread_id() if connection.vendor == "mysql" else session.info.backend_pid
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute("KILL %s" if connection.vendor == "mysql" else "SELECT pg_terminate_backend(%s)", [number])
    other.close()


def test_an_outcome_is_recorded_over_a_fresh_connection_where_the_old_one_is_gone(license_, hooks):
    send_messages([Message(NUMBER, "a", license=license_), Message(NUMBER, "b", license=license_)])
    hooks.after_send = lambda text: drop_the_connection() if text == "a" else None
    drive(license_.pk)
    assert texts() == ["a", "b"]
    assert set(OutboundMessage.objects.values_list("status", "attempts_made")) == {(Status.SENT, 1)}


def drive_module():
    # The function `drive` hides the module of its name.
    return sys.modules["django_kpwa.dispatch.drive"]


def test_a_commit_that_went_through_unanswered_sends_nothing_twice_and_loses_nothing(license_, monkeypatch):
    send_messages([Message(NUMBER, text, license=license_) for text in "abc"])
    record = drive_module().record
    unanswered = []

    def record_without_an_answer(*arguments, **options):
        recorded = record(*arguments, **options)
        if not unanswered:
            unanswered.append(recorded)
            raise OperationalError("the server closed the connection unexpectedly")
        return recorded

    monkeypatch.setattr(drive_module(), "record", record_without_an_answer)
    drive(license_.pk)
    assert isinstance(unanswered[0].claimed.next, Claim)
    assert texts() == ["a", "b", "c"]
    assert set(OutboundMessage.objects.values_list("status", "attempts_spent")) == {(Status.SENT, 1)}


def test_an_outcome_that_cannot_be_recorded_ends_in_doubt_with_the_lease(license_, monkeypatch, settings, caplog):
    settings.KPWA = {**settings.KPWA, "CALL_DEADLINE_SECONDS": 0}
    message = send_message(NUMBER, "x")

    def fail(*_, **__):
        raise OperationalError("disk full")

    monkeypatch.setattr(drive_module(), "record", fail)
    with pytest.raises(OperationalError):
        drive(license_.pk)
    assert "could not be recorded" in caplog.text
    assert fresh(message).status == Status.SENDING
    assert take(license_) is None
    set_lane(license_, lease_expires_at=timezone.now() - timedelta(seconds=1))
    assert sweep().abandoned_lanes == 1
    assert (fresh(message).status, fresh(message).reason) == (Status.UNKNOWN, "worker_lost")


def test_a_failure_between_a_claim_and_its_call_gives_message_and_lane_back(license_, monkeypatch):
    message = send_message(NUMBER, "x")

    def fail(*_):
        raise OperationalError("gone")

    monkeypatch.setattr(failpoints, "after_claim", fail)
    with pytest.raises(OperationalError):
        drive(license_.pk)
    assert (fresh(message).status, fresh(message).attempts_spent) == (Status.QUEUED, 0)
    assert lane_of(license_).lease_token is None


def test_a_lost_worker_whose_message_was_proven_meanwhile_leaves_it_sent(license_):
    drive(license_.pk)
    message = send_message(NUMBER, "x")
    claim_as_a_worker_that_dies(license_)
    decisions.prove_accepted(message.pk, 1, "GW-1")
    assert take(license_).lost_message_ids == ()
    assert fresh(message).status == Status.SENT


def test_a_proof_that_a_later_attempt_is_in_flight_waits_for_it(license_, hooks):
    message = send_message(NUMBER, "x")

    def lose_the_lease_and_resend(_):
        set_lane(license_, lease_expires_at=timezone.now() - timedelta(seconds=1))
        sweep()
        outbox.resend(fresh(message))
        hooks.after_send = None
        lease = take(license_)
        assert isinstance(claim_next(lease, 60).next, Claim)

    hooks.after_send = lose_the_lease_and_resend
    drive(license_.pk)
    message = fresh(message)
    assert (message.status, message.proven_at is None) == (Status.SENDING, False)


def test_a_late_certainty_after_a_resend_was_asked_for_takes_back_the_doubt_alone(license_, hooks):
    message = send_message(NUMBER, "x")
    drive_once_connected(license_)

    def lose_the_lease(_):
        hooks.before_send = None
        set_lane(license_, lease_expires_at=timezone.now() - timedelta(seconds=1))
        sweep()
        outbox.resend(fresh(message))
        later = timezone.now() + timedelta(hours=1)
        OutboundMessage.objects.filter(pk=message.pk).update(due_at=later)
        raise BadRequestError("unknown number", status_code=400)

    hooks.before_send = lose_the_lease
    drive(license_.pk)
    message = fresh(message)
    assert (message.status, message.in_doubt) == (Status.QUEUED, False)


# --- what the status check says ---------------------------------------------------------------------------------------


def test_a_key_that_the_status_check_refuses_pauses_the_lane(license_, hooks):
    message = send_message(NUMBER, "x")

    def refuse():
        raise UnauthorizedError("no", status_code=401)

    hooks.on_status = refuse
    drive(license_.pk)
    assert lane_of(license_).pause_reason == PauseReason.UNAUTHORIZED
    assert fresh(message).attempts_made == 0


def test_a_401_of_the_second_address_to_the_status_check_says_nothing_of_the_key(license_, hooks):
    send_message(NUMBER, "x")

    def refuse():
        raise UnauthorizedError("no", status_code=401, from_fallback=True)

    hooks.on_status = refuse
    drive(license_.pk)
    assert lane_of(license_).pause_reason == PauseReason.FAILING


def test_a_logged_out_license_stays_so_while_its_status_cannot_be_told(license_, hooks):
    locmem.unlink()
    send_message(NUMBER, "x")
    drive(license_.pk)

    def unreachable():
        raise NotConnectedError("refused")

    hooks.on_status = unreachable
    set_lane(license_, paused_until=timezone.now() - timedelta(seconds=1))
    drive(license_.pk)
    assert (lane_of(license_).pause_reason, lane_of(license_).probes) == (PauseReason.LOGGED_OUT, 1)


def test_a_refusal_whose_status_check_fails_is_tried_again(license_, hooks):
    drive_once_connected(license_)
    message = send_message(NUMBER, "x")
    locmem.fail_next(BadRequestError("no", status_code=400))

    def unreachable():
        raise NotConnectedError("refused")

    hooks.on_status = unreachable
    drive(license_.pk)
    assert (fresh(message).status, fresh(message).reason) == (Status.QUEUED, "refused")


def test_a_gateway_that_is_configured_wrongly_pauses_the_lane_and_says_why(license_, settings, caplog):
    settings.KPWA = {**settings.KPWA, "GATEWAY": "tests.gateways.no_such_class"}
    message = send_message(NUMBER, "x")
    drive(license_.pk)
    assert lane_of(license_).pause_reason == PauseReason.FAILING
    assert "no_such_class" in caplog.text
    assert fresh(message).attempts_made == 0


# --- signals ----------------------------------------------------------------------------------------------------------


def test_receivers_hear_outside_transactions_and_a_raising_one_changes_nothing(license_, caplog):
    heard = []

    def hear(message, **_):
        heard.append((message.status, transaction.get_connection().in_atomic_block))
        assert not OutboundMessage.objects.filter(status=Status.SENDING).exists()
        raise RuntimeError("receiver")

    signals.message_sent.connect(hear)
    try:
        send_messages([Message(NUMBER, "a", license=license_), Message(NUMBER, "b", license=license_)])
        drive(license_.pk)
    finally:
        signals.message_sent.disconnect(hear)
    assert heard == [(Status.SENT, False)] * 2
    assert texts() == ["a", "b"]
    assert "receiver" in caplog.text


def test_a_change_of_the_link_that_a_send_brings_to_light_is_announced_once(license_):
    heard = []

    def hear(previous_session_status, session_status, **_):
        heard.append((previous_session_status.value, session_status.value))

    signals.license_status_changed.connect(hear)
    try:
        send_message(NUMBER, "a")
        drive(license_.pk)
        locmem.unlink()
        send_message(NUMBER, "b")
        drive(license_.pk)
        locmem.link()
        set_lane(license_, paused_until=timezone.now() - timedelta(seconds=1))
        drive(license_.pk)
    finally:
        signals.license_status_changed.disconnect(hear)
    assert heard == [("unknown", "connected"), ("connected", "qr"), ("qr", "connected")]
    assert texts() == ["a", "b"]


def test_an_expired_message_is_announced(license_):
    heard = []

    def hear(message, **_):
        heard.append(message.status)

    signals.message_expired.connect(hear)
    try:
        send_message(NUMBER, "a", expires_at=timezone.now() - timedelta(seconds=1))
        assert sweep().expired_messages == 1
    finally:
        signals.message_expired.disconnect(hear)
    assert heard == [Status.EXPIRED]


def test_the_sweep_starts_from_due_messages_and_finds_a_license_without_a_lane(license_):
    assert sweep().license_ids == ()
    send_message(NUMBER, "a")
    assert not Lane.objects.exists()
    assert sweep().license_ids == (license_.pk,)
    drive(license_.pk)
    assert sweep().license_ids == ()
