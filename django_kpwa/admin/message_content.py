"""A message as the admin shows it: in one line, and as a timeline from the queue to the customer's answer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from django.db.models import QuerySet
from django.db.models.functions import Substr
from django.utils.text import Truncator, capfirst
from django.utils.translation import gettext

from .. import phone
from ..formatting import date_and_second
from ..models import RESENDABLE, EventKind, OutboundMessage, RecipientType, SendAttempt, Status, WebhookEvent
from ..words import CAUSES, OUTCOMES, STATUSES, Mark, Tone, Words
from .event_content import content_of

MAX_ATTEMPTS = 50
MAX_ANSWERS = 10
_START_CHARACTERS = 200
_LINE_CHARACTERS = 48
# What WhatsApp shows as bold, italic and so on: `*KS-000005*`.
_MARKED = re.compile(r"(?<!\w)([*_~`])(\S(?:.*?\S)?)\1(?!\w)")


def starts_of(messages: QuerySet[OutboundMessage]) -> QuerySet[OutboundMessage]:
    """Return `messages` for a list: they load only the beginnings of their texts, which `first_line_of()` needs."""
    return messages.defer("text", "reason_words").annotate(text_start=Substr("text", 1, _START_CHARACTERS + 1))


def first_line_of(message: OutboundMessage, repeated: Container[str] = ()) -> str:
    """Return the first line that says something of a message from `starts_of()`, cut if it is long.

    Lines that are `repeated` are skipped, unless the beginning of the text has no others.
    """
    lines = _lines_of(message)
    if not lines:
        return instead_of_text(message) or gettext("(an image)")
    return Truncator(next((line for line in lines if line not in repeated), lines[0])).chars(_LINE_CHARACTERS)


def lines_repeated_in(messages: Iterable[OutboundMessage]) -> set[str]:
    """Return the lines with which several different texts among `messages` begin: a shop's name and address, mostly."""
    texts = {tuple(_lines_of(message)) for message in messages}
    found = Counter(line for lines in texts for line in set(lines))
    return {line for line, times in found.items() if times > 1}


def _lines_of(message: OutboundMessage) -> list[str]:
    """The visible lines at the beginning of a text, without rules of dashes and WhatsApp's formatting marks."""
    start = str(getattr(message, "text_start", ""))
    if len(start) > _START_CHARACTERS and "\n" in start:
        start = start.rpartition("\n")[0]  # the last line is cut in the middle
    lines = (_MARKED.sub(r"\2", line).strip("*_~` \t\r") for line in start.split("\n"))
    return [line for line in lines if any(character.isalnum() for character in line)]


def instead_of_text(message: OutboundMessage) -> str:
    """Return what is shown instead of a text that is rendered only when it is sent; empty if there is a text."""
    return gettext("(written when it is sent)") if message.needs_rendering else ""


def recipient_of(message: OutboundMessage) -> str:
    """Return the recipient for display: the formatted number, or the group's name."""
    if message.recipient_type == RecipientType.GROUP:
        return gettext("%(name)s (group)") % {"name": message.recipient}
    return phone.written(message.recipient)


@dataclass(frozen=True)
class Moment:
    """Something that happened to a message.

    `quote` is what the gateway (`is_gateways`) or the customer said. `details` are technical facts as label and value.
    `until` is the end of an attempt. `event_id` is the primary key of the webhook event.
    """

    at: datetime
    mark: Mark
    cause: Words = ""
    quote: str = ""
    is_gateways: bool = False
    details: tuple[tuple[str, str], ...] = ()
    until: datetime | None = None
    event_id: int | None = None

    @property
    def time(self) -> str:
        return date_and_second(self.at)


def timeline_of(message: OutboundMessage) -> list[Moment]:
    """Return the moments of `message`, oldest first.

    They include at most its last `MAX_ATTEMPTS` attempts and the customer's first `MAX_ANSWERS` answers.
    """
    moments = [Moment(message.created_at, Mark(Tone.NEUTRAL, "+", gettext("Queued"))), *_own_times(message)]
    moments += [_of_attempt(attempt) for attempt in _attempts(message)]
    moments += [_of_answer(event) for event in _answers(message)]
    return sorted(moments, key=lambda moment: moment.at)


def _own_times(message: OutboundMessage) -> Iterator[Moment]:
    if message.rendered_at is not None:
        yield Moment(message.rendered_at, Mark(Tone.NEUTRAL, "✎", gettext("Text written")))
    if message.changed_at is not None:
        words = gettext("Checked again before it was written")
        yield Moment(message.changed_at, Mark(Tone.ATTENTION, "⇄", words), cause=message.changed_words)
    for at, status in (
        (message.sent_at, Status.SENT),
        (message.delivered_at, Status.DELIVERED),
        (message.read_at, Status.READ),
    ):
        if at is not None:
            yield Moment(at, _began(status))
    if message.settled_at is not None and message.status in RESENDABLE and message.status != Status.UNKNOWN:
        yield Moment(message.settled_at, _began(message.status))
    if message.dismissed_at is not None:
        yield Moment(message.dismissed_at, Mark(Tone.NEUTRAL, "–", gettext("Left as it is")))


def _began(status: str) -> Mark:
    """The mark of a status, with its label as the beginning of a sentence, as the other moments have theirs."""
    row = STATUSES[status]
    return Mark(row.tone, row.symbol, capfirst(str(row.label)))


def _attempts(message: OutboundMessage) -> list[SendAttempt]:
    attempts = SendAttempt.objects.filter(message_id=message.pk)
    return list(attempts.order_by("-number")[:MAX_ATTEMPTS])


def _of_attempt(attempt: SendAttempt) -> Moment:
    mark = OUTCOMES[attempt.outcome]
    words = gettext("Attempt %(number)s: %(outcome)s") % {"number": attempt.number, "outcome": mark.label}
    details = (
        (gettext("HTTP status"), str(attempt.http_status or "")),
        (gettext("code"), attempt.code),
        (gettext("the gateway's id"), attempt.gateway_id),
        (gettext("number as the gateway read it"), attempt.read_as),
    )
    return Moment(
        attempt.started_at,
        replace(mark, label=words),
        cause=CAUSES[attempt.cause].label if attempt.cause else "",
        quote=attempt.words,
        is_gateways=True,
        details=tuple((name, value) for name, value in details if value),
        until=attempt.finished_at,
    )


def _answers(message: OutboundMessage) -> list[WebhookEvent]:
    """Return the first messages that the customer wrote to the license after `message` was sent."""
    if message.sent_at is None or message.recipient_type != RecipientType.NUMBER:
        return []
    events = WebhookEvent.objects.filter(
        sender_number=message.recipient,
        received_at__gte=message.sent_at,
        license=message.license_id,
        kind=EventKind.INCOMING,
    )
    return list(events.order_by("received_at").only("received_at", "understood")[:MAX_ANSWERS])


def _of_answer(event: WebhookEvent) -> Moment:
    understood = event.understood if isinstance(event.understood, dict) else {}
    text = str(understood.get("text") or "") or content_of(understood) or gettext("(no text)")
    words = gettext("The customer wrote")
    return Moment(event.received_at, Mark(Tone.WAITING, "↩", words), quote=text, event_id=event.pk)
