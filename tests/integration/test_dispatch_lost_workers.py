"""Workers that are lost, late or frozen: their messages are settled, and their late answers are weighed."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from django_kpwa import outbox, signals
from django_kpwa.dispatch import drive, sweep
from django_kpwa.dispatch.driver import _Driver
from django_kpwa.exceptions import (
    BadRequestError,
    GatewayTimeoutError,
)
from django_kpwa.gateway import locmem
from django_kpwa.gateway.outcome import OutcomeKind
from django_kpwa.models import OutboundMessage, Status
from django_kpwa.outbox import Message, send_message, send_messages
from django_kpwa.store import store
from django_kpwa.store.results import Claim, LeaseLost
from tests.stores import take_lane

from .lanes import (
    NUMBER,
    claim_as_a_worker_that_dies,
    drive_once_connected,
    fresh,
    lane_of,
    set_lane,
    take,
    texts,
)

pytestmark = pytest.mark.django_db(transaction=True)


def test_taking_a_lost_workers_lane_puts_its_message_in_doubt_in_the_same_moment(license_):
    drive(license_.pk)
    message = send_message(NUMBER, "x")
    claim_as_a_worker_that_dies(license_)
    assert take_lane(license_.pk)[1].changed == ((message.pk, Status.UNKNOWN),)
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
    assert store().release_lease(taken[0])


def test_a_claim_under_a_lost_lease_finds_nothing(license_):
    drive(license_.pk)
    send_message(NUMBER, "x")
    lease = take(license_)
    set_lane(license_, lease_expires_at=timezone.now() - timedelta(seconds=1))
    assert take(license_) is not None
    assert store().claim_next(lease, 60).next == LeaseLost()
    assert not store().release_lease(lease)


def test_a_worker_that_stood_still_between_claim_and_call_gives_the_message_back(license_, monkeypatch):
    message = send_message(NUMBER, "x")
    monkeypatch.setattr(_Driver, "max_seconds_before_call", -1.0)
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
        assert not store().prove_accepted(message.pk, 1, "GW-1")
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
    assert store().prove_accepted(message.pk, 1, "GW-1")
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


def test_a_lost_worker_whose_message_was_proven_meanwhile_leaves_it_sent(license_):
    drive(license_.pk)
    message = send_message(NUMBER, "x")
    claim_as_a_worker_that_dies(license_)
    store().prove_accepted(message.pk, 1, "GW-1")
    assert take_lane(license_.pk)[1].changed == ((message.pk, Status.SENT),)
    assert fresh(message).status == Status.SENT


def test_a_proof_that_a_later_attempt_is_in_flight_waits_for_it(license_, hooks):
    message = send_message(NUMBER, "x")

    def lose_the_lease_and_resend(_):
        set_lane(license_, lease_expires_at=timezone.now() - timedelta(seconds=1))
        sweep()
        outbox.resend(fresh(message))
        hooks.after_send = None
        lease = take(license_)
        assert isinstance(store().claim_next(lease, 60).next, Claim)

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
