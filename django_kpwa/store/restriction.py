"""The policy: infers from answers and ticks whether WhatsApp restricts a number. Pure functions, without a database.

WhatsApp may report a restriction by a mark. Or it reports nothing, and messages to new customers fail while those to
others arrive. In both cases messages to new customers wait, and one at a time is sent as a trial.

The `trail` lists the messages sent since a message to a new customer last arrived, from the first failure on. It is
almost always empty. As long as it is, an accepted message needs no further query.

A gateway that cannot be reached, or that fails for everybody, must not be mistaken for a restriction. So a message to a
known customer has to arrive between the failures, and after the last failed message to a known customer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from ..gateway.outcome import Cause, Outcome, OutcomeKind, says_not_registered
from ..pace import RESTRICTED_SECONDS

PERSONS = 3
"""Number of different new customers whose messages must fail before a restriction is inferred."""
MAX_REMEMBERED = 20
"""Maximum length of a trail."""
KNOWN_CUSTOMER = 0
"""Stands in a trail for one or more messages to known customers that arrived."""
PROVEN_SECONDS = RESTRICTED_SECONDS[0]
"""Seconds after which an accepted message counts as arrived if it was not reported as undelivered."""


class Sign(Enum):
    """What a send, or a tick about it, indicates about a restriction."""

    MARKED = "marked"
    """WhatsApp restricts the number: the gateway's words contain a mark."""
    FAILED = "failed"
    """Refused, or reported as not delivered."""
    IN_DOUBT = "in doubt"
    ACCEPTED = "accepted"
    NOT_MADE = "not made"
    """The message did not reach WhatsApp, or was rejected only because of its recipient."""
    NONE = "none"
    """It may have been sent, and the doubt has nothing to do with WhatsApp: a worker died."""


class Fate(Enum):
    """The present state of a message to a new customer."""

    FAILED = "failed"
    UNDELIVERED = "undelivered"
    ACCEPTED = "accepted"
    PROVEN = "proven"
    """A phone received it, or no failure was reported for `PROVEN_SECONDS` after it was accepted."""


@dataclass(frozen=True)
class Sent:
    """A message of a trail: its recipient and its fate."""

    person: str = field(repr=False)
    fate: Fate = Fate.FAILED


class Known(NamedTuple):
    """What a lane stores about a restriction.

    `step`: how often in a row a restriction was found. If there is a step but no restriction, the trial with which the
    trail begins has ended it, and is not proven yet.
    `is_marked`: True if the restriction was found by a mark.
    `trail`: ids of messages, and `KNOWN_CUSTOMER`. Under a restriction it contains only the trial, if one was begun.
    `wait_seconds`: time until the next trial; None: the stored time is kept.
    """

    step: int = 0
    is_restricted: bool = False
    is_marked: bool = False
    trail: tuple[int, ...] = ()
    wait_seconds: float | None = None


def sign_of(outcome: Outcome) -> Sign:
    """Return what the outcome of a send indicates about a restriction."""
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
    """Return what is known about a restriction after `sign` about a message.

    Args:
        known: What was known before.
        sign: What the send, or a tick about it, indicates.
        message_id: The primary key of the message.
        is_cold: True if the recipient is a new customer; None for a group, which is neither new nor known.
        sent: The messages of the trail and this one, as they are now. Missing ones are dropped from the trail.
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
    """Return what is known after a person or an event reports that WhatsApp restricts the number."""
    return known if known.is_restricted else _restricted(known, is_marked=True)


def seconds_of(step: int) -> float:
    """Return the seconds that messages to new customers wait after a restriction was found `step` times in a row."""
    return RESTRICTED_SECONDS[step - 1]


def _after_try(known: Known, sign: Sign) -> Known:
    if sign is Sign.ACCEPTED:
        return known._replace(is_restricted=False, is_marked=False, wait_seconds=None)
    if sign is Sign.NOT_MADE:
        return known._replace(trail=(), wait_seconds=0.0)
    # If the restriction was found by a mark, a trial that is in doubt indicates nothing.
    if sign is Sign.NONE or (sign is Sign.IN_DOUBT and known.is_marked):
        return known
    return _restricted(known, is_marked=known.is_marked or sign is Sign.MARKED)


def _restricted(known: Known, *, is_marked: bool = False) -> Known:
    step = min(known.step + 1, len(RESTRICTED_SECONDS))
    return Known(step, True, is_marked, wait_seconds=seconds_of(step))


def _since_success(known: Known, sent: Mapping[int, Sent]) -> Known:
    """Drop the trail up to and including the last message to a new customer that arrived, and missing messages."""
    trail = tuple(one for one in known.trail if one == KNOWN_CUSTOMER or one in sent)
    # Acceptance alone is no success if accepted messages turned out to be undelivered, or if an accepted trial still
    # may.
    is_enough = known.step == 0 and not any(_fate(one, sent) is Fate.UNDELIVERED for one in trail)
    proofs = (Fate.PROVEN, Fate.ACCEPTED) if is_enough else (Fate.PROVEN,)
    successes = [place for place, one in enumerate(trail) if _fate(one, sent) in proofs]
    return _shortened(known, trail[successes[-1] + 1 :] if successes else trail, ended=bool(successes))


def _shortened(known: Known, trail: tuple[int, ...], *, ended: bool = False) -> Known:
    step = 0 if ended or not trail else known.step
    while step == 0 and trail[:1] == (KNOWN_CUSTOMER,):
        trail = trail[1:]
    return known._replace(step=step, trail=trail)


def _followed(known: Known, one: int) -> Known:
    """Append to the trail, unless it is already last. If it becomes too long, the oldest entry but the first is
    dropped.
    """
    if known.trail[-1:] == (one,):
        return known
    first, others = known.trail[:1], (*known.trail[1:], one)
    if not first:
        return known._replace(trail=(one,))
    return known._replace(trail=first + others[-(MAX_REMEMBERED - 1) :])


def _is_restriction(trail: tuple[int, ...], sent: Mapping[int, Sent]) -> bool:
    failed = [place for place, one in enumerate(trail) if _fate(one, sent) in (Fate.FAILED, Fate.UNDELIVERED)]
    persons = {sent[trail[place]].person for place in failed}
    return len(persons) >= PERSONS and KNOWN_CUSTOMER in trail[failed[0] : failed[-1]]


def _fate(one: int, sent: Mapping[int, Sent]) -> Fate | None:
    return sent[one].fate if one in sent else None
