"""The whole policy at work: stops, limits, restrictions, quiet hours and expiry, as a lane's driver combines them.

The driver is the real one. Its store is in memory, and its clock jumps from one due moment to the next until nothing
waits. The simulated phone checks each call against the promises.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from unittest import mock
from zoneinfo import ZoneInfo

import pytest
from django.test import override_settings
from hypothesis import given, settings
from hypothesis import strategies as st

from django_kpwa import pace
from django_kpwa.dispatch import driver
from django_kpwa.exceptions import BadRequestError
from django_kpwa.gateway import SentMessage, ServiceStatus, SessionStatus
from django_kpwa.gateway.outcome import Cause
from django_kpwa.models import HoldReason, Lane, License, Priority, RecipientType, Status
from django_kpwa.store.restriction import (
    KNOWN_CUSTOMER,
    PROVEN_SECONDS,
    Fate,
    Known,
    Sent,
    Sign,
    begun,
    seconds_of,
    sign_of,
    weigh,
)
from django_kpwa.store.results import Change, Claim, Content, Facts, Idle, Ready, Recorded, Standing, Step

INDONESIA = ("Asia/Jakarta", "Asia/Makassar", "Asia/Jayapura")
ZONES = [ZoneInfo(name) for name in (*INDONESIA, "Europe/Berlin")]
"""Indonesia's three zones, and one with summer time."""
WARM = timedelta(days=2)
DAY = timedelta(days=1)
LIVE = timedelta(minutes=30)
LONGEST = {
    # One day, or nearly two, plus the hour of a summer time change.
    HoldReason.QUIET_HOURS: timedelta(hours=25),
    HoldReason.COLD_LIMIT: timedelta(hours=49),
    HoldReason.RESTRICTED: timedelta(days=7),
}
AS_NEW = (HoldReason.COLD_LIMIT, HoldReason.RESTRICTED)
KPWA = {
    "WARM_DAYS": WARM.days,
    "COLD_RAMP": ((2, 1), (4, 2), (6, 3)),
    "QUIET_HOURS": ("21:00", "07:00"),
    "PACE_SECONDS": (0, 0),
}


@dataclass
class Message:
    """A message that a site queues at `at`. The fields from `due_at` on are its state."""

    id: int
    at: datetime
    recipient: str
    priority: int = Priority.NORMAL
    expires_at: datetime | None = None
    first_due_at: datetime | None = None
    due_at: datetime = field(init=False)
    status: Status = Status.QUEUED
    reason: str = ""
    cold_on: date | None = None
    ended_at: datetime | None = None

    def __post_init__(self) -> None:
        self.due_at = self.first_due_at or self.at

    @property
    def is_to_number(self) -> bool:
        return self.recipient.isdigit()


@dataclass(frozen=True)
class Happening:
    """What happens at `at`: the customer `recipient` writes, or the number's restriction is reported or lifted."""

    at: datetime
    kind: str
    recipient: str


@dataclass(frozen=True)
class Story:
    """All outside events, independent of the policy. `restricted`: the times when WhatsApp refuses new customers."""

    zone: ZoneInfo
    begins: datetime
    messages: tuple[tuple[int, str, bool, int | None, int], ...]
    happenings: tuple[tuple[int, str, str], ...]
    restricted: tuple[tuple[int, int], ...]
    limit: int | None
    in_use_days: int | None


class World:
    """A lane, its messages and its phone. One object in memory is both the driver's store and its gateway."""

    def __init__(self, story: Story) -> None:
        self.story, self.now = story, story.begins - timedelta(minutes=1)
        self.license = License(pk=1, name="Toko", cold_limit=story.limit)
        if story.in_use_days is not None:
            self.license.in_use_since = self.today() - timedelta(days=story.in_use_days)
        self.license.get_gateway = lambda: self
        self.lane = Lane(license=self.license, session_status="connected")
        self.messages: dict[int, Message] = {}
        self.wrote: dict[str, datetime] = {}
        self.stopped: set[str] = set()
        self.cold_tried: defaultdict[date, set[int]] = defaultdict(set)
        self.known = Known()
        self.seen_at: dict[str, datetime] = {}
        self.turned_down_at: datetime | None = None

    def today(self) -> date:
        return self.now.astimezone(self.story.zone).date()

    def is_known(self, recipient: str) -> bool:
        return not recipient.isdigit() or self.now - self.wrote.get(recipient, self.now - DAY - WARM) <= WARM

    def queued(self) -> list[Message]:
        return [message for message in self.messages.values() if message.status == Status.QUEUED]

    def ends(self) -> dict[int, tuple[Status, datetime | None]]:
        """Return each message's status and, if it was sent, the time. The time of a withdrawal depends on the looks."""
        return {
            message.id: (message.status, message.ended_at if message.status == Status.SENT else None)
            for message in self.messages.values()
        }

    # --- time passes ---

    def live(self, looks: Sequence[datetime], order: int) -> None:
        """Run until nothing is left to do.

        The driver looks whenever something may be due, and also at the times in `looks`. If `order` is negative,
        events of the same moment happen in reverse. "Wants again" always happens first and "stops" last, because
        their order decides whether a message is refused at once.
        """
        rank = {"wants again": 0, "stops": 2}
        outside = sorted(self._outside()[::order], key=lambda each: rank.get(getattr(each, "kind", ""), 1))
        while (moment := self._next_moment(outside, looks)) is not None:
            assert moment <= self.story.begins + timedelta(days=90), "a message waits forever"
            self.now = moment
            for each in [each for each in outside if each.at == moment]:
                self._happen(each)
            outside = [each for each in outside if each.at > moment]
            for message in self.queued():
                if message.expires_at is not None and message.expires_at <= moment:
                    self._settle(message, Status.EXPIRED)
            if self.lane.pause_reason and self.lane.paused_until <= moment:
                self.lane.pause_reason, self.lane.paused_until = "", None
            if not self.lane.pause_reason:
                driver.drive(1)

    def _outside(self) -> list[Message | Happening]:
        def after(minutes: int) -> datetime:
            return self.story.begins + timedelta(minutes=minutes)

        messages = [
            Message(
                number,
                after(at),
                recipient,
                Priority.BULK if is_bulk else Priority.NORMAL,
                None if expires is None else after(at + delay + expires),
                after(at + delay) if delay else None,
            )
            for number, (at, recipient, is_bulk, expires, delay) in enumerate(self.story.messages, start=1)
        ]
        return [*messages, *(Happening(after(at), kind, recipient) for at, kind, recipient in self.story.happenings)]

    def _next_moment(self, outside: Sequence[Message | Happening], looks: Sequence[datetime]) -> datetime | None:
        waiting = self.queued()
        if not waiting and not outside:
            return None
        moments = {each.at for each in outside} | {message.due_at for message in waiting} | {*looks}
        moments |= {message.expires_at for message in waiting if message.expires_at is not None}
        if self.lane.paused_until is not None:
            moments.add(self.lane.paused_until)
        coming = sorted(moment for moment in moments if moment > self.now)
        assert coming, f"these messages will never be due: {waiting}"
        return coming[0]

    def _happen(self, each: Message | Happening) -> None:
        if isinstance(each, Message):
            self.messages[each.id] = each
            if each.recipient in self.stopped:
                self._settle(each, Status.CANCELLED)
        elif each.kind == "writes":
            self.wrote[each.recipient] = self.now
            self._end_holds(AS_NEW, each.recipient)
        elif each.kind == "stops":
            # The driver must find queued messages itself: processing may be interrupted before it withdraws them.
            self.stopped.add(each.recipient)
        elif each.kind == "wants again":
            self.stopped.discard(each.recipient)
        elif each.kind == "is reported":
            self._know(begun(self.known))
        elif each.kind == "is freed":
            self.turned_down_at = None
            self._know(Known())
            self._end_holds([HoldReason.RESTRICTED])

    def _end_holds(self, reasons: Collection[HoldReason], recipient: str = "") -> None:
        for message in self.queued():
            if message.reason in reasons and message.recipient in (recipient or message.recipient):
                message.due_at, message.reason = self.now, ""

    def _know(self, found: Known) -> None:
        if found == self.known:
            return
        self.known = found
        if not found.is_restricted:
            self.lane.restricted_until = None
        elif found.wait_seconds is not None:
            self.lane.restricted_until = self.now + timedelta(seconds=found.wait_seconds)

    def _settle(self, message: Message, status: Status) -> None:
        message.status, message.ended_at = status, self.now

    # --- the gateway, which checks each call against the promises ---

    def send_message(self, recipient: str, text: str, image_url: str) -> SentMessage:
        message, local = self.messages[int(text)], self.now.astimezone(self.story.zone)
        assert recipient not in self.stopped, "sent to a customer who asked for no messages"
        assert message.expires_at is None or message.expires_at > self.now, "sent after it expired"
        if message.priority == Priority.BULK or self.now - (message.first_due_at or message.at) > LIVE:
            assert 7 <= local.hour < 21, "a late or bulk message was sent in the quiet hours"
        if self.is_known(recipient):
            return SentMessage("id")
        self.seen_at[recipient] = self.now
        self.cold_tried[self.today()].add(message.id)
        limit = self.license.cold_limit_on(self.today())
        assert limit is None or len(self.cold_tried[self.today()]) <= limit, (
            "wrote to more new customers than the limit allows"
        )
        minutes = (self.now - self.story.begins) / timedelta(minutes=1)
        if not any(begins <= minutes < ends for begins, ends in self.story.restricted):
            self.turned_down_at = None
            return SentMessage("id")
        since = self.turned_down_at
        assert since is None or self.now - since >= DAY, "tried again within a day of a restriction"
        self.turned_down_at = self.now
        raise BadRequestError("no", status_code=400, words="463: reach-out time-lock")

    send_group_message = send_message

    def get_status(self, *, deadline_seconds: float) -> ServiceStatus:
        return ServiceStatus(SessionStatus.CONNECTED, "connected")

    def close(self) -> None:
        pass

    # --- the part of the store that a driver uses ---

    def take_lease(self, lease: object, seconds: float, **options: object) -> Step:
        return Step(Ready(), lane=self.lane)

    def release_lease(self, lease: object) -> None:
        pass

    def has_startable_work(self, license_id: int) -> bool:
        return False

    def claim_next(self, lease: object, seconds: float) -> Step:
        due = [message for message in self.queued() if message.due_at <= self.now]
        if not due or self.lane.pause_reason:
            return Step(Idle())
        message = min(due, key=lambda each: (each.priority, each.due_at, each.id))
        message.status = Status.SENDING
        facts = Facts(self.now, message.priority, message.at, message.first_due_at, self.known.is_restricted)
        kind = RecipientType.NUMBER if message.is_to_number else RecipientType.GROUP
        content = Content(kind, message.recipient, str(message.id), "")
        return Step(Claim(message.id, message.id, 1, 1, content, facts, has_stops=bool(self.stopped)))

    def give_back(self, claim: Claim, hold=None) -> Status:
        message = self.messages[claim.message_id]
        message.status = Status.QUEUED
        if hold is not None:
            assert self.now < hold.until <= self.now + LONGEST[hold.reason], f"{hold} ends in the past or too late"
            assert hold.reason not in AS_NEW or not self.is_known(message.recipient), (
                f"{hold} applies to a known customer"
            )
            message.due_at, message.reason = hold.until, hold.reason
        return Status.QUEUED

    def why_stopped(self, number: str, message_id: int) -> str | None:
        return "stopped" if number in self.stopped else None

    def cancel_stopped(self, number: str, reason: str) -> list[Change]:
        withdrawn = [message for message in self.queued() if message.recipient == number]
        for message in withdrawn:
            self._settle(message, Status.CANCELLED)
        return [Change(message.id, message.status) for message in withdrawn]

    def has_written(self, license_id: int, number: str, days: int) -> bool:
        return self.is_known(number)

    def standing_of(self, license_id: int, message_id: int, warm_days: int) -> Standing:
        is_cold = not self.is_known(self.messages[message_id].recipient)
        return Standing(self.lane.restricted_until, is_cold)

    def begin_try(self, lease: object, claim: Claim) -> datetime | None:
        tried_at = self.seen_at.get(claim.content.recipient)
        if tried_at is not None and tried_at > self.now - DAY:
            return tried_at + DAY
        self.known = self.known._replace(trail=(claim.message_id,))
        self.lane.restricted_until = self.now + timedelta(seconds=seconds_of(self.known.step))
        return None

    def count_cold(self, lease: object, message_id: int, day: date, limit: int) -> bool:
        if self.lane.cold_day != day:
            self.lane.cold_day, self.lane.cold_sent = day, 0
        message = self.messages[message_id]
        if message.cold_on == day:
            return True
        if self.lane.cold_sent >= limit:
            return False
        self.lane.cold_sent, message.cold_on = self.lane.cold_sent + 1, day
        return True

    def record(self, lease: object, claim: Claim, outcome, verdict, lane, **options: object) -> Recorded:
        message = self.messages[claim.message_id]
        message.status, message.reason = verdict.status, verdict.reason
        if verdict.status == Status.QUEUED:
            message.due_at = self.now + timedelta(seconds=verdict.due_in_seconds or 0)
        else:
            message.ended_at = self.now
        self.lane.failures = lane.failures
        sign, is_cold = sign_of(outcome), not self.is_known(message.recipient) if message.is_to_number else None
        sent = {pk: self._sent(self.messages[pk]) for pk in {*self.known.trail, message.id} - {KNOWN_CUSTOMER}}
        self._know(weigh(self.known, sign, message.id, is_cold, sent))
        if sign is Sign.MARKED and self.lane.restricted_until is not None:
            message.due_at = self.lane.restricted_until
        if lane.pause is not None:
            self.lane.pause_reason = lane.pause.reason
            self.lane.paused_until = self.now + timedelta(seconds=lane.pause.seconds)
        return Recorded(verdict.status, Step(Ready()), paused=lane.pause is not None)

    def _sent(self, message: Message) -> Sent:
        if message.status != Status.SENT:
            return Sent(message.recipient)
        is_proven = self.now - message.ended_at >= timedelta(seconds=PROVEN_SECONDS)
        return Sent(message.recipient, Fate.PROVEN if is_proven else Fate.ACCEPTED)


@contextmanager
def site(world: World):
    """Run a site whose database and phone are `world`."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(driver, "store", return_value=world))
        stack.enter_context(mock.patch.object(License, "time_zone", world.story.zone))
        stack.enter_context(mock.patch.object(pace, "probe", return_value=60.0))
        yield


def lived(story: Story, looks: Sequence[datetime] = (), order: int = 1) -> World:
    world = World(story)
    with site(world):
        world.live(looks, order)
    return world


CUSTOMERS = ["628110", "628111", "628112", "628113"]
MINUTES = st.integers(0, 3 * 24 * 60)
# Moments often coincide, so that a wrong dependence on their order shows.
MOMENTS = MINUTES.map(lambda minutes: minutes // 240 * 240) | MINUTES
STORIES = st.builds(
    Story,
    zone=st.sampled_from(ZONES),
    # Times are full minutes. This period contains both clock changes of Berlin.
    begins=st.datetimes(datetime(2026, 3, 20), datetime(2026, 11, 1), timezones=st.just(timezone.utc)).map(
        lambda moment: moment.replace(second=0, microsecond=0)
    ),
    messages=st.lists(
        st.tuples(
            MOMENTS,
            st.sampled_from([*CUSTOMERS, *CUSTOMERS, "Dapur"]),
            st.booleans(),
            st.none() | st.integers(1, 4 * 24 * 60),
            st.just(0) | st.integers(1, 24 * 60),
        ),
        min_size=1,
        max_size=10,
    ).map(tuple),
    happenings=st.lists(
        st.tuples(
            MOMENTS,
            st.sampled_from(["writes", "writes", "stops", "wants again", "is reported", "is freed"]),
            st.sampled_from(CUSTOMERS),
        ),
        max_size=6,
        # No two happenings share a moment, because the order of one person's actions matters.
        unique_by=lambda each: each[0],
    ).map(tuple),
    restricted=st.lists(st.tuples(MINUTES, MINUTES.map(lambda minutes: minutes * 3)), max_size=2).map(tuple),
    limit=st.sampled_from([None, None, 0, 1, 2]),
    in_use_days=st.none() | st.integers(0, 9),
)


@pytest.fixture(scope="module", autouse=True)
def _settings():
    with override_settings(KPWA=KPWA):
        yield


@settings(max_examples=100)
@given(story=STORIES)
def test_whatever_happens_every_message_ends_and_no_promise_is_broken(story):
    # The phone checks the promises at each call, and the store checks them at each hold.
    for message in lived(story).messages.values():
        assert message.status in (Status.SENT, Status.CANCELLED, Status.EXPIRED)
        if message.status == Status.EXPIRED:
            assert message.ended_at >= message.expires_at
            # The message keeps the reason for its wait. A pause is recorded on its lane instead.
            assert message.reason in (*HoldReason.values, Cause.RESTRICTED, "")


@settings(max_examples=100)
@given(story=STORIES, looks=st.lists(MINUTES, max_size=20))
def test_how_often_the_lane_is_looked_at_and_in_which_order_things_came_changes_nothing(story, looks):
    moments = [story.begins + timedelta(minutes=minutes) for minutes in looks]
    once, often = lived(story), lived(story, looks=moments, order=-1)
    assert often.ends() == once.ends()
    assert often.cold_tried == once.cold_tried
