"""Chats, messages and ledger entries of a simulated phone, as plain values. `world` protects them with its lock."""

from __future__ import annotations

import secrets
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timezone
from enum import Enum

MESSAGES_KEPT_PER_CHAT = 500


class Ticks(str, Enum):
    """The delivery state of a message from the shop. A customer's answer has `NONE`."""

    NONE = ""
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"


@dataclass
class ChatMessage:
    """One message of a chat. `sender` is the customer's number, or empty for a message from the shop."""

    id: str
    text: str
    image_url: str
    at: datetime
    sender: str = ""
    ticks: Ticks = Ticks.NONE


@dataclass
class Chat:
    """A conversation with a number or a group. `id` is the number, or the group's `…@g.us`."""

    id: str
    name: str
    is_group: bool = False
    messages: deque[ChatMessage] = field(default_factory=lambda: deque(maxlen=MESSAGES_KEPT_PER_CHAT))
    changed_at: datetime = field(default_factory=lambda: utc_now())

    @property
    def unread(self) -> int:
        """Number of messages from the shop that the customer has not read."""
        return sum(message.ticks in (Ticks.SENT, Ticks.DELIVERED) for message in self.messages)


@dataclass(frozen=True)
class Delivery:
    """A send that the phone accepted, either to the number `recipient` or to `group`. The other one is empty."""

    sequence: int
    id: str
    license: str
    recipient: str
    group: str
    text: str
    image_url: str
    is_cold: bool
    """True if the recipient, a number, had not written to the phone."""
    accepted_at: str
    """ISO 8601 in UTC with microseconds."""


def utc_now() -> datetime:
    """Return the present time in UTC."""
    return datetime.now(timezone.utc)


def new_message_id() -> str:
    """Return a unique id that looks like one of WhatsApp Web."""
    return "3EB0" + secrets.token_hex(9).upper()


def new_group_id() -> str:
    """Return a unique id that looks like WhatsApp's id of a group."""
    return f"1203{secrets.randbelow(10**14):014d}@g.us"
