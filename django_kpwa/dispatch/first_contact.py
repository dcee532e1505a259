"""The policy: whether the gateway is asked, before the first message to a number, if that has WhatsApp. Pure functions.

Writing to numbers without WhatsApp gets a number restricted, and so does asking about many. A "no" is sometimes wrong,
so it is asked about once more before anybody is told. Whatever cannot be found out delays nothing for good: the message
is sent as if nobody had asked.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from enum import Enum, auto

from ..models import Lane, Registration
from ..store.results import Contact

MOST_CHECKS_AN_HOUR = 60
MOST_CHECKS_A_DAY = 200
MOST_SECONDS_ASKING = 3.0
"""Maximum duration of asking. Shorter than the shortest usual wait between two messages, in which it is done."""
LOOK_AGAIN_SECONDS = 600.0
"""From the first "no" to asking once more; also how long it counts that nothing could be found out."""
_YES_IS_GOOD_FOR = timedelta(days=90)
_NO_IS_GOOD_FOR = timedelta(hours=24)


class FirstStep(Enum):
    """What is to be done about the first message to a number."""

    SEND = auto()
    ASK = auto()
    WAIT = auto()
    """Until the gateway may be asked once more (`asks_again_at()`)."""
    FAIL = auto()


def first_step(contact: Contact) -> FirstStep:
    """What is to be done now, from what the gateway said before."""
    registered = contact.registered
    if contact.checked_at is None or registered == Registration.NOT_ASKED:
        return FirstStep.ASK
    age = contact.now - contact.checked_at
    is_recent = age < timedelta(seconds=LOOK_AGAIN_SECONDS)
    if registered == Registration.YES and age < _YES_IS_GOOD_FOR:
        return FirstStep.SEND
    if registered == Registration.NOT_SAID and is_recent:
        return FirstStep.SEND
    if registered == Registration.NO_ONCE and is_recent:
        return FirstStep.WAIT
    if registered == Registration.NO and age < _NO_IS_GOOD_FOR:
        return FirstStep.FAIL
    return FirstStep.ASK


def asks_again_at(contact: Contact) -> datetime:
    """When the gateway may be asked about a number once more."""
    return (contact.checked_at or contact.now) + timedelta(seconds=LOOK_AGAIN_SECONDS)


def registered_after(contact: Contact, is_registered: bool | None) -> Registration:
    """What is known after the gateway's answer; None: it gave none. The second "no" within a day counts."""
    if is_registered is None:
        return Registration.NOT_SAID
    if is_registered:
        return Registration.YES
    if contact.registered != Registration.NO_ONCE or contact.checked_at is None:
        return Registration.NO_ONCE
    is_second = contact.now - contact.checked_at < _NO_IS_GOOD_FOR
    return Registration.NO if is_second else Registration.NO_ONCE


def has_room(lane: Lane, contact: Contact, today: date) -> bool:
    """False if, by the lane as it was read, enough numbers were asked about in this hour or `today`, where it is."""
    hour = contact.now.replace(minute=0, second=0, microsecond=0)
    in_hour = lane.checked_in_hour if lane.check_hour == hour else 0
    that_day = lane.checked_today if lane.check_day == today else 0
    return in_hour < MOST_CHECKS_AN_HOUR and that_day < MOST_CHECKS_A_DAY
