"""A message's text as WhatsApp shows it: *bold*, _italic_, ~struck~, `code`, ```monospace``` and links.

The rules are those of the sandbox's page (`sandbox/static/formatting.js`). Everything that was written is escaped; only
the few elements made here are markup, and only http(s) addresses become links.
"""

from __future__ import annotations

import re

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

# A bounded reach: a text of opening marks alone would else be read to its end from every one of them.
_FORMATTED = re.compile(r"(?<![^\W_])([*_~`])(?=\S)([^\n]{0,1000}?\S)\1(?![^\W_])")
_LINK = re.compile(r"https?://[^\s<>\"']+[^\s<>\"'.,;:!?)]")
_ELEMENTS = {"*": "<strong>{}</strong>", "_": "<em>{}</em>", "~": "<s>{}</s>", "`": "<code>{}</code>"}
_DEEPEST = 4
"""Each element is within another; nobody means more of them, and a hostile text could hold thousands."""


def wa_html(text: str) -> SafeString:
    """Safe HTML of `text`; its line breaks are for `white-space: pre-wrap`."""
    parts = text.replace("\r\n", "\n").split("```")
    shown = []
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
    """A block stands on lines of its own: the line breaks beside it would show as empty lines."""
    if after:
        text = text.removeprefix("\n")
    return text.removesuffix("\n") if before else text


def _inline(text: str, depth: int = 0) -> SafeString:
    shown, end = [], 0
    for found in _FORMATTED.finditer(text) if depth < _DEEPEST else ():
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
    """A link that tells the other site nothing of this one; what is no http(s) address stays text."""
    if not re.match(r"https?://", address):
        return format_html("{}", address)
    return format_html('<a href="{0}" target="_blank" rel="noopener noreferrer nofollow">{0}</a>', address)
