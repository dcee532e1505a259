"""Reads the fields of a webhook under the many names that gateways of this family give them.

- Case, underscores, dashes and spaces in a name are ignored: `phone_no` is the same as `phoneNo`.
- A field deeper in a payload (`data.message_id`) takes precedence over one further out.
- A customer's text is never parsed, even if it is JSON. Otherwise a customer could forge fields.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import cache, cached_property, lru_cache
from typing import Any, NamedTuple

from ..phone import number_of
from .payloads import MAX_EVENTS, Budget, TooMuchError, read_json_object

_MAX_DEPTH = 10
_MAX_TEXT, _MAX_WORDS = 65_536, 2000
# Names of the objects that hold an event's fields, or some of them. The names for quoted, forwarded or answered
# messages are missing on purpose, because their fields belong to another message.
_INNER = (
    "data", "payload", "value", "message", "msg", "body", "key", "id", "result", "info", "event", "update", "receipt",
    "text", "content", "messagesource", "vote", "senderdata", "messagedata", "textmessagedata",
    "extendedtextmessagedata", "filemessagedata", "editedmessagedata", "extendedtextmessage", "imagemessage",
    "videomessage", "documentmessage", "audiomessage", "reaction", "action", "jsondata",
)  # fmt: skip
# WhatsApp's own wrappers: disappearing chats, view-once messages, documents with a caption, edits.
WRAPPERS = (
    "ephemeralmessage", "viewoncemessage", "viewoncemessagev2", "viewoncemessagev2extension",
    "documentwithcaptionmessage", "devicesentmessage", "editedmessage", "protocolmessage", "lottiestickermessage",
    "groupmentionedmessage", "botinvokemessage", "associatedchildmessage", "templatemessage", "hydratedtemplate",
)  # fmt: skip
_PARTS = tuple(dict.fromkeys((*_INNER, *WRAPPERS)))
# Only texts under these names are parsed as JSON, because forms carry objects in this way. "message" must not be added:
# its text is what a customer wrote.
_INNER_AS_TEXT = ("data", "payload", "jsondata")
_LISTS = ("data", "payload", "messages", "events", "statuses", "acks", "ack", "entry", "changes", "receipts", "updates")
_LISTS_IN = ("data", "payload", "value", "event", "body")

_IDS = (
    "keyid", "messageid", "idmessage", "inboxid", "msgid", "serialized", "whatsappmessageid", "waid", "stanzaid",
    "messagesid", "smsmessagesid", "id",
)  # fmt: skip
_SURE_IDS = ("keyid", "messageid", "idmessage", "inboxid", "msgid", "stateid", "whatsappmessageid", "zaapid", "gsid")
_ID_LISTS = ("ids", "messageids", "msgids", "idmessages")
# Values that programs write for a missing id.
_NO_IDS = {"", "null", "undefined", "none", "nil", "nan", "false", "true"}
# whatsapp-web.js: true_6281234567890@c.us_3EB0C767D26A8D8E1B2F (own, chat, id), in a group followed by the member.
_SERIALIZED = re.compile(r"(true|false)_([^_\s]{1,100})_([^_\s]{1,100})(?:_[^\s]{1,100})?", re.IGNORECASE)

_TEXTS = (
    "messagebody", "messagetext", "textmessage", "msgtext", "editedtext", "newbody", "message", "body", "text",
    "conversation", "caption", "msg", "content", "emoji",
)  # fmt: skip
_FROM = (
    "from", "phone", "phoneno", "phonenumber", "number", "remotejid", "chatid", "jid", "fromnumber", "fromphone",
    "senderphone", "chat", "waid", "source", "user",
)  # fmt: skip
# Names of fields that give the number for which a `…@lid` in another field stands.
_ALTERNATIVES = (
    "remotejidalt", "senderpn", "senderphone", "senderphonenumber", "senderalt", "cleanedsenderpn", "participantalt",
    "participantpn", "participantphone", "chatpn", "chatalt", "remotejidpn", "frompn", "phonenumber", "senderid",
)  # fmt: skip
# Names of fields that give the `…@lid` which stands for a number in another field.
_HIDDEN_CHATS = ("remotejidalt", "remotejidlid", "chatalt", "chatlid")
_HIDDEN_SENDERS = ("senderlid", "senderalt", "fromlid", "lid")
_TO_ALTERNATIVES = ("remotejidalt", "recipientalt", "recipientpn", "recipientphone", "topn", "chatpn", "chatid")
_TO = (
    "to", "recipient", "recipientid", "receiver", "receivernumber", "target", "destination", "tonumber", "tophone",
)  # fmt: skip
_MEMBERS = (
    "member", "participant", "author", "participantalt", "participantpn", "participantphone", "senderpn", "senderalt",
    "senderphone", "senderphonenumber",
)  # fmt: skip
_OWN_FLAGS = ("isfromme", "fromme", "isme", "owner")
_DIRECTIONS = ("self", "flow", "direction")
# Names of fields for the session's status. A payload about a message may have one in addition to the message's status.
SESSION_STATES = tuple(
    f"{of}{what}"
    for of in ("session", "connection", "instance", "account", "device", "license")
    for what in ("status", "state")
)
# These may hold the session as an object with its status.
_SESSION_OBJECTS = ("session", "instance", "connection", "account", "device")
_STATES = (
    "messagestatus", "deliverystatus", "statusstring", "receipttype", "status", "state", "ack", "ackname", "acktype",
    "messageack", "stateinstance", "statusinstance", *SESSION_STATES, *_SESSION_OBJECTS,
)  # fmt: skip
# If a status is an object, its word is under one of these names.
_STATES_IN = ("status", "state", "ack", "value", "name", "code")
_TIMES = (
    "timestamp", "messagetimestamp", "time", "t", "momment", "moment", "datetime", "date", "createdat", "sentat",
    "receivedat",
)  # fmt: skip
# Names of the reason why a message was not delivered, the plainest first. The values may be objects or lists. Baileys
# reports WhatsApp's code in `messageStubParameters`. `text` and `message` must not be added: they may hold the shop's
# own text.
_REASONS = (
    "errormessage", "errordescription", "failurereason", "failreason", "failedreason", "errortext", "errors", "error",
    "failure", "reason", "statusreason", "messagestubparameters", "details", "detail",
)  # fmt: skip
_CODES = ("errorcode", "statuscode", "code")
_LOWEST_ERROR = 300
"""Lowest code that is an error. Lower ones are HTTP statuses of a success, or numbers of ticks."""
_REASONS_IN = ("message", "title", "description", "reason", "details", "code")
_MAX_REASONS = 3
_MEDIA = (
    "mediaurl", "imageurl", "audiourl", "videourl", "documenturl", "stickerurl", "downloadurl", "fileurl", "mediaurl0",
    "media", "image", "file", "url", "attachment", "link", "video", "audio", "voice", "document", "sticker",
)  # fmt: skip
_GROUPS = ("groupname", "group", "subject")
_EVENT_NAMES = ("event", "eventname", "eventtype", "datatype", "typewebhook", "webhooktype", "hook", "type", "action")
_DEVICES = ("device", "connectedphone", "displayphonenumber", "wuid", "wid", "me", "devicenumber", "devicephone")
_DEVICE_HOLDERS = ("me", "device", "instancedata", "metadata")

# Names of flags that report a restriction: one of chats with people who have not written (Baileys), or any other.
_NEW_CHATS_FLAGS = ("reachouttimelock", "reachouttimelocked", "isreachouttimelocked")
_RESTRICTION_FLAGS = ("isrestricted", "restricted", "accountrestriction", "restriction")
_IS_ACTIVE = ("isactive", "active", "isrestricted", "enabled")

_NOT_IN_NAMES = re.compile(r"[_\-\s]")
_TRUE, _FALSE = ("true", "1", "yes", "out", "outbound", "outgoing"), ("false", "0", "no", "in", "inbound", "incoming")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


def words_of(text: str) -> list[str]:
    """Split a name or a text at capitals and separators, and return its words in lower case."""
    return [word.lower() for word in _WORDS.findall(text)]


def _is_flag(text: str) -> bool:
    """True if the value of a field such as `error` is only a flag, and not a reason."""
    return text.lower() in (*_TRUE, *_FALSE)


def _is_no_error(code: str) -> bool:
    return code.lstrip("-").isdigit() and int(code) < _LOWEST_ERROR


def is_group_jid(value: str) -> bool:
    """True for WhatsApp's address of a group."""
    return value.strip().lower().endswith("@g.us")


class Scope(NamedTuple):
    """One object of a payload, and the name under which it was found."""

    name: str
    values: dict[str, Any]


def fields_of(content: dict[str, Any], budget: Budget) -> list[Fields]:
    """Return the fields of each event in `content`: usually one event, several if `content` holds lists of them.

    Raises `TooMuchError` if the payload exceeds what is left in `budget`.
    """
    return list(_events(_renamed(content, budget), (), 0, budget))


class Fields:
    """One event's fields by their meaning.

    `scopes`: the objects that hold the fields, deepest first. A text that the payload does not have is empty. Numbers
    are in digits, with the country code.
    """

    def __init__(self, scopes: list[Scope], budget: Budget) -> None:
        self.scopes = scopes
        self._budget = budget

    @cached_property
    def ids(self) -> list[str]:
        """The ids of the event's message, likeliest first. The envelope's id counts only if the message has none."""
        found = []
        for scope in self.scopes:
            if scope.values.keys().isdisjoint(_set_of(_IDS)):
                continue
            plain = [_id_of(scope.values.get(name)) for name in _IDS]
            found = [name for name in plain if name]
            if found:
                break
        sure = [_id_of(values[name]) for values, name in self._places(_SURE_IDS)]
        ids = list(dict.fromkeys([*found, *(name for name in sure if name)]))
        inner = [match[3] for name in ids if (match := _SERIALIZED.fullmatch(name))]
        every = list(dict.fromkeys([*ids, *inner]))
        # Some gateways write 0 for a missing id. It is kept only if there is no other id, and matches no message.
        return [name for name in every if name != "0"] or every

    @cached_property
    def listed_ids(self) -> list[str]:
        """The ids of several messages for which one event reports the same state. Raises `TooMuchError`."""
        for values, name in self._places(_ID_LISTS):
            listed = values[name]
            if isinstance(listed, list) and listed:
                if len(listed) > MAX_EVENTS:
                    raise TooMuchError(f"It contains more than {MAX_EVENTS} events.")
                return list(dict.fromkeys(found for item in listed if (found := _id_of(item))))
        return []

    @cached_property
    def text(self) -> str:
        """The message's text or caption. A JID is skipped, because it is an address and no text."""
        return next((text for text in self.texts(_TEXTS, _MAX_TEXT) if not _is_jid(text)), "")

    @property
    def media_url(self) -> str:
        """The first URL from which the media can be downloaded."""
        return next((url for url in self._media_texts() if _is_fetchable(url)), "")

    @cached_property
    def occurred_at(self) -> str:
        """The gateway's time of the event, as it was written."""
        return self._text(_TIMES)

    @property
    def failure_words(self) -> str:
        """The reason why a message was not delivered, with its code, as the payload states them."""
        code = next((code for code in self.texts(_CODES) if not _is_no_error(code)), "")
        for values, name in self._places(_REASONS):
            words = self._reason(values[name])
            if words and not _is_flag(words):
                return f"{words}, {code}"[:_MAX_WORDS] if code and code not in words else words[:_MAX_WORDS]
        return code

    def _reason(self, held: Any) -> str:
        if isinstance(held, list) and not isinstance(next(iter(held), None), dict):
            return ", ".join(filter(None, map(as_text, held[:_MAX_REASONS])))
        if isinstance(held, list):
            held = held[0]
        if not isinstance(held, dict):
            return as_text(held)
        inner = self.renamed(held)
        said = [text for part in _REASONS_IN if (text := as_text(inner.get(part)))]
        return ", ".join(dict.fromkeys([*said[:1], *said[-1:]]))

    @cached_property
    def status_words(self) -> list[tuple[str, str]]:
        """Every status in the payload, as pairs of the field's name and its word (or acknowledgement number)."""
        found = (self._status(name, values[name]) for values, name in self._places(_STATES))
        return [(name, word) for name, text in found if (word := text[:100].strip())]

    def _status(self, name: str, held: Any) -> tuple[str, str]:
        if isinstance(held, list):
            held = next(iter(held), None)
        if not isinstance(held, dict):
            # A text under one of these names is the session's name or id, not its status.
            return name, "" if name in _SESSION_OBJECTS and name != "connection" else as_text(held)
        inner = self.renamed(held)
        if name in _SESSION_OBJECTS:
            return SESSION_STATES[0], as_text(inner.get("status")) or as_text(inner.get("state"))
        return name, next((text for part in _STATES_IN if (text := as_text(inner.get(part)))), "")

    @cached_property
    def receipt_times(self) -> list[str]:
        """The names of the receipt times that are set. Baileys' receipts report a state only by its time."""
        names = ("readtimestamp", "playedtimestamp", "receipttimestamp")
        return [name for values, name in self._places(names) if as_text(values[name]) not in ("", "0")]

    @cached_property
    def is_own(self) -> bool | None:
        """True if the payload says that the message is the site's own; None if it does not say whose it is."""
        flag = self._flag(_OWN_FLAGS)
        if flag is None:
            flag = self._flag(_DIRECTIONS)
        if flag is None:
            serialized = next((match for name in self.ids if (match := _SERIALIZED.fullmatch(name))), None)
            flag = None if serialized is None else serialized[1].lower() == "true"
        return flag

    @property
    def has_from(self) -> bool:
        """True if the payload has the field `from` itself, which names an author rather than a conversation."""
        return bool(self._text(("from",)))

    @property
    def has_conversation(self) -> bool:
        """True if the payload names a chat deeper than `sender`. In this case `sender` may be the linked phone."""
        return self._depth_of(("remotejid", "chatid", "chat", "from"), jids=True) < self._depth_of(("sender",))

    @cached_property
    def from_number(self) -> str:
        """The number of the author or the conversation. For a `…@lid`, the number that is given beside it."""
        return self._number(_FROM) or self._number(_ALTERNATIVES)

    @property
    def sender_number(self) -> str:
        """The number in the field `sender`."""
        return self._number(("sender",))

    @cached_property
    def to_number(self) -> str:
        """The number of the addressee."""
        return self._number(_TO) or self._number(_TO_ALTERNATIVES)

    @property
    def member_number(self) -> str:
        """The number of a group's member who wrote the message."""
        return self._number(_MEMBERS)

    @property
    def device_number(self) -> str:
        """The number of the linked phone, if the payload names it as such."""
        held = (
            number
            for values, name in self._places(_DEVICE_HOLDERS)
            if isinstance(holder := values[name], dict)
            for inner in ("id", "phone", "wid", "display_phone_number", "number")
            if (number := number_of(as_text(holder.get(inner))))
        )
        return self._number(_DEVICES) or next(held, "")

    @cached_property
    def is_group(self) -> bool:
        """True if the chat is a group."""
        return self._flag(("isgroup", "isgroupmsg")) is True or is_group_jid(self.chat)

    @property
    def group(self) -> str:
        """The group's name, if the chat is a group."""
        return next((name for name in self.texts(_GROUPS) if "@" not in name), "") if self.is_group else ""

    @cached_property
    def chat(self) -> str:
        """The group's JID, or else a `…@lid`. The latter stands for a number that WhatsApp does not disclose."""
        of_chat = (*_FROM, "sender")
        # In a customer's message the shop is the addressee; in a message of its own it is the sender.
        other = (
            *(() if self.is_own is False else _TO),
            "remote",
            *_HIDDEN_CHATS,
            *(() if self.is_own else _HIDDEN_SENDERS),
        )
        group = next(filter(is_group_jid, self._jids((*of_chat, *_TO, "group", "groupid", "remote"))), "")
        return group or next((jid for jid in self._jids((*of_chat, *other)) if jid.lower().endswith("@lid")), "")

    def _jids(self, names: tuple[str, ...]) -> Iterator[str]:
        return (value for text in self.texts(names) for value in _places_in(text) if "@" in value)

    @property
    def is_broadcast(self) -> bool:
        """True for a status ("story") or a post in a channel. Neither is addressed to the shop."""
        places = self.texts((*_FROM, "sender", *_TO))
        return any(place.lower().endswith(("@broadcast", "@newsletter")) for place in places)

    @cached_property
    def event_name(self) -> str:
        """The envelope's name for the event."""
        for scope in reversed(self.scopes):
            for name in _EVENT_NAMES:
                value = scope.values.get(name)
                if isinstance(value, dict) and isinstance(value.get("type"), str):
                    value = value["type"]
                if isinstance(value, str) and value and (name != "type" or scope is self.scopes[-1]):
                    return value[:100]
        return ""

    @cached_property
    def event_words(self) -> frozenset[str]:
        """The words of `event_name` in lower case: the same for `messageReceived` and `message.received`."""
        return frozenset(words_of(self.event_name))

    @property
    def restriction_flag(self) -> bool | None:
        """True if a flag reports a restriction of the number by WhatsApp, False if one reports its end, else None.

        Only a false flag for new chats reports the end, because any status may contain a false flag of a broader name.
        """
        for names, says in ((_NEW_CHATS_FLAGS, (True, False)), (_RESTRICTION_FLAGS, (True,))):
            for values, name in self._places(names):
                held = values[name]
                if isinstance(held, dict):
                    inner = self.renamed(held)
                    held = next((inner[part] for part in _IS_ACTIVE if part in inner), None)
                if isinstance(held, str) and held.lower() in ("true", "false"):
                    held = held.lower() == "true"
                if isinstance(held, bool) and held in says:
                    return held
        return None

    @property
    def names_a_session(self) -> bool:
        """True if the payload has a field for the session or device that it is about."""
        return any(
            name in scope.values for scope in self.scopes for name in ("session", "instance", "sessionid", "device")
        )

    def value(self, name: str) -> Any:
        """Return the deepest value under `name` that is not None; None if there is none."""
        return next((scope.values[name] for scope in self.scopes if scope.values.get(name) is not None), None)

    def texts(self, names: tuple[str, ...], max_length: int = _MAX_WORDS) -> Iterator[str]:
        """Yield the texts under `names`, deepest first, each cut to `max_length` characters.

        Without the cut, an envelope's long text would be read anew for each of its five hundred events.
        """
        for values, name in self._places(names):
            if text := as_text(values[name]):
                yield text[:max_length]

    def _places(self, names: tuple[str, ...]) -> Iterator[tuple[dict[str, Any], str]]:
        """Yield each object that has one of `names`, with that name, deepest first."""
        # Most names are absent, so this must be cheap. `isdisjoint()` of a view iterates over the smaller of the two
        # sets, and an object may have tens of thousands of names.
        wanted = _set_of(names)
        for scope in self.scopes:
            if not scope.values.keys().isdisjoint(wanted):
                yield from ((scope.values, name) for name in names if name in scope.values)

    def renamed(self, content: dict[str, Any]) -> dict[str, Any]:
        """Return `content` with its names spelled as in `scopes`. Raises `TooMuchError` if too many were visited."""
        return _renamed(content, self._budget)

    def _media_texts(self) -> Iterator[str]:
        yield from self.texts(_MEDIA)
        for values, name in self._places(_MEDIA):
            held = values[name]
            if isinstance(held, dict):
                inner = self.renamed(held)
                yield from (text for part in _MEDIA if (text := as_text(inner.get(part))))

    def _text(self, names: tuple[str, ...]) -> str:
        return next(self.texts(names), "")

    def _number(self, names: tuple[str, ...]) -> str:
        places = (place for text in self._place_texts(names) for place in _places_in(text))
        return next((number for place in places if (number := number_of(place))), "")

    def _place_texts(self, names: tuple[str, ...]) -> Iterator[str]:
        for values, name in self._places(names):
            value = values[name]
            if isinstance(value, dict):
                # {"sender": {"id": "6281…@c.us"}}, {"chatId": {"_serialized": …}}
                inner = (value.get(part) for part in ("phone", "_serialized", "id", "jid", "user"))
                yield from (text for item in inner if (text := as_text(item)))
            elif text := as_text(value):
                yield text[:_MAX_WORDS]

    def _depth_of(self, names: tuple[str, ...], *, jids: bool = False) -> int:
        for depth, scope in enumerate(self.scopes):
            values = [scope.values[name] for name in names if name in scope.values]
            if any("@" in text or not jids for value in values if (text := as_text(value))):
                return depth
        return len(self.scopes)

    def _flag(self, names: tuple[str, ...]) -> bool | None:
        for values, name in self._places(names):
            value = values[name]
            word = str(value)[:10].lower() if isinstance(value, (bool, str)) else as_text(value)
            if word in (*_TRUE, *_FALSE):
                return word in _TRUE
        return None


def _events(outer: dict[str, Any], around: tuple[Scope, ...], depth: int, budget: Budget) -> Iterator[Fields]:
    """Yield one `Fields` for each object in the lists of events that `outer` holds; without lists, one for `outer`."""
    lists = [name for name in _LISTS if _is_list_of_objects(outer.get(name))] if depth < _MAX_DEPTH else []
    rest = {name: value for name, value in outer.items() if name not in lists} if lists else outer
    if lists:
        for name in lists:
            for item in outer[name]:
                yield from _events(_renamed(item, budget), (Scope(name, rest), *around), depth + 1, budget)
        return
    if depth < _MAX_DEPTH:
        for name in _LISTS_IN:
            inner = outer.get(name)
            if isinstance(inner, str) and name in _INNER_AS_TEXT:
                inner = read_json_object(inner, budget)
            if isinstance(inner, dict):
                renamed = _renamed(inner, budget)
                if any(_is_list_of_objects(renamed.get(part)) for part in (*_LISTS, *_LISTS_IN)) or any(
                    isinstance(renamed.get(part), dict) for part in ("data", "value") if name != "data"
                ):
                    rest = {key: value for key, value in outer.items() if key != name}
                    yield from _events(renamed, (Scope(name, rest), *around), depth + 1, budget)
                    return
    name = around[0].name if around else ""
    budget.spend_event()
    yield Fields([*_scopes(name, outer, depth, budget), *around], budget)


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _scopes(name: str, outer: dict[str, Any], depth: int, budget: Budget) -> Iterator[Scope]:
    """Yield `outer` and the objects in it, deepest first."""
    if depth < _MAX_DEPTH:
        for part in _PARTS if not outer.keys().isdisjoint(_set_of(_PARTS)) else ():
            inner = outer.get(part)
            if isinstance(inner, str) and part in _INNER_AS_TEXT:
                inner = read_json_object(inner, budget)
            if isinstance(inner, dict):
                renamed = _renamed(inner, budget)
                if part in ("protocolmessage", "reaction", "action"):
                    # These objects name another message, for example the one reacted to. Its ids are not this event's.
                    about = ("key", "messageid", "id", "msgid", "stanzaid")
                    renamed = {key: value for key, value in renamed.items() if key not in about}
                yield from _scopes(part, renamed, depth + 1, budget)
    yield Scope(name, outer)


def _renamed(content: dict[str, Any], budget: Budget) -> dict[str, Any]:
    budget.spend_node()
    return {_spelled(name) if len(name) <= 100 else _spelled(name[:100]): value for name, value in content.items()}


@lru_cache(maxsize=4096)
def _spelled(name: str) -> str:
    return _NOT_IN_NAMES.sub("", name).lower()


@cache
def _set_of(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(names)


def _places_in(text: str) -> list[str]:
    """Return the addresses in a text.

    go-whatsapp writes `6281…@s.whatsapp.net in 1203…@g.us`, Twilio writes `whatsapp:+6281…`.
    """
    return [part.strip().removeprefix("whatsapp:") for part in text[:300].split(" in ")]


def _is_jid(text: str) -> bool:
    return len(text) < 100 and text.endswith(("@c.us", "@s.whatsapp.net", "@g.us", "@lid")) and " " not in text


def _is_fetchable(url: str) -> bool:
    """True for an HTTP URL that is not one of WhatsApp's own files, which only the phone can decrypt."""
    return url.startswith(("https://", "http://")) and "//mmg.whatsapp.net/" not in url[:40]


def _id_of(value: Any) -> str:
    if isinstance(value, dict):
        return ""
    text = as_text(value)[:1000].strip()
    return "" if text.lower() in _NO_IDS else text[:255]


def as_text(value: Any) -> str:
    """Return a text or a number as text; an empty text for any other value.

    A boolean is no number here, because `"status": true` is not a status.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return ""
    if isinstance(value, int):
        return str(value) if abs(value) < 10**40 else ""
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return ""
