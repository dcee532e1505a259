"""The policy of `dispatch.first_contact`: when a number is checked for WhatsApp, and what follows."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_kpwa.dispatch.first_contact import FirstStep, asks_again_at, first_step, has_room, registered_after
from django_kpwa.models import Lane, Registration
from django_kpwa.store.results import Contact

NOW = datetime(2026, 11, 28, 10, 30, tzinfo=timezone.utc)
SEND, ASK, WAIT, FAIL = FirstStep
MINUTES, HOURS, DAYS = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
MOMENT = timedelta(microseconds=1)


def contact(registered=Registration.NOT_ASKED, age=None):
    return Contact("6281234567890", NOW, registered, None if age is None else NOW - age)


@pytest.mark.parametrize(
    ("registered", "age", "step"),
    [
        (Registration.NOT_ASKED, None, ASK),
        (Registration.YES, 0 * DAYS, SEND),
        (Registration.YES, 90 * DAYS - MOMENT, SEND),
        (Registration.YES, 90 * DAYS, ASK),
        (Registration.NO_ONCE, 0 * MINUTES, WAIT),
        (Registration.NO_ONCE, 10 * MINUTES - MOMENT, WAIT),
        (Registration.NO_ONCE, 10 * MINUTES, ASK),
        (Registration.NO_ONCE, 3 * DAYS, ASK),
        (Registration.NO, 0 * HOURS, FAIL),
        (Registration.NO, 24 * HOURS - MOMENT, FAIL),
        (Registration.NO, 24 * HOURS, ASK),
        (Registration.NOT_SAID, 0 * MINUTES, SEND),
        (Registration.NOT_SAID, 10 * MINUTES - MOMENT, SEND),
        (Registration.NOT_SAID, 10 * MINUTES, ASK),
    ],
)
def test_what_is_done_follows_from_what_was_said_and_when(registered, age, step):
    assert first_step(contact(registered, age)) is step


@pytest.mark.parametrize(
    ("before", "age", "answer", "after"),
    [
        (Registration.NOT_ASKED, None, True, Registration.YES),
        (Registration.NOT_ASKED, None, False, Registration.NO_ONCE),
        (Registration.NOT_ASKED, None, None, Registration.NOT_SAID),
        (Registration.NO_ONCE, 10 * MINUTES, True, Registration.YES),
        (Registration.NO_ONCE, 10 * MINUTES, False, Registration.NO),
        (Registration.NO_ONCE, 24 * HOURS - MOMENT, False, Registration.NO),
        (Registration.NO_ONCE, 24 * HOURS, False, Registration.NO_ONCE),
        (Registration.NO_ONCE, 10 * MINUTES, None, Registration.NOT_SAID),
        (Registration.NO, 24 * HOURS, False, Registration.NO_ONCE),
        (Registration.YES, 90 * DAYS, False, Registration.NO_ONCE),
        (Registration.NOT_SAID, 10 * MINUTES, False, Registration.NO_ONCE),
    ],
)
def test_one_no_is_not_believed_and_no_answer_is_no_no(before, age, answer, after):
    assert registered_after(contact(before, age), answer) == after


@given(answers=st.lists(st.sampled_from([True, False, None]), max_size=12))
def test_however_a_gateway_answers_a_message_is_sent_or_failed_after_two_looks(answers):
    looks, now, registered, checked_at = 0, NOW, Registration.NOT_ASKED, None
    given_answers = iter([*answers, False, False])
    while True:
        known = Contact("6281234567890", now, registered, checked_at)
        step = first_step(known)
        if step in (SEND, FAIL):
            break
        if step is WAIT:
            assert NOW < asks_again_at(known) <= now + 10 * MINUTES
            now = asks_again_at(known)
            continue
        looks += 1
        registered, checked_at = registered_after(known, next(given_answers)), now
    assert looks <= 2
    assert (step is FAIL) == ([*answers, False, False][:2] == [False, False])


@pytest.mark.parametrize(
    ("in_hour", "hour", "that_day", "day", "room"),
    [
        (0, None, 0, None, True),
        (59, NOW.replace(minute=0), 199, NOW.date(), True),
        (60, NOW.replace(minute=0), 60, NOW.date(), False),
        (60, NOW.replace(minute=0) - HOURS, 60, NOW.date(), True),
        (0, NOW.replace(minute=0), 200, NOW.date(), False),
        (0, NOW.replace(minute=0), 200, NOW.date() - DAYS, True),
    ],
)
def test_there_is_room_for_sixty_in_an_hour_and_two_hundred_on_a_day(in_hour, hour, that_day, day, room):
    lane = Lane(checked_in_hour=in_hour, check_hour=hour, checked_today=that_day, check_day=day)
    assert has_room(lane, contact(), NOW.date()) is room
