"""What an event says, and the parser that reads it out of a payload.

The gateway's payloads are not documented, so `DefaultParser` knows the field names that gateways of this family use. A
site that has seen real ones names its own `Parser` in `KPWA["WEBHOOK_PARSER"]`. Every parser passes
`tests/contract/parser_case.py`. A message of the site's own is never to be taken for a customer's.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, fields
from enum import Enum
from typing import Any

from ..models import EventKind
from ..phone import number_of
from .fields import Fields, fields_of
from .payloads import read_payload

MAX_EVENTS = 500
"""A payload that carries more is not read: acting on it would take longer than a worker may."""

_MAX_LENGTHS = {"text": 65_536, "media_url": 2000, "notes": 1000}
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class DeliveryState(str, Enum):
    """What a gateway says of a message of ours."""

    NONE = ""
    PENDING = "pending"
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    FAILED = "failed"


def cleaned(text: str, max_length: int) -> str:
    """`text` as every database takes it: no NUL, no half of a surrogate pair, no longer than `max_length`."""
    return _UNSTORABLE.sub("\ufffd", text[:max_length])


@dataclass(frozen=True, repr=False)
class ParsedEvent:
    """One thing that a payload says. Numbers are digits with the country code, empty where none is known.

    Texts are made storable: what databases refuse is replaced, what is too long is cut. Raises `TypeError` for a field
    of another type, so that a site's parser learns of it.
    """

    kind: EventKind
    gateway_id: str = ""
    sender: str = ""
    """Who wrote an incoming message: in a group, the member."""
    recipient: str = ""
    """Whom a message of ours, or its state, is about; empty for a group."""
    chat: str = ""
    """The chat as the payload names it, where that is no number: a group's JID, or a `…@lid`."""
    own_number: str = ""
    """The linked phone, where the payload names it."""
    text: str = ""
    media_url: str = ""
    is_own: bool | None = None
    """Whether the message is the site's own; None: the payload does not say."""
    is_group: bool = False
    group: str = ""
    """The group's name."""
    state: DeliveryState = DeliveryState.NONE
    session_status: str = ""
    """Of a session event: the gateway's word."""
    occurred_at: str = ""
    """The gateway's own time, as it wrote it."""
    sender_is_certain: bool = True
    """False: the payload names several numbers, or one in a field that may be the linked phone."""
    notes: str = ""
    """What a person should know who looks at the event."""

    def __post_init__(self) -> None:
        if not isinstance(self.kind, EventKind) or not isinstance(self.state, DeliveryState):
            raise TypeError("kind must be an EventKind and state a DeliveryState.")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("kind", "state"):
                continue
            if isinstance(field.default, str):
                if not isinstance(value, str):
                    raise TypeError(f"{field.name} must be a str, not {type(value).__name__}.")
                object.__setattr__(self, field.name, cleaned(value, _MAX_LENGTHS.get(field.name, 255)))
            elif not isinstance(value, bool) and value is not field.default:
                raise TypeError(f"{field.name} must be a bool, not {type(value).__name__}.")

    def __repr__(self) -> str:
        # Error reports print it: neither numbers nor what a customer wrote.
        return f"<ParsedEvent {self.kind.value or 'unknown'} {self.state.value}>"

    def as_json(self) -> dict[str, Any]:
        """What is stored of it: plain JSON, storable on every database."""
        return {**asdict(self), "kind": self.kind.value, "state": self.state.value}


class Parser(ABC):
    """Reads webhooks. One instance may be used for many, from several threads."""

    @abstractmethod
    def parse(self, body: bytes, content_type: str, *, linked_number: str) -> list[ParsedEvent]:
        """What `body` says; an empty list where that is not understood.

        `content_type` is the header as it came, `linked_number` the license's own number in digits, empty where it is
        not known yet. Whatever this raises is shown on the event, which is kept and can be processed again.
        """


class DefaultParser(Parser):
    """Reads the payloads that are usual in this family of gateways. Never raises."""

    def parse(self, body: bytes, content_type: str, *, linked_number: str) -> list[ParsedEvent]:
        contents = read_payload(body, content_type)
        if len(contents) > MAX_EVENTS:
            return []
        read = [payload for content in contents for payload in fields_of(content)]
        if len(read) > MAX_EVENTS:
            return []
        own_number = number_of(linked_number)
        return [event for payload in read if (event := _event(payload, own_number)) is not None]


@dataclass(frozen=True, repr=False)
class _Parties:
    """Who is who in a payload. `is_own` None: nothing tells."""

    own: str
    sender: str
    recipient: str
    is_own: bool | None
    is_certain: bool = True


def _event(payload: Fields, linked_number: str) -> ParsedEvent | None:
    if payload.is_broadcast:
        return None
    parties = _parties(payload, linked_number)
    text, media_url = payload.text, payload.media_url
    says_something = bool(text or media_url)
    state = _state(payload, parties, says_something)
    common: dict[str, Any] = {
        "gateway_id": payload.gateway_id,
        "chat": payload.chat,
        "own_number": parties.own,
        "text": text,
        "media_url": media_url,
        "is_own": parties.is_own,
        "is_group": payload.is_group,
        "group": payload.group,
        "occurred_at": payload.occurred_at,
    }
    if state != DeliveryState.NONE and (payload.gateway_id or parties.is_own):
        return ParsedEvent(EventKind.STATE, state=state, recipient=parties.recipient or parties.sender, **common)
    session_word = next((word for word in payload.status_words if _spelled(word) in _SESSION_WORDS), "")
    if session_word and not parties.sender:
        return ParsedEvent(EventKind.SESSION, session_status=session_word, **common)
    if not says_something:
        return None
    if parties.is_own:
        return ParsedEvent(EventKind.OWN, recipient=parties.recipient, **common)
    if not (parties.sender or payload.chat):
        return None
    return ParsedEvent(
        EventKind.INCOMING,
        sender=parties.sender,
        sender_is_certain=parties.is_certain,
        notes="" if parties.is_certain else _UNCERTAIN,
        **common,
    )


_UNCERTAIN = (
    "The number may be the linked phone's own: this gateway's field for it is ambiguous, and the license's number is "
    "not known yet."
)


def _parties(payload: Fields, linked_number: str) -> _Parties:
    """Tell the linked phone from the customer.

    `sender` is the customer at one gateway and the linked phone at another, so the license's own number decides.
    """
    own = linked_number or payload.device_number
    from_, sender, to = payload.from_number, payload.sender_number, payload.to_number
    if payload.is_group:
        from_, sender = payload.member_number or from_, ""
    others = [number for number in (to, from_, sender) if number and number != own]
    is_own = payload.is_own
    if is_own is not True and own and _comes_from(own, payload, from_, sender):
        is_own = True
    if is_own:
        return _Parties(own, own, "" if payload.is_group else next(iter(others), ""), True)
    writers = [number for number in (from_, sender) if number and number != own]
    is_ambiguous = bool(sender) and (len(set(writers)) > 1 or not (own or from_ == sender))
    return _Parties(own, next(iter(writers), ""), "", is_own, not is_ambiguous)


def _comes_from(own: str, payload: Fields, from_: str, sender: str) -> bool:
    """Whether a payload that does not say so, or denies it, is a message of the linked phone all the same."""
    if from_ == own:
        # A field that names the conversation may hold the linked phone where `sender` is the customer.
        return not (sender and sender != own and (payload.is_own is False or not payload.has_from))
    return sender == own and not from_


_STATES = {
    DeliveryState.PENDING: "pending queued clock 0",
    DeliveryState.SENT: "sent server server_ack ack_server 1",
    DeliveryState.DELIVERED: "delivered delivery device delivery_ack ack_device 2",
    DeliveryState.READ: "read seen viewed played ack_read ack_played 3 4",
    DeliveryState.FAILED: "failed failure error undelivered ack_error -1",
}
_STATE_OF = {word: state for state, words in _STATES.items() for word in words.split()}
_SESSION_WORDS = frozenset(
    {
        "qr", "scan", "scan_qr", "ready", "open", "close", "closed", "connect", "connected", "connecting", "disconnect",
        "disconnected", "authenticated", "auth_failure", "login", "logged_in", "logout", "logged_out", "loggedout",
        "online", "offline", "unpaired", "timeout", "banned",
    }
)  # fmt: skip


def _spelled(word: str) -> str:
    return word if _is_number(word) else re.sub(r"[\s\-]+", "_", word.strip().lower())


def _state(payload: Fields, parties: _Parties, says_something: bool) -> DeliveryState:
    """What the payload says of a message of ours.

    A customer's message may carry a status too: an acknowledgement's number of its own, or a word of an API's answer.
    """
    words = payload.status_words
    if says_something and not parties.is_own:
        if parties.is_own is False or payload.has_from:
            return DeliveryState.NONE
        words = [word for word in words if not _is_number(word)]
    return next((_STATE_OF[spelled] for word in words if (spelled := _spelled(word)) in _STATE_OF), DeliveryState.NONE)


def _is_number(word: str) -> bool:
    return word.lstrip("-").isdigit()
