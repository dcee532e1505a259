"""The pace: a wait between two messages, after which another driver takes over the lane."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from django_kpwa.dispatch import drive, sweep
from django_kpwa.outbox import Message, send_messages

from .lanes import (
    NUMBER,
    lane_of,
    set_lane,
    take,
    texts,
)

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_pace_passes_the_lease_on_and_its_token_works_once(license_):
    license_.pace_min_seconds, license_.pace_max_seconds = 5, 6
    license_.save()
    send_messages([Message(NUMBER, "a", license=license_), Message(NUMBER, "b", license=license_)])
    driven = drive(license_.pk)
    assert driven.attempts == 1
    assert 4 < driven.wait_seconds <= 6
    assert take(license_) is None
    set_lane(license_, next_send_at=timezone.now() - timedelta(seconds=1))
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
    set_lane(license_, next_send_at=timezone.now() - timedelta(seconds=1))
    assert sweep().license_ids == (license_.pk,)


def test_a_slice_ends_and_says_that_there_is_more(license_):
    send_messages([Message(NUMBER, "a", license=license_), Message(NUMBER, "b", license=license_)])
    driven = drive(license_.pk, slice_seconds=0)
    assert driven.has_more
    assert lane_of(license_).lease_token is None
