"""The types that a lane's driver and the store exchange: leases, steps, claims, verdicts and results of recording.

The driver takes a `Lease`, and the store answers with a `Step`: a `Claim` to send, or the reason why there is none.
After the call the driver passes a `MessageVerdict` and a `LaneVerdict` to the store, and gets a `Recorded` back.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import NamedTuple

from ..gateway import SessionStatus
from ..models.lane import Lane, PauseReason
from ..models.message import HoldReason, Status
from ..models.recipient import Registration


@dataclass(frozen=True)
class Lease:
    """The right to drive one lane, until it is given back or expires."""

    license_id: int
    token: uuid.UUID = field(default_factory=uuid.uuid4)


@dataclass(frozen=True)
class Content:
    """The part of a message that goes to the gateway. Each field is a column of `OutboundMessage`.

    The fields after `recipient_type` are the arguments of the gateway's send operations, in their order.
    """

    recipient_type: str
    recipient: str = field(repr=False)
    text: str = field(repr=False)
    image_url: str = field(repr=False)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments of `Gateway.send_message()` and `send_group_message()`."""
        return tuple(getattr(self, name) for name in CONTENT_COLUMNS[1:])


CONTENT_COLUMNS = tuple(column.name for column in fields(Content))


class Facts(NamedTuple):
    """What decides whether a message may be sent now: the database's time, and columns of the message."""

    now: datetime
    """The database's time when the message was found."""
    priority: int
    created_at: datetime
    first_due_at: datetime | None
    """When the message was first to be sent; None if that is `created_at`."""
    is_restricted: bool = False
    """True if WhatsApp restricts the lane's number, so that the driver has to query the message's `Standing`."""

    @property
    def age_seconds(self) -> float:
        """Seconds since the message was queued."""
        return (self.now - self.created_at).total_seconds()

    @property
    def late_seconds(self) -> float:
        """Seconds since the message was first due, whatever the reason for the delay."""
        first_due_at = self.created_at if self.first_due_at is None else max(self.first_due_at, self.created_at)
        return (self.now - first_due_at).total_seconds()


FACT_COLUMNS = tuple(name for name in Facts._fields if name not in ("now", "is_restricted"))


class Hold(NamedTuple):
    """The reason why a message must not be sent now, and the time `until` which it has to wait."""

    reason: HoldReason
    until: datetime


class Standing(NamedTuple):
    """Whether a restriction of the lane's number by WhatsApp applies to a message.

    `until`: when the next message to a new customer may be tried; None if there is no restriction.
    `is_cold`: True if the recipient is a number whose owner has not written to the license lately. It is False as well
    if there is no restriction, because it is not queried then.
    """

    until: datetime | None = None
    is_cold: bool = False


UNRESTRICTED = Standing()


@dataclass(frozen=True)
class Contact:
    """What is known at `now` about a number with which the license has not exchanged any messages.

    `registered`: the gateway's answer, given at `checked_at`, to whether the number has WhatsApp.
    """

    number: str = field(repr=False)
    now: datetime
    registered: Registration = Registration.NOT_ASKED
    checked_at: datetime | None = None


class Ahead(NamedTuple):
    """The next message of a lane that waits for its pace, if it is the first message to its number."""

    message_id: int
    facts: Facts
    contact: Contact


class Claim(NamedTuple):
    """A message that is now `sending`, and the attempt that was begun for it.

    `attempt_number` counts all attempts of the message. `attempts_spent` counts only those that count towards
    `KPWA["MAX_ATTEMPTS"]`. Both include this one.
    """

    message_id: int
    attempt_id: int
    attempt_number: int
    attempts_spent: int
    content: Content
    facts: Facts
    has_stops: bool = False
    """True if the outbox holds any stop. The driver then has to check whether one applies to this recipient."""
    contact: Contact | None = None
    """The recipient's `Contact` if this is the first message to its number; None otherwise, and for a group."""


class Unrendered(NamedTuple):
    """The next message has to be rendered before it is sent.

    `due_at`: its place in the queue before the store moved it back for the time of the rendering.
    """

    message_id: int
    due_at: datetime
    facts: Facts


class Idle(NamedTuple):
    """There is nothing to send now.

    `wait_seconds`: time until the pace allows the next message; None if nothing can be sent, whatever the pace.
    `is_released`: True if the same commit gave the lane back.
    `ahead`: the message that waits for the pace, if it is the first to its number.
    """

    wait_seconds: float | None = None
    is_released: bool = False
    ahead: Ahead | None = None


@dataclass(frozen=True)
class Ready:
    """The lease is held, and the driver has to search for the next message (`claim_next()`)."""


@dataclass(frozen=True)
class LeaseLost:
    """The lease is not held, or no longer. The lane may be free, or driven by another worker."""


class Change(NamedTuple):
    """A message and its new status."""

    message_id: int
    status: Status


@dataclass(frozen=True)
class Step:
    """What a lane's driver has to do next, and the messages whose status changed in the same transaction."""

    next: Claim | Unrendered | Idle | Ready | LeaseLost
    changed: tuple[Change, ...] = ()
    lane: Lane | None = field(default=None, compare=False, repr=False)
    """The lane with its license, if the statement that took the lease returned them."""

    @property
    def claim(self) -> Claim | None:
        """The claim if the next step is to send a message, else None."""
        return self.next if isinstance(self.next, Claim) else None


class Pause(NamedTuple):
    """A pause to be written to a lane.

    `seconds`: time until the pause ends or the lane is checked again; None if it lasts until something lifts it.
    `words`: the gateway's text about the reason, masked.
    `key_version`: the version of the API key that the gateway refused; None for other reasons.
    """

    reason: PauseReason
    seconds: float | None
    words: str = ""
    key_version: int | None = None


class MessageVerdict(NamedTuple):
    """What an outcome means for its message.

    `status`: the intended status. Recording may choose another one, if an earlier attempt is in doubt or was proven.
    `reason`, `words`: the cause of the outcome, and the gateway's text about it, masked.
    `due_in_seconds`: wait of a message that goes back to the queue; None: it keeps its `due_at`, hence its place.
    `refunds_attempt`: True if the attempt does not count towards `KPWA["MAX_ATTEMPTS"]`.
    """

    status: Status
    reason: str = ""
    words: str = ""
    due_in_seconds: float | None = None
    refunds_attempt: bool = False


@dataclass(frozen=True)
class LaneVerdict:
    """What an outcome means for its lane.

    `next_send_in_seconds`: the pace's wait before the next message.
    `failures`: number of failed sends in a row, up to now.
    `session_status`, `session_word`: what the send revealed about the session, if anything, and the gateway's own word
    for an unknown status.
    `linked_number`: number of the phone that sent, in digits; empty if unknown.
    `confirms_number`: True if that is the license's first phone, which no person has to confirm.
    `pause`: the pause to write; None if the lane goes on.
    `error`: what went wrong, as text for people; empty after a success.
    """

    next_send_in_seconds: float = 0.0
    failures: int = 0
    session_status: SessionStatus | None = None
    session_word: str = ""
    linked_number: str = field(default="", repr=False)
    confirms_number: bool = False
    pause: Pause | None = None
    error: str = ""


class Recorded(NamedTuple):
    """The result of recording an outcome.

    `status`: the message's new status; None if its status had already changed otherwise.
    `step`: the driver's next step.
    `paused`: True if the verdict's pause was written. It is not if the lane has a pause that only people end.
    """

    status: Status | None
    step: Step
    paused: bool = False
