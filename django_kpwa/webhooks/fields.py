"""Finds by their many names what gateways of this family write into a webhook.

Names are compared without case, underscores and dashes (`phone_no`, `phoneNo`). What stands deeper in a payload
(`data.message_id`) goes before what stands around it. A customer's text is never looked into: it may be JSON.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from ..phone import number_of
from .payloads import read_json_object

_MAX_DEPTH = 4
_MAX_ITEMS = 501
_INNER = (
    "data", "payload", "message", "msg", "body", "key", "id", "result", "info", "extendedtextmessage", "imagemessage",
)  # fmt: skip
# Of these alone is a text read as JSON: forms carry objects so. Not of "message", which a customer writes.
_INNER_AS_TEXT = ("data", "payload")
_LISTS = ("data", "messages", "events", "statuses")

_IDS = ("messageid", "idmessage", "inboxid", "msgid", "serialized", "id")
_TEXTS = ("messagebody", "message", "body", "text", "conversation", "caption", "msg")
_FROM = ("from", "phone", "phoneno", "phonenumber", "number", "remotejid", "chatid", "jid")
_TO = ("to", "recipient", "receiver", "target", "destination")
_MEMBERS = ("member", "participant", "author")
_OWN_FLAGS = ("isfromme", "fromme", "isme")
_STATES = ("messagestatus", "deliverystatus", "status", "state", "ack", "connection")
_TIMES = ("timestamp", "messagetimestamp", "time", "datetime", "date", "createdat", "sentat", "receivedat")
_MEDIA = ("mediaurl", "imageurl", "media", "image", "file", "url", "attachment")
_GROUPS = ("groupname", "group", "subject")

_NOT_IN_NAMES = re.compile(r"[_\-\s]")
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")


def is_group_jid(value: str) -> bool:
    return value.strip().lower().endswith("@g.us")


def fields_of(content: dict[str, Any]) -> list[Fields]:
    """The fields of each event in `content`: one as a rule, several where it holds a list of them."""
    outer = _renamed(content)
    for name in _LISTS:
        items = outer.get(name)
        if isinstance(items, list) and items and all(isinstance(item, dict) for item in items):
            around = {key: value for key, value in outer.items() if key != name}
            # One more than is read of a payload: enough to know that there are too many.
            return [Fields([*_scopes(_renamed(item), 1), around]) for item in items[:_MAX_ITEMS]]
    return [Fields(list(_scopes(outer, 0)))]


class Fields:
    """One event's fields, by what they mean."""

    def __init__(self, scopes: list[dict[str, Any]]) -> None:
        self._scopes = scopes

    @property
    def gateway_id(self) -> str:
        return self._text(_IDS)

    @property
    def text(self) -> str:
        return self._text(_TEXTS)

    @property
    def media_url(self) -> str:
        return next((url for url in self._texts(_MEDIA) if url.startswith(("https://", "http://"))), "")

    @property
    def occurred_at(self) -> str:
        return self._text(_TIMES)

    @property
    def status_words(self) -> list[str]:
        """The words, or numbers of an acknowledgement, that stand where a status does."""
        return list(self._texts(_STATES))

    @property
    def is_own(self) -> bool | None:
        return self._flag(_OWN_FLAGS)

    @property
    def has_from(self) -> bool:
        return bool(self._text(("from",)))

    @property
    def from_number(self) -> str:
        return self._number(_FROM)

    @property
    def sender_number(self) -> str:
        return self._number(("sender",))

    @property
    def to_number(self) -> str:
        return self._number(_TO)

    @property
    def member_number(self) -> str:
        return self._number(_MEMBERS)

    @property
    def device_number(self) -> str:
        """The linked phone, where the payload names it as such."""
        return self._number(("device",))

    @property
    def is_group(self) -> bool:
        return self._flag(("isgroup",)) is True or is_group_jid(self.chat)

    @property
    def group(self) -> str:
        """The group's name."""
        return next((name for name in self._texts(_GROUPS) if "@" not in name), "") if self.is_group else ""

    @property
    def chat(self) -> str:
        """The group's JID, or else a `…@lid`, which stands for a number that WhatsApp does not tell."""
        jids = [value for value in self._texts((*_FROM, "sender", *_TO, "group", "groupid")) if "@" in value]
        hidden = [jid for jid in jids if jid.lower().endswith("@lid")]
        return next((jid for jid in jids if is_group_jid(jid)), next(iter(hidden), ""))

    @property
    def is_broadcast(self) -> bool:
        """A status ("story") or channel post: nobody wrote to the shop."""
        places = self._texts((*_FROM, "sender", *_TO))
        return any(place.lower().endswith(("@broadcast", "@newsletter")) for place in places)

    def _texts(self, names: tuple[str, ...]) -> Iterator[str]:
        for scope in self._scopes:
            for name in names:
                text = _as_text(scope.get(name))
                if text:
                    yield text

    def _text(self, names: tuple[str, ...]) -> str:
        return next(self._texts(names), "")

    def _number(self, names: tuple[str, ...]) -> str:
        return next((number for text in self._texts(names) if (number := number_of(text))), "")

    def _flag(self, names: tuple[str, ...]) -> bool | None:
        for scope in self._scopes:
            for name in names:
                value = scope.get(name)
                word = str(value).lower() if isinstance(value, (bool, str)) else _as_text(value)
                if word in (*_TRUE, *_FALSE):
                    return word in _TRUE
        return None


def _scopes(outer: dict[str, Any], depth: int) -> Iterator[dict[str, Any]]:
    """`outer` and the objects in it, deepest first."""
    if depth < _MAX_DEPTH:
        for name in _INNER:
            inner = outer.get(name)
            if isinstance(inner, str) and name in _INNER_AS_TEXT:
                inner = read_json_object(inner)
            if isinstance(inner, dict):
                yield from _scopes(_renamed(inner), depth + 1)
    yield outer


def _renamed(content: dict[str, Any]) -> dict[str, Any]:
    return {_NOT_IN_NAMES.sub("", name[:100]).lower(): value for name, value in content.items()}


def _as_text(value: Any) -> str:
    """A scalar as text; empty for what is none. True and False are no text: `"status": true` is no status."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return ""
    if isinstance(value, int):
        return str(value) if abs(value) < 10**40 else ""
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return ""
