"""The texts about a webhook event's status."""

from __future__ import annotations

from dataclasses import replace

from django.utils.translation import gettext_lazy as _

from ..models import EventKind, EventStatus, WebhookEvent
from .rows import NOTHING_TO_DO, UNKNOWN_CODE, UPDATE, EventRow, Table, Tone

EVENT_STATUSES = Table[EventRow](
    {
        EventStatus.PENDING: EventRow(
            Tone.WAITING,
            "◷",
            label=EventStatus.PENDING.label,
            meaning=_("It was stored and waits for a worker."),
            advice=_("“Process again” processes it right now."),
            report=_("It waits for a worker."),
        ),
        EventStatus.PROCESSED: EventRow(
            Tone.GOOD,
            "✓",
            label=EventStatus.PROCESSED.label,
            meaning=_("It was understood and processed."),
            advice=NOTHING_TO_DO,
            report=_("Processed."),
        ),
        EventStatus.UNMATCHED: EventRow(
            Tone.NEUTRAL,
            "–",
            label=EventStatus.UNMATCHED.label,
            meaning=_("It is about a message, but it matches no message of this license."),
            advice=_("The search is repeated for an hour; the message may also have been sent by hand."),
            report=_("Understood, but it matches no message."),
        ),
        EventStatus.UNRECOGNISED: EventRow(
            Tone.ATTENTION,
            "?",
            label=EventStatus.UNRECOGNISED.label,
            meaning=_("It was not understood, so nothing was done. It is kept as received."),
            advice=_("Once the site can read such events, press “Process again”."),
            report=_("Still not understood."),
        ),
        EventStatus.FAILED: EventRow(
            Tone.BAD,
            "✕",
            label=EventStatus.FAILED.label,
            meaning=_("Reading it raised an error."),
            advice=_("Once that is fixed, press “Process again”."),
            report=_("It could not be processed; its page shows why."),
        ),
    },
    otherwise=EventRow(Tone.NEUTRAL, "?", label="", meaning=UNKNOWN_CODE, advice=UPDATE, report=UNKNOWN_CODE),
)
_WROTE = replace(
    EVENT_STATUSES[EventStatus.PROCESSED], meaning=_("A customer wrote."), advice=_("Answer on the shop's own phone.")
)


def event_row(event: WebhookEvent) -> EventRow:
    """Return the row of the event's status; a processed message of a customer has a row of its own."""
    if event.status == EventStatus.PROCESSED and event.kind == EventKind.INCOMING:
        return _WROTE
    return EVENT_STATUSES[event.status]
