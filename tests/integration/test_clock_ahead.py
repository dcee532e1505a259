"""A database's clock was an hour ahead and is right again: nothing waits for that hour to pass."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models import F
from django.utils import timezone

from django_kpwa import license_actions
from django_kpwa.dispatch import drive, sweep
from django_kpwa.exceptions import NotConnectedError, RateLimitedError
from django_kpwa.gateway import locmem
from django_kpwa.models import Heartbeat, Lane, License, OutboundMessage, PauseReason, Priority, Status
from django_kpwa.outbox import send_message
from django_kpwa.senders import senders
from django_kpwa.store import store
from django_kpwa.store.results import Pause
from tests.stores import take_lane

pytestmark = pytest.mark.django_db(transaction=True)

NUMBER = "081234567890"
HOUR = timedelta(hours=1)
LANE_TIMES = ("session_seen_at", "paused_at", "paused_until", "last_error_at", "lease_expires_at", "lease_taken_at",
              "next_send_at")  # fmt: skip


def was_ahead():
    """Date everything that is stored as if the clock had been an hour ahead."""
    Lane.objects.update(**{name: F(name) + HOUR for name in LANE_TIMES})
    OutboundMessage.objects.update(created_at=F("created_at") + HOUR, due_at=F("due_at") + HOUR)


def lane_of(license_):
    return Lane.objects.get(pk=license_.pk)


def fresh(message):
    return OutboundMessage.objects.get(pk=message.pk)


def test_a_pace_does_not_hold_the_license(license_):
    License.objects.update(pace_min_seconds=5, pace_max_seconds=5)
    send_message(NUMBER, "first")
    drive(license_.pk)
    Lane.objects.update(lease_token=None, lease_expires_at=None)
    was_ahead()
    send_message(NUMBER, "second")
    sweep()
    left = lane_of(license_).next_send_at - timezone.now()
    assert timedelta(seconds=2) < left < timedelta(seconds=8)


def test_a_long_pace_that_the_license_asked_for_stays(license_):
    License.objects.update(pace_min_seconds=1800, pace_max_seconds=1800)
    send_message(NUMBER, "first")
    send_message(NUMBER, "second")
    drive(license_.pk)
    before = lane_of(license_)
    sweep()
    assert lane_of(license_).next_send_at == before.next_send_at


def test_what_was_stored_then_goes_out_now_and_what_the_site_named_stays(license_):
    now = send_message(NUMBER, "now")
    tomorrow = send_message(NUMBER, "tomorrow", send_after=timezone.now() + timedelta(days=1))
    was_ahead()
    assert sweep().license_ids == (license_.pk,)
    drive(license_.pk)
    assert fresh(now).status == Status.SENT
    assert fresh(tomorrow).due_at - timezone.now() > timedelta(hours=20)


def test_a_message_that_is_tried_again_waits_no_longer_than_its_backoff(license_):
    locmem.fail_next(NotConnectedError("no"))
    message = send_message(NUMBER, "struk")
    drive(license_.pk)
    assert fresh(message).attempts_made == 1
    was_ahead()
    OutboundMessage.objects.update(created_at=F("created_at") - HOUR)
    sweep()
    assert fresh(message).due_at <= timezone.now() + timedelta(seconds=1)


@pytest.mark.parametrize("reason", [PauseReason.LOGGED_OUT, PauseReason.FAILING, PauseReason.RATE_LIMITED])
def test_a_pause_that_ends_by_itself_ends_when_it_was_to(license_, reason):
    send_message(NUMBER, "struk")
    store().pause_license(license_.pk, Pause(reason, 60.0))
    was_ahead()
    OutboundMessage.objects.update(due_at=F("due_at") - HOUR, created_at=F("created_at") - HOUR)
    sweep()
    left = lane_of(license_).paused_until - timezone.now()
    assert timedelta(seconds=50) < left < timedelta(seconds=70)
    assert lane_of(license_).pause_reason == reason


def test_a_long_wait_that_the_gateway_asked_for_stays(license_):
    locmem.fail_next(RateLimitedError("slowly", status_code=429, retry_after_seconds=850))
    send_message(NUMBER, "struk")
    drive(license_.pk)
    before = lane_of(license_)
    assert before.paused_until - timezone.now() > timedelta(seconds=800)
    sweep()
    assert lane_of(license_).paused_until == before.paused_until


def test_a_lost_workers_lease_ends_with_its_length_and_a_living_one_keeps_that(license_):
    store().ensure_lane(license_.pk)
    lease, _ = take_lane(license_.pk, 70.0)
    send_message(NUMBER, "struk")
    was_ahead()
    sweep()
    lane = lane_of(license_)
    assert lane.lease_token == lease.token
    assert timedelta(seconds=30) < lane.lease_expires_at - timezone.now() < timedelta(seconds=90)


@pytest.mark.parametrize("ends_it", ["resume", "check_status"])
def test_resume_and_a_look_at_the_status_end_all_of_it_at_once(license_, ends_it):
    message = send_message(NUMBER, "struk")
    drive(license_.pk)
    store().pause_license(license_.pk, Pause(PauseReason.FAILING, 60.0))
    was_ahead()
    waiting = send_message(NUMBER, "struk")
    getattr(license_actions, ends_it)(license_)
    drive(license_.pk)
    assert (fresh(message).status, fresh(waiting).status) == (Status.SENT, Status.SENT)
    assert lane_of(license_).pause_reason == PauseReason.NONE


def test_a_license_that_is_not_paused_goes_on_by_resume_too(license_):
    send_message(NUMBER, "struk")
    drive(license_.pk)
    was_ahead()
    waiting = send_message(NUMBER, "struk", priority=Priority.URGENT)
    assert license_actions.resume(license_)
    drive(license_.pk)
    assert fresh(waiting).status == Status.SENT
    assert not license_actions.resume(license_)


def test_a_sign_of_life_from_the_future_is_none_of_now(license_):
    Heartbeat.objects.note("sweep")
    assert senders().problem is None
    Heartbeat.objects.update(seen_at=F("seen_at") + HOUR)
    assert senders().problem is not None


def test_a_right_clock_costs_the_sweep_no_write(license_, django_assert_max_num_queries):
    for number in range(3):
        send_message(NUMBER, f"struk {number}")
    store().ensure_lane(license_.pk)
    before = Lane.objects.values().get()
    sweep()
    assert Lane.objects.values().get() == before
