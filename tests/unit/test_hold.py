"""The policy of `dispatch.hold`: which messages must wait, and until when."""

from __future__ import annotations

from datetime import datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from django_kpwa.conf import Settings
from django_kpwa.dispatch.hold import until_tomorrow, why_not_now
from django_kpwa.models import HoldReason, Priority
from django_kpwa.store.results import Facts, Hold, Standing

# Zones without summer time, with summer time, and with a summer time of half an hour.
ZONES = [ZoneInfo(name) for name in ("Asia/Jakarta", "Europe/Berlin", "Australia/Lord_Howe")]
JAKARTA, BERLIN, _ = ZONES
USUAL = Settings()


def held(now, *, late=timedelta(hours=2), priority=Priority.NORMAL, hours=("21:00", "07:00"), first_due_at=None):
    facts = Facts(now.astimezone(timezone.utc), priority, (now - late).astimezone(timezone.utc), first_due_at)
    return why_not_now(facts, now, Settings(QUIET_HOURS=hours))


def end_of(now, hours=("21:00", "07:00")):
    hold = held(now, hours=hours)
    return None if hold is None else hold.until.astimezone(now.tzinfo)


@pytest.mark.parametrize(
    ("at", "until"),
    [
        ("2026-11-28 20:59:59", None),
        ("2026-11-28 21:00:00", "2026-11-29 07:00:00"),
        ("2026-11-28 23:59:59", "2026-11-29 07:00:00"),
        ("2026-11-29 00:00:00", "2026-11-29 07:00:00"),
        ("2026-11-29 06:59:59", "2026-11-29 07:00:00"),
        ("2026-11-29 07:00:00", None),
        ("2026-12-31 22:00:00", "2027-01-01 07:00:00"),
    ],
)
@pytest.mark.parametrize("zone", ZONES)
def test_a_late_message_waits_for_the_end_of_the_quiet_hours_of_its_zone(at, until, zone):
    expected = datetime.fromisoformat(until).replace(tzinfo=zone) if until else None
    assert end_of(datetime.fromisoformat(at).replace(tzinfo=zone)) == expected


@pytest.mark.parametrize(("at", "until"), [("11:59", None), ("12:00", "13:30"), ("13:29", "13:30"), ("13:30", None)])
def test_quiet_hours_may_lie_within_a_day(at, until):
    day = datetime(2026, 11, 28, tzinfo=JAKARTA)
    expected = datetime.combine(day, time.fromisoformat(until), JAKARTA) if until else None
    assert end_of(datetime.combine(day, time.fromisoformat(at), JAKARTA), ("12:00", "13:30")) == expected


@pytest.mark.parametrize(
    ("is_cold", "seconds_left", "is_held"), [(True, 60, True), (True, 0, False), (False, 60, False), (True, -60, False)]
)
@pytest.mark.parametrize("priority", [Priority.NORMAL, Priority.BULK])
def test_only_new_customers_wait_while_whatsapp_restricts_the_number(is_cold, seconds_left, is_held, priority):
    now = datetime(2026, 11, 28, 12, tzinfo=JAKARTA)
    until = now + timedelta(seconds=seconds_left)
    facts = Facts(now, priority, now, None)
    hold = Hold(HoldReason.RESTRICTED, until) if is_held else None
    assert why_not_now(facts, now, USUAL, Standing(until, is_cold)) == hold
    assert why_not_now(facts, now, USUAL) is None


@pytest.mark.parametrize(
    ("at", "hours", "until"),
    [
        ("2026-11-28 00:00", ("21:00", "07:00"), "2026-11-29 19:00"),
        ("2026-11-28 10:00", ("21:00", "07:00"), "2026-11-29 19:00"),
        ("2026-11-28 19:00", ("21:00", "07:00"), "2026-11-29 19:00"),
        ("2026-11-28 23:59", None, "2026-11-29 19:00"),
        ("2026-12-31 10:00", ("12:00", "13:30"), "2027-01-01 19:00"),
        ("2026-11-28 10:00", ("18:00", "07:00"), "2026-11-29 16:00"),
        # Never on the same day, because that day's limit is reached.
        ("2026-11-28 23:30", ("01:00", "20:00"), "2026-11-29 00:00"),
    ],
)
@pytest.mark.parametrize("zone", ZONES)
def test_above_the_limit_a_new_customer_waits_for_what_the_next_day_leaves(at, hours, until, zone):
    hold = until_tomorrow(datetime.fromisoformat(at).replace(tzinfo=zone), Settings(QUIET_HOURS=hours))
    assert hold == Hold(HoldReason.COLD_LIMIT, datetime.fromisoformat(until).replace(tzinfo=zone))


NIGHT = datetime(2026, 11, 28, 23, tzinfo=JAKARTA)


@pytest.mark.parametrize(
    ("late", "priority", "is_held"),
    [
        (timedelta(0), Priority.NORMAL, False),
        (timedelta(minutes=30), Priority.NORMAL, False),
        (timedelta(minutes=30, seconds=1), Priority.NORMAL, True),
        (timedelta(minutes=31), Priority.URGENT, True),
        # The backlog after an outage has the priority value NORMAL + 1.
        (timedelta(minutes=6), Priority.NORMAL + 1, False),
        (timedelta(0), Priority.BULK, True),
        (timedelta(0), Priority.BULK + 1, True),
        # The database's clock was ahead when the message was stored.
        (timedelta(hours=-5), Priority.NORMAL, False),
    ],
)
def test_only_what_is_late_or_bulk_is_held(late, priority, is_held):
    hold = held(NIGHT, late=late, priority=priority)
    assert (hold is not None) == is_held
    assert hold is None or hold.reason == HoldReason.QUIET_HOURS


def test_a_message_for_later_is_late_by_the_time_that_it_was_for():
    assert held(NIGHT, late=timedelta(days=3), first_due_at=NIGHT - timedelta(minutes=29)) is None
    assert held(NIGHT, late=timedelta(days=3), first_due_at=NIGHT - timedelta(minutes=31)) is not None
    # Its scheduled time was before it was queued, so it was due at once.
    assert held(NIGHT, late=timedelta(0), first_due_at=NIGHT - timedelta(days=1)) is None


def test_without_quiet_hours_nothing_is_held():
    assert held(NIGHT, hours=None, priority=Priority.BULK) is None


def test_where_clocks_are_put_forward_an_end_that_does_not_exist_is_as_much_later():
    # At 2:00 the clocks jump to 3:00.
    assert end_of(datetime(2027, 3, 28, 1, 30, tzinfo=BERLIN), ("21:00", "02:30")) == datetime(
        2027, 3, 28, 1, 30, tzinfo=timezone.utc
    )


def test_where_clocks_are_put_back_the_end_that_is_still_to_come_counts():
    # The hour from 2:00 to 3:00 occurs twice.
    first, second = (datetime(2026, 10, 25, 2, 10, tzinfo=BERLIN, fold=fold) for fold in (0, 1))
    ends = [held(now, hours=("21:00", "02:30")).until for now in (first, second)]
    assert ends == [datetime(2026, 10, 25, hour, 30, tzinfo=timezone.utc) for hour in (0, 1)]


TIMES = st.times().map(lambda at: f"{at:%H:%M}")
HOURS = st.tuples(TIMES, TIMES).filter(lambda hours: hours[0] != hours[1])
MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2028, 1, 1), timezones=st.just(timezone.utc))


@given(now=MOMENTS, hours=HOURS, zone=st.sampled_from(ZONES))
@example(now=datetime(2026, 10, 25, 1, 10, tzinfo=timezone.utc), hours=("21:00", "02:30"), zone=BERLIN)
@example(now=datetime(2026, 3, 28, 22, 0, tzinfo=timezone.utc), hours=("03:00", "02:00"), zone=BERLIN)
def test_every_hold_ends_within_a_day_and_the_hour_of_a_changed_clock(now, hours, zone):
    hold = held(now.astimezone(zone), hours=hours)
    if hold is not None:
        assert now < hold.until <= now + timedelta(hours=25)
        at_end = hold.until.astimezone(zone)
        held_again = held(at_end, hours=hours)
        # It is quiet a second time only if the hour of the end occurs twice, or not at all, so that the hold ends later
        # than the quiet hours say and others may have begun.
        occurs_twice = held_again is not None and at_end.utcoffset() != held_again.until.astimezone(zone).utcoffset()
        assert held_again is None or occurs_twice or f"{at_end:%H:%M}" != hours[1]


@given(now=MOMENTS, hours=st.none() | HOURS, zone=st.sampled_from(ZONES))
def test_a_hold_for_the_limit_ends_on_the_next_day(now, hours, zone):
    local = now.astimezone(zone)
    until = until_tomorrow(local, Settings(QUIET_HOURS=hours)).until
    assert now < until <= now + timedelta(hours=49)
    assert until.astimezone(zone).date() == local.date() + timedelta(days=1)


@given(
    now=MOMENTS,
    hours=HOURS,
    zone=st.sampled_from(ZONES),
    late=st.timedeltas(timedelta(0), timedelta(minutes=30)),
    priority=st.integers(0, Priority.BULK - 1),
    scheduled=st.booleans(),
)
def test_no_live_message_is_ever_held(now, hours, zone, late, priority, scheduled):
    created_at, first_due_at = (now - timedelta(days=9), now - late) if scheduled else (now - late, None)
    facts = Facts(now, priority, created_at, first_due_at)
    assert why_not_now(facts, now.astimezone(zone), Settings(QUIET_HOURS=hours)) is None


@given(now=MOMENTS)
def test_a_whole_day_of_sites_that_set_nothing_has_ten_quiet_hours(now):
    day = [now + timedelta(minutes=minutes) for minutes in range(0, 1440, 10)]
    assert sum(held(each.astimezone(JAKARTA), hours=USUAL.QUIET_HOURS) is not None for each in day) == 60
