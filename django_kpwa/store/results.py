"""The types that a lane's driver and the store exchange: leases, steps, claims, verdicts and results of recording."""

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
    """The part of a message that goes to the gateway; each field is a column of `OutboundMessage`.

    After `recipient_type` come the arguments of the gateway's send operations, in their order.
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


@dataclass(frozen=True)
class Facts:
    """What decides whether a message may go out now: the database's time, and columns of the message."""

    now: datetime
    priority: int
    created_at: datetime
    first_due_at: datetime | None
    is_restricted: bool = False
    """True if WhatsApp restricts the lane's number, so that the driver has to query the message's `Standing`."""

    @property
    def age_seconds(self) -> float:
        """Seconds since the message was queued."""
        return (self.now - self.created_at).total_seconds()

    @property
    def late_seconds(self) -> float:
        """Seconds since the message was first due, whatever has delayed it."""
        first_due_at = self.created_at if self.first_due_at is None else max(self.first_due_at, self.created_at)
        return (self.now - first_due_at).total_seconds()


FACT_COLUMNS = tuple(column.name for column in fields(Facts) if column.name not in ("now", "is_restricted"))


@dataclass(frozen=True)
class Hold:
    """A message must not go out before `until`, for `reason`."""

    reason: HoldReason
    until: datetime


@dataclass(frozen=True)
class Standing:
    """Whether a restriction of the lane's number by WhatsApp applies to a message.

    `until`: when the next message to a new customer may be tried; None if there is no restriction. `is_cold`: the
    recipient is a number whose owner has not written to the license lately; queried only under a restriction.
    """

    until: datetime | None = None
    is_cold: bool = False


UNRESTRICTED = Standing()


@dataclass(frozen=True)
class Contact:
    """What is known at `now` of a number that the license has exchanged no messages with.

    `registered`: the gateway's answer at `checked_at` to whether the number has WhatsApp.
    """

    number: str = field(repr=False)
    now: datetime
    registered: Registration = Registration.NOT_ASKED
    checked_at: datetime | None = None


@dataclass(frozen=True)
class Ahead:
    """The next message, if it is the first to its number and only waits for the pace."""

    message_id: int
    facts: Facts
    contact: Contact


@dataclass(frozen=True)
class Claim:
    """A message that is now `sending`, and the attempt that was begun for it.

    `attempt_number` counts all attempts, `attempts_spent` only those that count towards `MAX_ATTEMPTS`, this one
    included.
    """

    message_id: int
    attempt_id: int
    attempt_number: int
    attempts_spent: int
    content: Content
    facts: Facts
    has_stops: bool = False
    """True if any stop is stored, so that the driver has to check whether one applies to this recipient."""
    contact: Contact | None = None
    """The recipient's `Contact` if this would be the first message to it; None otherwise, and for a group."""


@dataclass(frozen=True)
class Unrendered:
    """The next message has to be rendered first. `due_at`: its place in the queue before it was moved back for that."""

    message_id: int
    due_at: datetime
    facts: Facts


@dataclass(frozen=True)
class Idle:
    """There is nothing to send now.

    `wait_seconds`: time until the pace allows the next message; None: no message may be sent, whatever the pace.
    `is_released`: the lane was given back by the same commit. `ahead`: the message that waits for the pace, if it is
    the first to its number.
    """

    wait_seconds: float | None = None
    is_released: bool = False
    ahead: Ahead | None = None


@dataclass(frozen=True)
class Ready:
    """The lease is held, and the next message has to be searched for."""


@dataclass(frozen=True)
class LeaseLost:
    """The lease is not, or no longer, held; the lane may be free or driven by another worker."""


class Change(NamedTuple):
    """A message and the status that it was changed to."""

    message_id: int
    status: Status


@dataclass(frozen=True)
class Step:
    """What a lane's driver does next, and the messages whose status was changed in the same transaction."""

    next: Claim | Unrendered | Idle | Ready | LeaseLost
    changed: tuple[Change, ...] = ()
    lane: Lane | None = field(default=None, compare=False, repr=False)
    """The lane with its license, if the statement that took the lease returned them."""

    @property
    def claim(self) -> Claim | None:
        """The claim if the next step is to send a message, else None."""
        return self.next if isinstance(self.next, Claim) else None


@dataclass(frozen=True)
class Pause:
    """A pause to be written to a lane. `seconds`: None if it lasts until something lifts it.

    `key_version`: the version of the API key that the gateway refused.
    """

    reason: PauseReason
    seconds: float | None
    words: str = ""
    key_version: int | None = None


@dataclass(frozen=True)
class MessageVerdict:
    """What an outcome means for its message.

    `status`: the intended status; an earlier attempt's doubt or proof may change it when it is recorded.
    `due_in_seconds`: for a message that goes back to the queue; None: `due_at` stays, and with it its place.
    `refunds_attempt`: the attempt does not count towards `MAX_ATTEMPTS`.
    """

    status: Status
    reason: str = ""
    words: str = ""
    due_in_seconds: float | None = None
    refunds_attempt: bool = False


@dataclass(frozen=True)
class LaneVerdict:
    """What an outcome means for its lane.

    `failures`: failed sends in a row. `error`: what went wrong, as text for people; empty after a success.
    `linked_number`: the phone that sent, in digits; empty if unknown. `confirms_number`: it is the license's first
    phone, and needs no confirmation by a person.
    """

    next_send_in_seconds: float = 0.0
    failures: int = 0
    session_status: SessionStatus | None = None
    session_word: str = ""
    linked_number: str = field(default="", repr=False)
    confirms_number: bool = False
    pause: Pause | None = None
    error: str = ""


@dataclass(frozen=True)
class Recorded:
    """What recording did: the message's new status (None if it had moved on), and the driver's next step.

    `paused`: the verdict's pause was written. It is not if the lane has a pause that only people end.
    """

    status: Status | None
    step: Step
    paused: bool = False
