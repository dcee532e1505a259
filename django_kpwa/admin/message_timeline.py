"""A message's timeline, from the queue to the customer's answer, as its page in the admin shows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from django.utils.text import capfirst
from django.utils.translation import gettext

from ..formatting import date_and_second
from ..models import RESENDABLE, EventKind, OutboundMessage, RecipientType, SendAttempt, Status, WebhookEvent
from ..words import CAUSES, OUTCOMES, STATUSES, Mark, Tone, Words, status_row
from .event_content import content_of

MAX_ATTEMPTS = 50
MAX_ANSWERS = 10


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
    if message.is_undelivered and message.undelivered_at is not None:
        mark = replace(status_row(message), label=capfirst(gettext("reported as not delivered")))
        yield Moment(message.undelivered_at, mark, quote=message.undelivered_words, is_gateways=True)
    if message.settled_at is not None and message.status in RESENDABLE and message.status != Status.UNKNOWN:
        yield Moment(message.settled_at, _began(message.status))
    if message.dismissed_at is not None:
        yield Moment(message.dismissed_at, Mark(Tone.NEUTRAL, "–", gettext("Left as it is")))


def _began(status: str) -> Mark:
    """Return the mark of a status, with its label capitalised like those of the other moments."""
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
    if message.sent_at is None or message.recipient_type != RecipientType.NUMBER or message.is_forgotten:
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
