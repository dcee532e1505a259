"""`ParsedEvent`, one thing that a payload reports, and the parsers that read payloads.

The gateway's payloads are not documented, so `DefaultParser` knows the field names that gateways of this family use. A
site that has seen real payloads can name its own `Parser` in `KPWA["WEBHOOK_PARSER"]`. Every parser must pass
`tests/contract/parser_case.py`. Above all, a parser must never take a message of the site's own for a customer's.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import Any

from ..contents import storable
from ..gateway import session_trouble_of
from ..models import EventKind
from ..phone import number_of
from .fields import SESSION_STATES, Fields, fields_of, words_of
from .kinds import Content
from .payloads import MAX_EVENTS, MAX_IDS, MAX_TEXT, Budget, TooMuchError, read_payload

_MAX_LENGTHS = {"text": 65_536, "media_url": 2000, "notes": 1000}


class DeliveryState(str, Enum):
    """A delivery state that the gateway reports for a message of the site's own."""

    NONE = ""
    PENDING = "pending"
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    FAILED = "failed"


@dataclass(frozen=True, repr=False)
class ParsedEvent:
    """One thing that a payload reports. Numbers are digits with the country code, or empty if unknown.

    Texts are changed so that they can be stored: characters that databases refuse are replaced, and texts that are too
    long are cut. Raises `TypeError` for a field of the wrong type, so that a site's own parser fails visibly.
    """

    kind: EventKind
    gateway_id: str = ""
    other_ids: tuple[str, ...] = ()
    """Further ids of the same message: a gateway may use its own id beside WhatsApp's."""
    sender: str = ""
    """The author of an incoming message; in a group, the member."""
    recipient: str = ""
    """The recipient of a message of the site's own, even if only its state is reported; empty for a group."""
    chat: str = ""
    """The chat, if the payload does not name it by a number: a group's JID, or a `…@lid`."""
    own_number: str = ""
    """The number of the linked phone, if the payload names it."""
    text: str = ""
    media_url: str = ""
    content: str = ""
    """The kind of a message: `text`, `image`, `video`, `voice`, `audio`, `document`, `sticker`, `location`, `contact`,
    `button` or `list` (an answer), `reaction`, `poll`, `poll_vote`, `edit`, `other`; empty if unknown."""
    is_own: bool | None = None
    """True if the message is the site's own; None if the payload does not say."""
    is_group: bool = False
    group: str = ""
    """The group's name."""
    state: DeliveryState = DeliveryState.NONE
    state_words: str = ""
    """For the state `failed`: why the message was not delivered, in the gateway's words."""
    session_status: str = ""
    """In a session event: the gateway's word for the status of the session."""
    restricts: bool | None = None
    """In a session event: True if it reports a restriction of the number by WhatsApp, False if it reports its end."""
    occurred_at: str = ""
    """The gateway's own time, as it was written."""
    sender_is_certain: bool = True
    """False if the payload names several numbers, or only one in a field that may hold the linked phone."""
    notes: str = ""
    """A remark for the person who looks at the event."""

    def __post_init__(self) -> None:
        if not isinstance(self.kind, EventKind) or not isinstance(self.state, DeliveryState):
            raise TypeError("kind must be an EventKind and state a DeliveryState.")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("kind", "state"):
                continue
            if field.name == "other_ids":
                if not (isinstance(value, tuple) and all(isinstance(other, str) for other in value)):
                    raise TypeError("other_ids must be a tuple of str.")
                object.__setattr__(self, field.name, tuple(storable(other, 255) for other in value))
                continue
            if isinstance(field.default, str):
                if not isinstance(value, str):
                    raise TypeError(f"{field.name} must be a str, not {type(value).__name__}.")
                object.__setattr__(self, field.name, storable(value, _MAX_LENGTHS.get(field.name, 255)))
            elif not isinstance(value, bool) and value is not field.default:
                raise TypeError(f"{field.name} must be a bool, not {type(value).__name__}.")

    def __repr__(self) -> str:
        # Error reports print this. It must show neither numbers nor the text of a customer.
        return f"<ParsedEvent {self.kind.value or 'unknown'} {self.state.value}>"

    def as_json(self) -> dict[str, Any]:
        """Return the event as plain JSON values, which every database can store."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        plain |= {"kind": self.kind.value, "state": self.state.value, "other_ids": list(self.other_ids)}
        return plain

    @property
    def gateway_ids(self) -> tuple[str, ...]:
        """All ids of the message, the likeliest first. A 0 is left out, because some gateways write it for no id."""
        return tuple(dict.fromkeys(name for name in (self.gateway_id, *self.other_ids) if name not in ("", "0")))


class Unread(list[ParsedEvent]):
    """The empty result of a parser that could not read anything, with the `reason` that is shown on the event."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


def why_too_much(parts: Sequence[ParsedEvent]) -> str:
    """Return the limit that `parts` exceed, as a sentence to show; empty if they exceed none."""
    if len(parts) > MAX_EVENTS:
        return f"It contains more than {MAX_EVENTS} events."
    if sum(len(part.gateway_ids) for part in parts) > MAX_IDS:
        return f"It names more than {MAX_IDS} ids."
    if sum(_size(part) for part in parts) > MAX_TEXT:
        return f"Its texts have more than {MAX_TEXT} characters."
    return ""


def _size(part: ParsedEvent) -> int:
    return sum(len(value) for field in fields(part) if isinstance(value := getattr(part, field.name), str))


class Parser(ABC):
    """The base class of parsers. One instance may be used for many webhooks and by several threads."""

    @abstractmethod
    def parse(self, body: bytes, content_type: str, *, linked_number: str) -> list[ParsedEvent]:
        """Return what `body` reports; an empty list if it is not understood.

        `body` and the header `content_type` are passed as they were received. `linked_number` is the license's own
        number in digits; it is empty if not known yet. An implementation that also takes the argument
        `content_encoding=""` is given that header.

        An exception raised here is shown on the event. The event is kept and can be processed again.
        """


class DefaultParser(Parser):
    """Reads the payloads that are common in this family of gateways. Never raises an exception."""

    def parse(
        self, body: bytes, content_type: str, *, linked_number: str, content_encoding: str = ""
    ) -> list[ParsedEvent]:
        budget = Budget()
        try:
            contents = read_payload(body, content_type, content_encoding, budget)
            return _within_bounds(_events(contents, number_of(linked_number), budget))
        except TooMuchError as error:
            return Unread(str(error))


def _within_bounds(events: Iterator[ParsedEvent]) -> list[ParsedEvent]:
    """Return the events as a list. Raises `TooMuchError` if they exceed a limit.

    They are counted while they are read, so that memory never holds much more than the limits allow.
    """
    read: list[ParsedEvent] = []
    size = 0
    for event in events:
        read.append(event)
        size += _size(event)
        if len(read) > MAX_EVENTS or size > MAX_TEXT:
            raise TooMuchError(why_too_much(read))
    if why_not := why_too_much(read):
        raise TooMuchError(why_not)
    return read


def _events(contents: list[dict[str, Any]], own_number: str, budget: Budget) -> Iterator[ParsedEvent]:
    if len(contents) > MAX_EVENTS:
        raise TooMuchError(f"It contains more than {MAX_EVENTS} events.")
    for content in contents:
        for payload in fields_of(content, budget):
            event = _event(payload, own_number)
            if event is None:
                continue
            yield event
            for other in payload.listed_ids if event.kind == EventKind.STATE else ():
                if other not in event.gateway_ids:
                    yield replace(event, gateway_id=other, other_ids=())


@dataclass(frozen=True, repr=False)
class _Parties:
    """The parties of a payload, as numbers.

    `is_own`: True if the message is the site's own; None if the payload does not show whose it is.
    `is_certain`: False if `sender` may be the linked phone instead of the customer.
    """

    own: str
    sender: str
    recipient: str
    is_own: bool | None
    is_certain: bool = True


# Words in the names of events, grouped by what the event is about.
_MESSAGE_WORDS = frozenset({"message", "messages", "msg", "ack", "acks", "onack", "onmessage", "receipt", "chat"})
_OTHER_WORDS = frozenset(
    {
        "call", "calls", "presence", "presences", "typing", "label", "labels", "chats", "contacts", "groups",
        "participants", "blocklist", "newsletter", "community", "history",
    }
)  # fmt: skip
_DELETION_WORDS = frozenset({"revoked", "revoke", "delete", "deleted"})
_SESSION_EVENT_WORDS = frozenset(
    {
        "session", "connection", "instance", "qr", "qrcode", "authenticated", "disconnected", "connected", "ready",
        "logout", "logged", "pair", "paired", "pairing", "startup", "engine", "loading", "device", "connect",
        "disconnect", "stream",
    }
)  # fmt: skip


def _event(payload: Fields, linked_number: str) -> ParsedEvent | None:
    """Return the event in a payload: about the session, about a message's state, or a message.

    Returns None if the payload is about none of these.
    """
    if payload.is_broadcast:
        return None
    words = payload.event_words
    is_of_message = bool(words & _MESSAGE_WORDS)
    content = Content(payload)
    if not is_of_message and words & _OTHER_WORDS and not content.kind:
        return None
    if is_of_message and words & _DELETION_WORDS:
        return None
    parties = _parties(payload, linked_number)
    ids = payload.ids or payload.listed_ids[:1]
    common: dict[str, Any] = {
        "gateway_id": ids[0] if ids else "",
        "other_ids": tuple(ids[1:9]),
        "chat": payload.chat,
        "own_number": parties.own,
        "text": content.text,
        "media_url": content.media_url,
        "is_own": parties.is_own,
        "is_group": payload.is_group,
        "group": payload.group,
        "occurred_at": payload.occurred_at,
    }
    session_word = _session_word(payload, parties, content, is_of_message)
    restricts = None if is_of_message or ids or _names_somebody(payload, parties) else _restricts(payload)
    if session_word or restricts is not None:
        common |= {"gateway_id": "", "other_ids": ()}
        word = session_word or next((word for _, word in payload.status_words), payload.event_name)
        return ParsedEvent(EventKind.SESSION, session_status=word, restricts=restricts, **common)
    state = _state(payload, parties, content)
    if state != DeliveryState.NONE and (ids or parties.is_own):
        to_number = payload.to_number if payload.to_number != parties.own else ""
        recipient = parties.recipient or ("" if parties.is_own else parties.sender) or to_number
        why = _why_not(payload) if state == DeliveryState.FAILED else ""
        return ParsedEvent(EventKind.STATE, state=state, state_words=why, recipient=recipient, **common)
    if not content.says_something or (content.is_no_message and not content.text):
        return None
    if parties.is_own:
        return ParsedEvent(EventKind.OWN, recipient=parties.recipient, content=content.kind, **common)
    if not (parties.sender or payload.chat):
        return None
    return ParsedEvent(
        EventKind.INCOMING,
        sender=parties.sender,
        sender_is_certain=parties.is_certain,
        notes="" if parties.is_certain else _UNCERTAIN,
        content=content.kind or ("text" if content.text else ""),
        **common,
    )


_UNCERTAIN = (
    "The number may be the linked phone's own: this gateway's field for it is ambiguous, and the license's number is "
    "not known yet."
)


def _parties(payload: Fields, linked_number: str) -> _Parties:
    """Distinguish the linked phone from the customer.

    - At some gateways the field `sender` holds the customer, at others the linked phone. So the license's own number
      decides.
    - If the payload names the chat deeper than `sender`, then `sender` belongs to the envelope and is the linked phone.
    - A payload that says explicitly whose message it is (`fromMe`) is never overruled.
    """
    own = linked_number or payload.device_number
    from_, sender, to = payload.from_number, payload.sender_number, payload.to_number
    if sender and payload.has_conversation and sender != from_:
        own, sender = own or sender, ""
    if payload.is_group:
        member = payload.member_number or (sender if sender != own else "")
        from_, sender = member or from_, ""
    others = [number for number in (to, from_, sender) if number and number != own]
    is_own = _whose(payload)
    if is_own is None and own and _comes_from(own, payload, from_, sender):
        is_own = True
    if is_own:
        return _Parties(own, own, "" if payload.is_group else next(iter(others), ""), True)
    writers = [number for number in (from_, sender) if number and number != own]
    is_ambiguous = bool(sender) and (len(set(writers)) > 1 or not (own or from_ == sender))
    return _Parties(own, next(iter(writers), ""), "", is_own, not is_ambiguous)


def _whose(payload: Fields) -> bool | None:
    """True if the payload, or the name of its event, says that the message is the site's own.

    False if the payload says that it is not; None if nothing says whose it is.
    """
    is_own = payload.is_own
    words = payload.event_words
    if is_own is None and (words & {"outgoing", "outbound", "out"} or words >= {"send", "message"}):
        return True
    return is_own


def _comes_from(own: str, payload: Fields, from_: str, sender: str) -> bool:
    """True if the numbers show that the linked phone sent the message. For payloads that do not say whose it is."""
    if from_ == own:
        # `from_` may come from a field that names the conversation. That field can hold the linked phone, while
        # `sender` holds the customer.
        return not (sender and sender != own and not payload.has_from)
    return sender == own and not from_


_STATES = {
    DeliveryState.PENDING: "pending queued clock enqueued 0",
    DeliveryState.SENT: "sent server server_ack ack_server 1",
    DeliveryState.DELIVERED: "delivered delivery device delivery_ack ack_device 2",
    DeliveryState.READ: "read seen viewed played ack_read ack_played 3 4 5",
    DeliveryState.FAILED: (
        "failed failure error undelivered undeliverable not_delivered delivery_failed send_failed rejected nack gagal"
        " ack_error -1"
    ),
}
_STATE_OF: dict[str, DeliveryState] = {word: state for state, words in _STATES.items() for word in words.split()}
# The numbers in Baileys' `status`, where 0 is an error. In the `ack` of whatsapp-web.js, 0 is the clock (pending);
# those numbers are in `_STATES`. `_state_of()` chooses by the field's name.
_STATUS_NUMBERS = {
    "-1": DeliveryState.FAILED, "0": DeliveryState.FAILED, "1": DeliveryState.PENDING, "2": DeliveryState.SENT,
    "3": DeliveryState.DELIVERED, "4": DeliveryState.READ, "5": DeliveryState.READ,
}  # fmt: skip
# From the least to the most advanced, for a payload that reports several states. FAILED comes before every state that
# proves a success.
_ORDER = [
    DeliveryState.NONE, DeliveryState.PENDING, DeliveryState.FAILED, DeliveryState.SENT, DeliveryState.DELIVERED,
    DeliveryState.READ,
]  # fmt: skip
_NAMED_STATES = frozenset({"sent", "delivered", "read", "played", "seen", "viewed", "failed", "undelivered", "queued"})
# Types of receipts that do not mean that the recipient's phone has received or shown the message.
_NO_RECEIPTS = frozenset({"retry", "sender", "inactive", "read_self", "peer_msg", "history_sync", "server_error"})
_ACK_FIELDS = ("ack", "ackname", "acktype", "messageack")
_SESSION_FIELDS = ("connection", "stateinstance", "statusinstance", *SESSION_STATES)
# The word for a failure may be followed by its reason: `ERROR: 463`.
_FAILURE = re.compile(r"(?:failed|failure|error|undelivered|undeliverable)(?![a-z])")
_SESSION_WORDS = frozenset(
    {
        "qr", "scan", "scan_qr", "scan_qr_code", "qrcode", "ready", "open", "close", "closed", "connect", "connected",
        "connecting", "disconnect", "disconnected", "authenticated", "auth_failure", "login", "logged_in", "logout",
        "logged_out", "loggedout", "online", "offline", "unpaired", "unpaired_idle", "pairing", "paired", "timeout",
        "banned", "working", "starting", "stopped", "refused", "conflict", "authorized", "notauthorized",
        "not_authorized", "sleepmode", "yellowcard", "islogged", "notlogged", "inchat", "qrreadsuccess",
        "desconnectedmobile", "browserclose", "autoclosecalled",
    }
)  # fmt: skip


def _spelled(word: str) -> str:
    return word if _is_number(word) else re.sub(r"[\s\-]+", "_", word.strip()[:100].lower())


def _session_word(payload: Fields, parties: _Parties, content: Content, is_of_message: bool) -> str:
    """Return the gateway's word for the session's status; empty if the event is not about the session."""
    if is_of_message:
        return ""
    words = payload.event_words
    is_named = bool(words & _SESSION_EVENT_WORDS) or words >= {"state", "change"} or words >= {"status", "find"}
    # An event about a message may mention the session's state as well. It is not an event about the session then.
    mentioned = SESSION_STATES if payload.ids and not is_named else ()
    found = [(name, word) for name, word in payload.status_words if not _is_number(word) and name not in mentioned]
    of_session = [word for name, word in found if name in _SESSION_FIELDS]
    told = [word for name, word in found if name not in _SESSION_FIELDS]
    names_somebody = _names_somebody(payload, parties)
    known = [
        word
        for word in (*of_session, *told)
        if _spelled(word) in _SESSION_WORDS or (not names_somebody and session_trouble_of(word))
    ]
    if not known and not names_somebody and not payload.ids and (trouble := _trouble_in(payload.event_name)):
        return trouble
    if is_named:
        qr = "qr" if words & {"qr", "qrcode"} or payload.value("qr") else ""
        return next(iter([*known, *of_session, *told]), "") or qr or payload.event_name
    if content.says_something and (parties.sender or payload.chat or parties.is_own):
        return ""
    if known and (not payload.ids or payload.names_a_session):
        return known[0]
    # Such as "failed" in a payload that names a session and no message.
    if told and payload.names_a_session and not payload.ids and not parties.is_own and not content.says_something:
        return told[0]
    return of_session[0] if of_session and not payload.ids else ""


# Words that surround a problem in the name of an event, such as `session.suspended` or `account_banned`.
_AROUND_TROUBLE = frozenset(
    {
        "session", "account", "instance", "connection", "device", "license", "number", "status", "state", "update",
        "event",
    }
)  # fmt: skip


def _trouble_in(event_name: str) -> str:
    """Return the word in an event's name that reports a problem with the account; empty if there is none."""
    bare = "".join(word for word in words_of(event_name) if word not in _AROUND_TROUBLE)
    parts = (event_name, re.split(r"[.:/]", event_name)[-1], bare)
    return next(part for part in parts if session_trouble_of(part)) if session_trouble_of(bare) else ""


def _names_somebody(payload: Fields, parties: _Parties) -> bool:
    """True for an event about a customer. A customer may be blocked or restricted too, without the session being so."""
    return bool(parties.sender or parties.recipient or payload.chat)


# Words by which an event may report that WhatsApp restricts the number, or no longer does. No real payload is known. A
# text with any other word reports neither: "will be lifted" or "expires on" does not report an end.
_RESTRICTING = frozenset({"restricted", "restriction", "restrictions", "timelock", "timelocked", "reachout"})
_BEGINNING = frozenset({"restricted", "timelocked", "active", "started", "begun"})
_ENDING = frozenset(
    {
        "unrestricted", "un", "lifted", "ended", "over", "expired", "removed", "cleared", "released", "inactive", "no",
        "not", "dicabut", "berakhir", "selesai", "tidak",
    }
)  # fmt: skip
_AROUND = frozenset(
    {
        "reach", "out", "time", "lock", "account", "number", "session", "status", "state", "whatsapp", "is", "has",
        "been", "was", "now", "longer", "update", "updated", "changed", "dibatasi", "lagi", "pembatasan", "akun",
        "nomor",
    }
)  # fmt: skip


def _restricts(payload: Fields) -> bool | None:
    """True if the payload reports a restriction of the number by WhatsApp, False for its end; None for neither."""
    flag = payload.restriction_flag
    if flag is not None:
        return flag
    name = payload.event_name
    words = [word for _, word in payload.status_words if not _is_number(word)]
    told = [_restricts_by(word) for word in words] + [_restricts_by(f"{name} {word}") for word in (*words, "")]
    return next((one for one in told if one is not None), None)


def _restricts_by(text: str) -> bool | None:
    """Return what a single text reports about a restriction, like `_restricts()`."""
    words = frozenset(words_of(text))
    is_about = words & (_RESTRICTING | {"unrestricted", "dibatasi", "pembatasan"}) or words >= {"time", "lock"}
    if not is_about or not words <= _RESTRICTING | _BEGINNING | _ENDING | _AROUND:
        return None
    if words & _ENDING:
        return False
    return True if words & (_BEGINNING | {"dibatasi"}) else None


def _state(payload: Fields, parties: _Parties, content: Content) -> DeliveryState:
    """Return the most advanced delivery state that the payload reports for a message of the site's own.

    A customer's message may have a status too, such as the number of an acknowledgement, or a word from the answer of
    an API. It must not count.
    """
    says_something = content.says_something
    words = [(field, word) for field, word in payload.status_words if field not in _SESSION_FIELDS]
    if not _is_receipt(payload):
        if parties.is_own is False:
            return DeliveryState.NONE
        if says_something and not parties.is_own:
            if payload.has_from or payload.event_words & {"received", "incoming", "inbound"}:
                return DeliveryState.NONE
            words = [(field, word) for field, word in words if not _is_number(word)]
    elif content.kind == "edit" and parties.is_own is not True:
        return DeliveryState.NONE
    states: list[DeliveryState] = [
        state for field, word in words if (state := _state_of(field, word)) != DeliveryState.NONE
    ]
    states += _receipt_states(payload)
    named = [_STATE_OF[word] for word in payload.event_words & _NAMED_STATES if word in _STATE_OF]
    is_about_messages = payload.event_words & (_MESSAGE_WORDS | {"status", "callback"})
    if is_about_messages and not ("receipt" in payload.event_words and (states or _says_type(payload))):
        states += named
    if not states and not says_something:
        types = (_spelled(text) for text in payload.texts(("type",)))
        states = [_STATE_OF[word] for word in types if word in _NAMED_STATES]
    return max(states, key=_ORDER.index, default=DeliveryState.NONE)


def _state_of(field: str, word: str) -> DeliveryState:
    spelled = _spelled(word)
    if _is_number(spelled) and field not in _ACK_FIELDS:
        return _STATUS_NUMBERS.get(spelled, DeliveryState.NONE)
    return _STATE_OF.get(spelled, DeliveryState.FAILED if _FAILURE.match(spelled) else DeliveryState.NONE)


def _why_not(payload: Fields) -> str:
    """Return the payload's reason why a message was not delivered. A status with further words is a reason as well."""
    if said := payload.failure_words:
        return said
    telling = (word for _, word in payload.status_words if _spelled(word) not in _STATE_OF and not _is_number(word))
    return next((word for word in telling if _FAILURE.match(_spelled(word))), "")


def _is_receipt(payload: Fields) -> bool:
    """True if the payload is about earlier messages. In this case `fromMe` may mean who read them."""
    words = payload.event_words
    return bool(
        words & {"ack", "acks", "onack", "receipt"}
        or payload.receipt_times
        or (words & {"message", "messages"} and words & {"update", "status", "updated"})
        or (words & _NAMED_STATES and words & _MESSAGE_WORDS)
        or (payload.listed_ids and not payload.text)
        or payload.value("receipttype")
    )


def _receipt_states(payload: Fields) -> list[DeliveryState]:
    states = [
        DeliveryState.DELIVERED if name == "receipttimestamp" else DeliveryState.READ for name in payload.receipt_times
    ]
    if payload.listed_ids and "receipt" in payload.event_words and not payload.value("receipttype"):
        # whatsmeow leaves the type of a receipt empty if the message was delivered.
        type_ = payload.value("type")
        word = _spelled(type_) if isinstance(type_, str) else ""
        if isinstance(type_, str) and word not in _NO_RECEIPTS:
            states.append(DeliveryState.DELIVERED if not word else _STATE_OF.get(word, DeliveryState.NONE))
    return states


def _says_type(payload: Fields) -> bool:
    """True if a receipt has its type in an inner object. In the outermost object, `type` names the event."""
    return any("type" in scope.values for scope in payload.scopes[:-1])


def _is_number(word: str) -> bool:
    return word.lstrip("-").isdigit()
