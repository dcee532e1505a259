"""A message as the admin's lists show it: its recipient, and one line of its text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable

from django.db.models import QuerySet
from django.db.models.functions import Substr
from django.utils.text import Truncator
from django.utils.translation import gettext

from .. import phone
from ..models import OutboundMessage, RecipientType

_START_CHARACTERS = 200
_LINE_CHARACTERS = 48
# Text with WhatsApp's formatting marks (bold, italic and so on): `*KS-000005*`.
_MARKED = re.compile(r"(?<!\w)([*_~`])(\S(?:.*?\S)?)\1(?!\w)")


def starts_of(messages: QuerySet[OutboundMessage]) -> QuerySet[OutboundMessage]:
    """Return `messages` for a list, with only the beginnings of their texts, which `first_line_of()` needs."""
    return messages.defer("text", "reason_words").annotate(text_start=Substr("text", 1, _START_CHARACTERS + 1))


def first_line_of(message: OutboundMessage, repeated: Container[str] = ()) -> str:
    """Return the first meaningful line of a message from `starts_of()`, truncated if it is long.

    Lines in `repeated` are skipped, unless the beginning of the text has no others.
    """
    lines = _lines_of(message)
    if not lines or message.is_forgotten:
        return instead_of_text(message) or gettext("(an image)")
    return Truncator(next((line for line in lines if line not in repeated), lines[0])).chars(_LINE_CHARACTERS)


def lines_repeated_in(messages: Iterable[OutboundMessage]) -> set[str]:
    """Return the lines that several different texts of `messages` begin with: mostly the shop's name and address."""
    texts = {tuple(_lines_of(message)) for message in messages}
    found = Counter(line for lines in texts for line in set(lines))
    return {line for line, times in found.items() if times > 1}


def _lines_of(message: OutboundMessage) -> list[str]:
    """Return the lines at the beginning of a text, without lines of dashes only and WhatsApp's formatting marks."""
    start = str(getattr(message, "text_start", ""))
    if len(start) > _START_CHARACTERS and "\n" in start:
        start = start.rpartition("\n")[0]  # the last line is cut in the middle
    lines = (_MARKED.sub(r"\2", line).strip("*_~` \t\r") for line in start.split("\n"))
    return [line for line in lines if any(character.isalnum() for character in line)]


def instead_of_text(message: OutboundMessage) -> str:
    """Return what is shown instead of a text that is not written yet or was forgotten; empty if there is a text."""
    if message.is_forgotten:
        return gettext("(forgotten)")
    return gettext("(written when it is sent)") if message.needs_rendering else ""


def recipient_of(message: OutboundMessage) -> str:
    """Return the recipient for display: the formatted number, or the group's name."""
    if message.recipient_type == RecipientType.GROUP:
        return gettext("%(name)s (group)") % {"name": message.recipient}
    return gettext("a forgotten number") if message.is_forgotten else phone.written(message.recipient)
