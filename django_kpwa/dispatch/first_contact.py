"""The policy: whether to check, before the first message to a number, that the number has WhatsApp. Pure functions.

WhatsApp restricts senders that write to numbers without WhatsApp, and those that check many numbers. A "no" is
sometimes wrong, so the number is checked once more before the message fails. A check without a result does not hold a
message up for long: it is then sent unchecked.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from enum import Enum, auto

from ..models import Lane, Registration
from ..store.results import Contact

MAX_CHECKS_PER_HOUR = 60
"""Maximum number of checks of a license in a clock hour."""
MAX_CHECKS_PER_DAY = 200
"""Maximum number of checks of a license on a day in its time zone."""
MAX_CHECK_SECONDS = 3.0
"""Maximum seconds for a check. It is made between two messages, and is shorter than the shortest usual gap."""
LOOK_AGAIN_SECONDS = 600.0
"""Seconds from the first "no" to the second check; also the seconds for which a check without a result is valid."""
_YES_IS_GOOD_FOR = timedelta(days=90)
_NO_IS_GOOD_FOR = timedelta(hours=24)


class FirstStep(Enum):
    """The next step for the first message to a number."""

    SEND = auto()
    ASK = auto()
    WAIT = auto()
    """Wait until the number may be checked once more (`asks_again_at()`)."""
    FAIL = auto()


def first_step(contact: Contact) -> FirstStep:
    """Return the next step, according to the gateway's earlier answers."""
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
    """Return the time from which the number may be checked once more."""
    return (contact.checked_at or contact.now) + timedelta(seconds=LOOK_AGAIN_SECONDS)


def registered_after(contact: Contact, is_registered: bool | None) -> Registration:
    """Return what is known after the gateway's answer (None: it gave none).

    Only a second "no" within a day means that the number has no WhatsApp.
    """
    if is_registered is None:
        return Registration.NOT_SAID
    if is_registered:
        return Registration.YES
    if contact.registered != Registration.NO_ONCE or contact.checked_at is None:
        return Registration.NO_ONCE
    is_second = contact.now - contact.checked_at < _NO_IS_GOOD_FOR
    return Registration.NO if is_second else Registration.NO_ONCE


def has_room(lane: Lane, contact: Contact, today: date) -> bool:
    """True if the lane may make another check in this hour and on `today`, the date in its license's time zone.

    This is decided by the counts in `lane`, as they were read. `count_check()` decides finally.
    """
    hour = contact.now.replace(minute=0, second=0, microsecond=0)
    in_hour = lane.checked_in_hour if lane.check_hour == hour else 0
    that_day = lane.checked_today if lane.check_day == today else 0
    return in_hour < MAX_CHECKS_PER_HOUR and that_day < MAX_CHECKS_PER_DAY
