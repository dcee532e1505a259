"""The policy: what answers and ticks tell about a restriction of a number by WhatsApp. Pure, without a database.

WhatsApp says by a mark that it restricts a number; or it says nothing, and messages to new customers fail while those
to others get through. Then messages to new customers wait, and one at a time is a try. The `trail` remembers, from the
first that failed, what was sent since the last message to a new customer that got through. It is empty almost always,
and as long as it is, a message that is accepted costs nothing.

A gateway that cannot be reached, or fails for everybody, must not look like a restriction: between the failures a
message to a known customer has to get through, and since the last one to a known customer that failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from ..gateway.outcome import Cause, Outcome, OutcomeKind, says_not_registered
from ..pace import RESTRICTED_SECONDS

PERSONS = 3
"""So many different new customers to whom nothing gets through are a restriction."""
MOST_REMEMBERED = 20
KNOWN_CUSTOMER = 0
"""In a trail, in place of a message: one or more to known customers got through."""
PROVEN_SECONDS = RESTRICTED_SECONDS[0]
"""What was accepted so long ago, and not reported as undelivered since, got through."""


class Sign(Enum):
    """What a send, or a tick about it, says of a restriction."""

    MARKED = "marked"
    """WhatsApp restricts the number: the gateway's words have a mark."""
    FAILED = "failed"
    """Refused, or reported as not delivered."""
    IN_DOUBT = "in doubt"
    ACCEPTED = "accepted"
    NOT_MADE = "not made"
    """WhatsApp did not see it, or turned it down for its number alone."""
    NONE = "none"
    """It may have been sent, and whether it was has nothing to do with WhatsApp: a worker died."""


class Fate(Enum):
    """What has become of a message to a new customer by now."""

    FAILED = "failed"
    UNDELIVERED = "undelivered"
    ACCEPTED = "accepted"
    PROVEN = "proven"
    """A phone has it, or nothing was heard for `PROVEN_SECONDS` after it was accepted."""


@dataclass(frozen=True)
class Sent:
    """A message of a trail: to whom, and its fate."""

    person: str = field(repr=False)
    fate: Fate = Fate.FAILED


@dataclass(frozen=True)
class Known:
    """What a lane knows of a restriction.

    `step`: how often in a row it was found. Without a restriction, but with a step, it was ended by the try with which
    the trail begins, and that is not proven yet. `is_marked`: it was found by a mark. `trail`: ids of messages and
    `KNOWN_CUSTOMER`; under a restriction, the try alone, if one was begun. `wait_seconds`: until the next try; None:
    what was known of that stays.
    """

    step: int = 0
    is_restricted: bool = False
    is_marked: bool = False
    trail: tuple[int, ...] = ()
    wait_seconds: float | None = None


def sign_of(outcome: Outcome) -> Sign:
    """What the outcome of a send says of a restriction."""
    if outcome.cause == Cause.RESTRICTED:
        return Sign.MARKED
    if outcome.kind == OutcomeKind.ACCEPTED:
        return Sign.ACCEPTED
    if outcome.kind == OutcomeKind.IN_DOUBT:
        return Sign.NONE if outcome.cause in (Cause.WORKER_LOST, Cause.LOGGED_OUT) else Sign.IN_DOUBT
    if outcome.cause == Cause.REFUSED and not says_not_registered(outcome.words):
        return Sign.FAILED
    return Sign.NOT_MADE


def weigh(known: Known, sign: Sign, message_id: int, is_cold: bool | None, sent: Mapping[int, Sent]) -> Known:
    """What is known after `sign` about a message.

    `is_cold`: it goes to a new customer; None: to a group, which is neither new nor known. `sent`: the messages of the
    trail and this one, as they are now; one that is missing is forgotten.
    """
    if known.is_restricted:
        return _after_try(known, sign) if known.trail == (message_id,) else known
    known = _since_success(known, sent)
    if sign is Sign.MARKED:
        return _restricted(known, is_marked=True)
    has_failed = sign in (Sign.FAILED, Sign.IN_DOUBT)
    if is_cold is False and has_failed:
        return _shortened(known, tuple(one for one in known.trail if one != KNOWN_CUSTOMER))
    if is_cold is False and sign is Sign.ACCEPTED and known.trail:
        return _followed(known, KNOWN_CUSTOMER)
    if is_cold and has_failed:
        is_try = known.step > 0 and known.trail[:1] == (message_id,)
        known = _since_success(_followed(known, message_id), sent)
        return _restricted(known) if is_try or _is_restriction(known.trail, sent) else known
    if is_cold and sign is Sign.ACCEPTED and known.trail:
        return _since_success(_followed(known, message_id), sent)
    return known


def begun(known: Known) -> Known:
    """What is known after somebody has said that WhatsApp restricts the number."""
    return known if known.is_restricted else _restricted(known, is_marked=True)


def seconds_of(step: int) -> float:
    """How long messages to new customers wait after the restriction was found for the `step`-th time in a row."""
    return RESTRICTED_SECONDS[step - 1]


def _after_try(known: Known, sign: Sign) -> Known:
    if sign is Sign.ACCEPTED:
        return replace(known, is_restricted=False, is_marked=False, wait_seconds=None)
    if sign is Sign.NOT_MADE:
        return replace(known, trail=(), wait_seconds=0.0)
    # Of one that WhatsApp has marked before, a try that is in doubt says neither.
    if sign is Sign.NONE or (sign is Sign.IN_DOUBT and known.is_marked):
        return known
    return _restricted(known, is_marked=known.is_marked or sign is Sign.MARKED)


def _restricted(known: Known, *, is_marked: bool = False) -> Known:
    step = min(known.step + 1, len(RESTRICTED_SECONDS))
    return Known(step, True, is_marked, wait_seconds=seconds_of(step))


def _since_success(known: Known, sent: Mapping[int, Sent]) -> Known:
    """Drop what was before the last message to a new customer that got through, with it, and what nothing refers to."""
    trail = tuple(one for one in known.trail if one == KNOWN_CUSTOMER or one in sent)
    # Where accepted ones turned out to be undelivered, or an accepted try may, that alone is no success.
    is_enough = known.step == 0 and not any(_fate(one, sent) is Fate.UNDELIVERED for one in trail)
    proofs = (Fate.PROVEN, Fate.ACCEPTED) if is_enough else (Fate.PROVEN,)
    successes = [place for place, one in enumerate(trail) if _fate(one, sent) in proofs]
    return _shortened(known, trail[successes[-1] + 1 :] if successes else trail, ended=bool(successes))


def _shortened(known: Known, trail: tuple[int, ...], *, ended: bool = False) -> Known:
    step = 0 if ended or not trail else known.step
    while step == 0 and trail[:1] == (KNOWN_CUSTOMER,):
        trail = trail[1:]
    return replace(known, step=step, trail=trail)


def _followed(known: Known, one: int) -> Known:
    """With one more in the trail, unless it is the last; the first one stays, the oldest of the others are dropped."""
    if known.trail[-1:] == (one,):
        return known
    first, others = known.trail[:1], (*known.trail[1:], one)
    if not first:
        return replace(known, trail=(one,))
    return replace(known, trail=first + others[-(MOST_REMEMBERED - 1) :])


def _is_restriction(trail: tuple[int, ...], sent: Mapping[int, Sent]) -> bool:
    failed = [place for place, one in enumerate(trail) if _fate(one, sent) in (Fate.FAILED, Fate.UNDELIVERED)]
    persons = {sent[trail[place]].person for place in failed}
    return len(persons) >= PERSONS and KNOWN_CUSTOMER in trail[failed[0] : failed[-1]]


def _fate(one: int, sent: Mapping[int, Sent]) -> Fate | None:
    return sent[one].fate if one in sent else None
