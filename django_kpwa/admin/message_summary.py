"""A message in one line: its recipient and the beginning of its text."""

from __future__ import annotations

from django.db.models import QuerySet
from django.db.models.functions import Substr
from django.utils.text import Truncator
from django.utils.translation import gettext

from .. import phone
from ..models import OutboundMessage, RecipientType

_START_CHARACTERS = 80


def starts_of(messages: QuerySet[OutboundMessage]) -> QuerySet[OutboundMessage]:
    """Return `messages` for a list: they load only the beginnings of their texts, which `first_line_of()` needs."""
    return messages.defer("text", "reason_words").annotate(text_start=Substr("text", 1, _START_CHARACTERS + 1))


def first_line_of(message: OutboundMessage) -> str:
    """Return the first line of the text of a message from `starts_of()`, cut if it is long."""
    start = str(getattr(message, "text_start", "")).strip()
    if not start:
        return instead_of_text(message) or gettext("(an image)")
    # Without WhatsApp's formatting marks around it.
    return Truncator(start.splitlines()[0].strip("*_~` ")).chars(_START_CHARACTERS)


def instead_of_text(message: OutboundMessage) -> str:
    """Return what is shown instead of a text that is rendered only when it is sent; empty if there is a text."""
    return gettext("(written when it is sent)") if message.needs_rendering else ""


def recipient_of(message: OutboundMessage) -> str:
    """Return the recipient for display: the formatted number, or the group's name."""
    if message.recipient_type == RecipientType.GROUP:
        return gettext("%(name)s (group)") % {"name": message.recipient}
    return phone.written(message.recipient)
