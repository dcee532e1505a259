"""A message that a policy puts off: it waits for its time, says why, uses no attempt, and ends like any other."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_kpwa import outbox
from django_kpwa.conf import Settings
from django_kpwa.dispatch import drive, driver, sweep
from django_kpwa.dispatch.hold import why_not_now
from django_kpwa.models import HoldReason, License, OutboundMessage, Priority, SendAttempt, Status
from django_kpwa.outbox import Message, send_message, send_messages
from django_kpwa.store import store
from django_kpwa.store.results import Claim, Hold
from tests.stores import FORMS, stored_by

from .lanes import NUMBER, claim_as_a_worker_that_dies, fresh, lane_of, set_lane, take, texts

pytestmark = pytest.mark.django_db(transaction=True)

QUIET = HoldReason.QUIET_HOURS


@pytest.fixture(params=FORMS)
def form(request):
    with stored_by(request.param):
        yield request.param


@pytest.fixture
def license_(license_):
    store().ensure_lane(license_.pk)
    return license_


@pytest.fixture
def night(kpwa):
    """Quiet hours around the current time."""
    now = timezone.localtime()
    begins, ends = now - timedelta(hours=2), now + timedelta(hours=2)
    kpwa(QUIET_HOURS=(f"{begins:%H:%M}", f"{ends:%H:%M}"))
    return ends.replace(second=0, microsecond=0)


def make_late(message, by=timedelta(hours=1)):
    OutboundMessage.objects.filter(pk=message.pk).update(created_at=timezone.now() - by)


def hold(hours=1):
    return Hold(QUIET, timezone.now() + timedelta(hours=hours))


def claim(license_):
    lease = take(license_)
    found = store().claim_next(lease, 60).next
    assert isinstance(found, Claim)
    return lease, found


def test_a_late_message_waits_for_the_morning_and_live_ones_go_on(form, license_, night):
    late = send_message(NUMBER, "late", priority=Priority.URGENT)
    make_late(late)
    send_message(NUMBER, "bulk", priority=Priority.BULK)
    send_message(NUMBER, "live")
    assert drive(license_.pk).attempts == 1
    assert texts() == ["live"]
    late = fresh(late)
    assert (late.status, late.reason, late.reason_words) == (Status.QUEUED, QUIET, "")
    assert late.due_at == night
    assert late.is_put_off
    assert (late.attempts_made, late.attempts_spent) == (0, 0)
    assert not late.attempts.exists()
    assert OutboundMessage.objects.put_off().count() == 2
    lane = lane_of(license_)
    assert (lane.failures, lane.last_error, lane.lease_token) == (0, "", None)


def test_nobody_is_woken_for_it_before_its_time_and_then_it_goes_out_once(form, license_, night, kpwa):
    late = send_message(NUMBER, "late")
    make_late(late)
    drive(license_.pk)
    assert sweep().license_ids == ()
    assert not store().has_startable_work(license_.pk)
    kpwa(QUIET_HOURS=None)
    OutboundMessage.objects.update(due_at=timezone.now())
    assert not fresh(late).is_put_off
    assert sweep().license_ids == (license_.pk,)
    assert drive(license_.pk).attempts == 1
    late = fresh(late)
    assert (late.status, late.reason, late.attempts_made) == (Status.SENT, "", 1)
    assert late.attempts.get().number == 1


def test_each_of_many_is_looked_at_once(license_, night):
    send_messages([Message(NUMBER, f"{place}", priority=Priority.BULK) for place in range(60)])
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert drive(license_.pk).attempts == 0
        assert len(queries) < 60 * 12 + 40
    assert OutboundMessage.objects.put_off().count() == 60
    with CaptureQueriesContext(connection) as queries:
        drive(license_.pk)
        assert len(queries) < 20
    assert not SendAttempt.objects.exists()


def test_a_slice_of_holds_ends_as_one_of_sends_does(license_, night):
    send_messages([Message(NUMBER, f"{place}", priority=Priority.BULK) for place in range(5)])
    driven = drive(license_.pk, slice_seconds=0)
    assert driven.has_more
    assert lane_of(license_).lease_token is None
    assert OutboundMessage.objects.put_off().count() <= 1


@pytest.fixture
def clock(monkeypatch):
    """The driver's clock. It stands still until a test adds to its only element."""
    elapsed = [0.0]
    monkeypatch.setattr(driver, "_elapsed", lambda: elapsed[0])
    return elapsed


def test_each_is_called_within_its_own_seconds(license_, night, monkeypatch, clock):
    """Many holds in a row must not make the driver believe that its process was frozen."""

    def slowly(*arguments):
        hold = why_not_now(*arguments)
        clock[0] += 3.0 if hold else 0.0
        return hold

    monkeypatch.setattr(driver, "why_not_now", slowly)
    for message in send_messages([Message(NUMBER, f"{place}", priority=Priority.URGENT) for place in range(4)]):
        make_late(message)
    send_message(NUMBER, "live")
    drive(license_.pk)
    assert texts() == ["live"]
    assert OutboundMessage.objects.put_off().count() == 4


def test_a_text_is_not_written_before_the_message_may_go_out(form, license_, night, monkeypatch):
    message = send_message(NUMBER, "x")
    make_late(message)
    OutboundMessage.objects.update(renderer="receipts/none", text="")
    written = []
    monkeypatch.setattr(driver, "render_message", lambda *given: written.append(given))
    drive(license_.pk)
    message = fresh(message)
    assert written == []
    assert (message.status, message.reason, message.due_at) == (Status.QUEUED, QUIET, night)
    assert (message.renderings_begun, message.attempts_made) == (0, 0)


def test_what_is_put_off_expires_with_its_reason(license_, night):
    message = send_message(NUMBER, "x", priority=Priority.BULK, expires_at=timezone.now() + timedelta(hours=1))
    drive(license_.pk)
    OutboundMessage.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    sweep()
    message = fresh(message)
    assert (message.status, message.reason) == (Status.EXPIRED, QUIET)


def test_it_can_be_cancelled(license_, night):
    message = send_message(NUMBER, "x", priority=Priority.BULK)
    drive(license_.pk)
    assert outbox.cancel(fresh(message))
    assert fresh(message).status == Status.CANCELLED
    assert not fresh(message).is_put_off


def test_a_person_sends_it_now(form, license_, night):
    message = send_message(NUMBER, "x", priority=Priority.BULK)
    make_late(message)
    drive(license_.pk)
    message = fresh(message)
    assert outbox.send_now(message)
    assert (message.reason, message.priority, message.is_put_off) == ("", Priority.NORMAL, False)
    assert not outbox.send_now(message)
    drive(license_.pk)
    assert texts() == ["x"]


def test_nothing_but_what_is_put_off_is_sent_now(license_):
    later = send_message(NUMBER, "x", send_after=timezone.now() + timedelta(hours=1))
    assert not outbox.send_now(later)
    assert fresh(later).due_at > timezone.now()


def test_a_resend_is_live_again(license_, night):
    message = send_message(NUMBER, "x")
    make_late(message, timedelta(days=1))
    OutboundMessage.objects.update(status=Status.FAILED)
    assert outbox.resend(fresh(message))
    drive(license_.pk)
    assert texts() == ["x"]


def test_a_message_for_later_is_not_late_at_its_time(license_, night):
    message = send_message(NUMBER, "x", send_after=timezone.now() + timedelta(hours=1))
    assert fresh(message).first_due_at == fresh(message).due_at
    OutboundMessage.objects.update(
        created_at=timezone.now() - timedelta(days=1), due_at=timezone.now(), first_due_at=timezone.now()
    )
    drive(license_.pk)
    assert texts() == ["x"]


def test_a_retry_is_as_late_as_its_message(license_, night):
    message = send_message(NUMBER, "x")
    _, first = claim(license_)
    store().give_back(first)
    make_late(message)
    set_lane(license_, lease_token=None, lease_expires_at=None)
    drive(license_.pk)
    message = fresh(message)
    assert message.is_put_off
    assert (message.attempts_made, message.attempts_spent) == (1, 0)
    assert [attempt.outcome for attempt in message.attempts.all()] == ["not_sent"]


def test_proof_of_an_earlier_attempt_is_kept_where_the_next_is_put_off(form, license_):
    message = send_message(NUMBER, "x")
    claim_as_a_worker_that_dies(license_)
    take(license_)
    assert outbox.resend(fresh(message))
    set_lane(license_, lease_token=None, lease_expires_at=None)
    _, again = claim(license_)
    store().prove_accepted(message.pk, 1)
    assert store().give_back(again, hold()) == Status.SENT
    message = fresh(message)
    assert (message.status, message.attempts_made) == (Status.SENT, 2)
    assert sorted(attempt.outcome for attempt in message.attempts.all()) == ["accepted", "not_sent"]


def test_doubt_about_an_earlier_attempt_is_kept(license_):
    message = send_message(NUMBER, "x")
    claim_as_a_worker_that_dies(license_)
    take(license_)
    outbox.resend(fresh(message))
    set_lane(license_, lease_token=None, lease_expires_at=None)
    _, again = claim(license_)
    assert store().give_back(again, hold()) == Status.QUEUED
    message = fresh(message)
    assert (message.in_doubt, message.attempts_made, message.is_put_off) == (True, 1, True)
    OutboundMessage.objects.update(expires_at=timezone.now())
    sweep()
    assert fresh(message).status == Status.UNKNOWN


def test_a_lost_lease_leaves_nothing_to_put_off(form, license_):
    message = send_message(NUMBER, "x")
    _, lost = claim_as_a_worker_that_dies(license_)
    take(license_)
    assert store().give_back(lost, hold()) is None
    assert fresh(message).status == Status.UNKNOWN


def test_a_repeated_hold_does_not_reach_the_attempt_that_has_its_number_now(form, license_):
    """The first COMMIT succeeded unnoticed. Another worker is now sending the message under the same attempt number."""
    message = send_message(NUMBER, "x")
    _, first = claim(license_)
    assert store().give_back(first, hold()) == Status.QUEUED
    OutboundMessage.objects.update(due_at=timezone.now())
    set_lane(license_, lease_token=None, lease_expires_at=None)
    _, second = claim(license_)
    assert second.attempt_number == first.attempt_number
    assert store().give_back(first, hold()) is None
    assert store().give_back(first) is None
    assert fresh(message).status == Status.SENDING
    assert message.attempts.get().outcome == "running"


def test_what_a_wrong_clock_put_off_is_looked_at_again(license_, night):
    message = send_message(NUMBER, "x", priority=Priority.BULK)
    drive(license_.pk)
    OutboundMessage.objects.update(due_at=timezone.now() + timedelta(days=400))
    set_lane(license_, lease_taken_at=timezone.now() + timedelta(days=400))
    store().bring_back_times_ahead([license_.pk])
    assert drive(license_.pk).attempts == 0
    assert fresh(message).due_at == night


def test_the_facts_of_both_forms_are_the_messages(form, license_):
    message = send_message(NUMBER, "x", priority=Priority.URGENT, send_after=timezone.now() - timedelta(minutes=3))
    _, found = claim(license_)
    row = fresh(message)
    facts = found.facts
    assert (facts.priority, facts.created_at, facts.first_due_at) == (row.priority, row.created_at, row.first_due_at)
    assert abs(facts.now - store().now()) < timedelta(seconds=30)
    # The message was already due when it was queued.
    assert facts.late_seconds < 30


def test_the_sites_own_quiet_hours_are_the_nights():
    assert Settings().QUIET_HOURS == ("21:00", "07:00")


def test_a_worker_that_stands_still_while_it_asks_for_the_policy_does_not_call(license_, monkeypatch, clock):
    """By then it may have lost its lease, and another worker may have the message."""
    message = send_message(NUMBER, "x")
    License.objects.update(cold_limit=5)
    count = type(store()).count_cold

    def stand_still(*arguments):
        clock[0] += 6.0
        return count(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(type(store()), "count_cold", stand_still)
        driven = drive(license_.pk)
    assert (driven.attempts, driven.has_more, texts()) == (0, True, [])
    assert fresh(message).status == Status.QUEUED
    # The message was counted, and it is not counted again.
    drive(license_.pk)
    assert texts() == ["x"]
    assert lane_of(license_).cold_sent == 1
