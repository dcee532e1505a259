"""A webhook's body as text: as it came, and where it is JSON also laid out for reading."""

from __future__ import annotations

import json
from dataclasses import dataclass

from django.utils.translation import ngettext

from ...models import WebhookEvent

_BYTES_SHOWN = 64 * 1024
_DEEPEST = 100
"""Deeper nesting would indent megabytes of white space."""


@dataclass(frozen=True)
class Body:
    """What is shown of a body. `pretty` is empty where it is no JSON; `left_out` says what was not shown."""

    raw: str
    size: int
    pretty: str = ""
    left_out: str = ""


def body_of(event: WebhookEvent) -> Body:
    """The body of `event`, cut where it is long."""
    body = bytes(event.body)
    shown = body[:_BYTES_SHOWN]
    # A cut may go through a character, which is then shown as its bytes.
    raw = shown.decode("utf-8", "backslashreplace").replace("\x00", "\\x00")
    left_out = len(body) - len(shown)
    return Body(raw, len(body), "" if left_out else _pretty(body), _left_out(left_out))


def _pretty(body: bytes) -> str:
    """`body` as indented JSON, with what its `\\u…` stand for; empty where it is none, or too deep to be read."""
    try:
        content = json.loads(body.decode("utf-8-sig"))
        if not isinstance(content, (dict, list)) or _depth(body) > _DEEPEST:
            return ""
        text = json.dumps(content, indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        # ValueError: not JSON, not UTF-8, or a number of thousands of digits.
        return ""
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\u0000")


def _depth(body: bytes) -> int:
    """How deep it may be nested, brackets within texts counted too."""
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
