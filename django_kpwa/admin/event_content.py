"""A webhook event's content as the admin shows it: the parsed fields, and the body as received."""

from __future__ import annotations

import json
from typing import Any

from django.utils.html import format_html
from django.utils.text import Truncator
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from .. import phone
from ..formatting import date_and_time
from ..gateway import session_trouble_of
from ..models import EventKind, WebhookEvent
from ..webhooks.matching import time_of
from ..webhooks.parsers import DeliveryState
from ..words import TROUBLES, Words
from .bubble import Bubble, wa_html

MAX_PARTS = 20
"""Maximum number of parts of one payload that are shown."""
_MAX_BODY_BYTES = 64 * 1024
_MAX_DEPTH = 100
"""Maximum nesting of JSON that is shown indented; beyond that, indentation would be megabytes of white space."""

_STATES: dict[str, Words] = {
    DeliveryState.PENDING: _("not sent yet"),
    DeliveryState.SENT: _("sent"),
    DeliveryState.DELIVERED: _("delivered"),
    DeliveryState.READ: _("read"),
    DeliveryState.FAILED: _("failed"),
}

_CONTENTS: dict[str, Words] = {
    "image": _("a picture"),
    "video": _("a video"),
    "voice": _("a voice message"),
    "audio": _("an audio recording"),
    "document": _("a document"),
    "sticker": _("a sticker"),
    "location": _("a location"),
    "contact": _("a contact"),
    "button": _("a button that was pressed"),
    "list": _("a choice from a list"),
    "reaction": _("a reaction to a message"),
    "poll": _("a poll"),
    "poll_vote": _("a vote in a poll"),
    "edit": _("a message that was changed"),
    "other": _("something other than text"),
}

GIST_FIELDS = ("sender", "recipient", "text", "state", "session_status", "content")
"""The list shows the first `START_CHARACTERS` of these fields."""
START_CHARACTERS = 81


Part = tuple[list[tuple[Words, Words]], Bubble | None]
"""A part of a payload: its facts as label and value, and a bubble if it contains a text or media."""


def parts_of(event: WebhookEvent) -> tuple[list[Part], int]:
    """Return the first `MAX_PARTS` parts of `event`, and the number of further parts."""
    understood: Any = event.understood
    if not isinstance(understood, dict) or not understood:
        return [], 0
    more = understood.get("more")
    every = [understood, *(part for part in more if isinstance(part, dict))] if isinstance(more, list) else [understood]
    return [_part(fields) for fields in every[:MAX_PARTS]], max(0, len(every) - MAX_PARTS)


def gist_of(fields: dict[str, Any]) -> tuple[str, str]:
    """Return the customer's number and the beginning of the event's content; either may be empty.

    Args:
        fields: The event's `GIST_FIELDS`, whose values may be truncated to `START_CHARACTERS`.
    """
    lines = _text(fields, "text").strip().splitlines()
    what = Truncator(lines[0]).chars(START_CHARACTERS - 1) if lines else _state(fields) or content_of(fields)
    return _number(fields, "sender") or _number(fields, "recipient"), what


def content_of(fields: dict[str, Any]) -> str:
    """Return what a message contains besides text, for example "a picture"; empty if it is only text."""
    return str(_CONTENTS.get(_text(fields, "content"), ""))


def _part(fields: dict[str, Any]) -> Part:
    kind = _text(fields, "kind")
    facts: list[tuple[Words, Words]] = [
        (_("Kind"), str(EventKind(kind).label) if kind in EventKind.values else kind),
        (_("Content"), content_of(fields)),
        (_("State"), _state(fields)),
        (_("Sender"), _number(fields, "sender")),
        (_("Recipient"), _number(fields, "recipient")),
        (_("Group"), _text(fields, "group") or (_("a group without a name") if fields.get("is_group") is True else "")),
        (_("Chat"), _text(fields, "chat")),
        (_("The linked phone"), _number(fields, "own_number")),
        (_("The gateway's id"), _text(fields, "gateway_id")),
        (_("The gateway's time"), _time(fields)),
        (_("Note"), _note(fields)),
    ]
    return [(name, value) for name, value in facts if value], _bubble(fields, kind)


def _bubble(fields: dict[str, Any], kind: str) -> Bubble | None:
    text, media_url = _text(fields, "text"), _text(fields, "media_url")
    if not text and not media_url:
        return None
    # The address comes from a stranger, so it is shown but not linked: a click on it could lead anywhere.
    image = format_html("{}", media_url)
    return Bubble(text=wa_html(text), image=image, is_incoming=kind != EventKind.OWN)


def _state(fields: dict[str, Any]) -> str:
    state = _text(fields, "state")
    return str(_STATES.get(state, state)) or _session(_text(fields, "session_status"))


def _session(word: str) -> str:
    trouble = session_trouble_of(word)
    return word if trouble is None else f"{TROUBLES[trouble].label} ({word})"


def _number(fields: dict[str, Any], name: str) -> str:
    return phone.written(_text(fields, name))


def _time(fields: dict[str, Any]) -> str:
    """Return the time as the gateway wrote it; Unix time is converted to a date as well."""
    written = _text(fields, "occurred_at")
    at = time_of(written) if written.isdecimal() else None
    return f"{date_and_time(at)} ({written})" if at else written


def _note(fields: dict[str, Any]) -> str:
    if fields.get("sender_is_certain") is False:
        return gettext("The sender's number is not certain: it may be the linked phone's own.")
    return _text(fields, "notes")


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    return "" if value is None else str(value)


def body_of(event: WebhookEvent) -> dict[str, Any]:
    """Return the body of `event` as it is shown, cut to `_MAX_BODY_BYTES`.

    `size` is its full length in bytes. `pretty` is indented JSON, empty if the body is not JSON or was cut. `left_out`
    is a sentence about the bytes that are not shown, empty if there are none.
    """
    body = bytes(event.body)
    shown = body[:_MAX_BODY_BYTES]
    # The cut may split a character; its remaining bytes are then shown as escapes.
    raw = shown.decode("utf-8", "backslashreplace").replace("\x00", "\\x00")
    left_out = len(body) - len(shown)
    pretty = "" if left_out else _pretty(body)
    return {"raw": raw, "size": len(body), "pretty": pretty, "left_out": _left_out(left_out)}


def _pretty(body: bytes) -> str:
    """Return `body` as indented JSON with `\\u…` escapes decoded; empty if it is not JSON or is nested too deeply."""
    try:
        content = json.loads(body.decode("utf-8-sig"))
        if not isinstance(content, (dict, list)) or _depth(body) > _MAX_DEPTH:
            return ""
        text = json.dumps(content, indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        # ValueError: not JSON, not UTF-8, or a number with thousands of digits.
        return ""
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\u0000")


def _depth(body: bytes) -> int:
    """Return an upper bound of the nesting of `body`: brackets within strings are counted, too."""
    deepest = depth = 0
    for character in body:
        if character in b"{[":
            depth += 1
            deepest = max(deepest, depth)
        elif character in b"}]":
            depth -= 1
    return deepest


def _left_out(count: int) -> str:
    if not count:
        return ""
    return ngettext("… and %(count)s byte more", "… and %(count)s bytes more", count) % {"count": count}
