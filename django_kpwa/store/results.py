"""What passes between a lane's driver and the store: leases, steps, claims, verdicts, and what recording did."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import NamedTuple

from ..gateway import SessionStatus
from ..models.lane import Lane, PauseReason
from ..models.message import Status


@dataclass(frozen=True)
class Lease:
    """The right to drive one lane, until it is given back or runs out."""

    license_id: int
    token: uuid.UUID = field(default_factory=uuid.uuid4)


@dataclass(frozen=True)
class Content:
    """What of a message is carried to the gateway: each field is a column of `OutboundMessage`."""

    recipient_type: str
    recipient: str = field(repr=False)
    text: str = field(repr=False)
    image_url: str = field(repr=False)


CONTENT_COLUMNS = tuple(column.name for column in fields(Content))


@dataclass(frozen=True)
class Claim:
    """A message that is now `sending`, by one numbered attempt."""

    message_id: int
    attempt_id: int
    attempt_number: int
    attempts_spent: int
    content: Content


@dataclass(frozen=True)
class Unrendered:
    """The next message wants its text first. `due_at`: its place in the queue, which it left for that."""

    message_id: int
    due_at: datetime


@dataclass(frozen=True)
class Idle:
    """Nothing to send now. `wait_seconds`: the pace allows the next after so long; None: nothing is due, or all waits.

    `is_released`: the lane was given back by the same commit.
    """

    wait_seconds: float | None = None
    is_paused: bool = False
    is_released: bool = False


@dataclass(frozen=True)
class Ready:
    """The lane is ours, and its next message was not asked for yet."""


@dataclass(frozen=True)
class LeaseLost:
    """The lane is somebody else's, or nobody's."""


class Change(NamedTuple):
    """A message that has another status now."""

    message_id: int
    status: Status


@dataclass(frozen=True)
class Step:
    """What the driver of a lane does next, and the messages that changed on the way there."""

    next: Claim | Unrendered | Idle | Ready | LeaseLost
    changed: tuple[Change, ...] = ()
    lane: Lane | None = field(default=None, compare=False, repr=False)
    """The lane with its license, where the statement that took it told them."""

    @property
    def claim(self) -> Claim | None:
        """The message that is to be sent, where that is what comes next."""
        return self.next if isinstance(self.next, Claim) else None


@dataclass(frozen=True)
class Pause:
    """A pause to be written on a lane. `seconds` None: until something lifts it."""

    reason: PauseReason
    seconds: float | None
    words: str = ""
    key_version: int | None = None


@dataclass(frozen=True)
class MessageVerdict:
    """What a recorded outcome makes of its message. `status` is the one wanted; doubt and proof may change it.

    `due_in_seconds`: when a message that goes back to the queue is due; None leaves it its place there.
    """

    status: Status
    reason: str = ""
    words: str = ""
    due_in_seconds: float | None = None
    refunds_attempt: bool = False


@dataclass(frozen=True)
class LaneVerdict:
    """What a recorded outcome makes of its lane. `error`: what went wrong, in words; empty where nothing did.

    `linked_number`: the phone that sent, in digits, empty where that was not told; `confirms_number`: it is the first.
    """

    next_send_in_seconds: float = 0.0
    failures: int = 0
    session_status: SessionStatus | None = None
    linked_number: str = field(default="", repr=False)
    confirms_number: bool = False
    pause: Pause | None = None
    error: str = ""


@dataclass(frozen=True)
class Recorded:
    """What recording did: the message's status now (None: it had moved on), and what comes next.

    `paused`: the pause that the verdict wanted was written; none of another worker's, or of a person's, stood there.
    """

    status: Status | None
    step: Step
    paused: bool = False
