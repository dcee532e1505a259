"""A message's text in a bubble, formatted like in WhatsApp: *bold*, _italic_, ~struck~, `code`, ```monospace```, links.

`admin/django_kpwa/bubble.html` renders it with `message.css`. The formatting follows the same rules as the sandbox's
page (`sandbox/static/formatting.js`). All message text is escaped: the only markup is the elements that this module
adds, and only http(s) addresses become links.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from ..models import ARRIVED, OutboundMessage, Status
from ..words import Mark, status_row

_NOTHING = SafeString("")
# The length is bounded: otherwise a text of nothing but opening marks takes quadratic time, because the search would
# scan to the end of the text from each mark.
_FORMATTED = re.compile(r"(?<![^\W_])([*_~`])(?=\S)([^\n]{0,1000}?\S)\1(?![^\W_])")
_LINK = re.compile(r"https?://[^\s<>\"']+[^\s<>\"'.,;:!?)]")
_ELEMENTS = {"*": "<strong>{}</strong>", "_": "<em>{}</em>", "~": "<s>{}</s>", "`": "<code>{}</code>"}
_MAX_DEPTH = 4
"""Maximum nesting of elements. No real message needs more, and a hostile text could nest hundreds."""


@dataclass(frozen=True)
class Bubble:
    """One bubble. `ticks` is the delivery status shown beside the time; `instead` is shown if there is no text."""

    text: SafeString = field(default=_NOTHING, repr=False)
    image: SafeString = _NOTHING
    """The image's address as text or link, never as `<img>`: loading it would reveal the viewer to its server."""
    at: datetime | None = None
    ticks: Mark | None = None
    is_read: bool = False
    is_incoming: bool = False
    instead: str = ""


def bubble_of(message: OutboundMessage, instead: str = "") -> Bubble:
    """Return the bubble of a message that this site sent; `instead` is shown if the message has no text."""
    return Bubble(
        text=_NOTHING if message.is_forgotten else wa_html(message.text),
        image=image_link(message.image_url),
        at=message.sent_at or message.created_at,
        ticks=status_row(message) if message.status in ARRIVED else None,
        is_read=message.status == Status.READ,
        instead=instead,
    )


def image_link(url: str) -> SafeString:
    """Return a link to an image's address; empty if there is no image."""
    return link_to(url) if url else _NOTHING


def wa_html(text: str) -> SafeString:
    """Return `text` as safe HTML. It keeps its line breaks, so it has to be shown with `white-space: pre-wrap`."""
    parts = text.replace("\r\n", "\n").split("```")
    shown = []
    # Parts with an odd index follow an opening ```. They are code only if a closing ``` follows; a ``` that is never
    # closed is text.
    for index, part in enumerate(parts):
        is_closed = index < len(parts) - 1
        if index % 2 and is_closed:
            shown.append(format_html("<pre>{}</pre>", part.removeprefix("\n").removesuffix("\n")))
        elif index % 2:
            shown.append(_inline("```" + part))
        else:
            shown.append(_inline(_trimmed_beside_blocks(part, after=index > 0, before=is_closed)))
    return format_html_join("", "{}", ((part,) for part in shown))


def _trimmed_beside_blocks(text: str, *, after: bool, before: bool) -> str:
    """Remove the line breaks next to a `<pre>` block, which starts new lines itself: they would show as empty lines."""
    if after:
        text = text.removeprefix("\n")
    return text.removesuffix("\n") if before else text


def _inline(text: str, depth: int = 0) -> SafeString:
    shown, end = [], 0
    for found in _FORMATTED.finditer(text) if depth < _MAX_DEPTH else ():
        marker, inside = found.groups()
        shown.append(_linked(text[end : found.start()]))
        content = format_html("{}", inside) if marker == "`" else _inline(inside, depth + 1)
        shown.append(format_html(_ELEMENTS[marker], content))
        end = found.end()
    shown.append(_linked(text[end:]))
    return format_html_join("", "{}", ((part,) for part in shown))


def _linked(text: str) -> SafeString:
    shown, end = [], 0
    for found in _LINK.finditer(text):
        shown += [format_html("{}", text[end : found.start()]), link_to(found.group())]
        end = found.end()
    shown.append(format_html("{}", text[end:]))
    return format_html_join("", "{}", ((part,) for part in shown))


def link_to(address: str) -> SafeString:
    """Return a link to `address` that sends no referrer. Anything but an http(s) address is returned as plain text."""
    if not re.match(r"https?://", address):
        return format_html("{}", address)
    return format_html('<a href="{0}" target="_blank" rel="noopener noreferrer nofollow">{0}</a>', address)
