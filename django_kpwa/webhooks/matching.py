"""Finds the message that an event tells of, and moves it forward.

By the gateway's id; a message of ours that comes back also by license, recipient and text, where exactly one message
fits. In doubt nothing is moved: a message that stays `unknown` waits for a person, one that is wrongly `sent` is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.dispatch import Signal

from .. import signals
from ..models import (
    ARRIVED,
    AttemptOutcome,
    EventKind,
    OutboundMessage,
    RecipientType,
    SendAttempt,
    Status,
    WebhookEvent,
    decisions,
    write_alias,
)
from ..models.processing import Attempt, find_attempts
from .parsers import DeliveryState, ParsedEvent

ECHO_SECONDS = 86_400.0
"""An accepted message whose own echo has not come in this time does not wait for one any more."""

_MAX_CANDIDATES = 200
_MOVES_TO = {
    DeliveryState.DELIVERED: (Status.DELIVERED, signals.message_delivered),
    DeliveryState.READ: (Status.READ, signals.message_read),
}
_PROVES_ACCEPTED = {DeliveryState.SENT, DeliveryState.DELIVERED, DeliveryState.READ}
_BEFORE = {
    Status.SENT: [Status.UNKNOWN, Status.QUEUED],
    Status.DELIVERED: [Status.UNKNOWN, Status.QUEUED, Status.SENDING, Status.SENT],
    Status.READ: [Status.UNKNOWN, Status.QUEUED, Status.SENDING, Status.SENT, Status.DELIVERED],
}


@dataclass(frozen=True)
class Finding:
    """What one part of an event did. `moved`: the signals that tell of it, in order."""

    message_id: int | None = None
    moved: tuple[Signal, ...] = ()
    is_missing: bool = False
    """It tells of a message that was not found, or that could not be moved yet."""
    may_come: bool = False
    """Looking again later may change that."""


def act(license_id: int, part: ParsedEvent, received_at: datetime) -> Finding:
    """Move the message of `license_id` that `part` tells of. Doing so again changes nothing."""
    if part.kind not in (EventKind.STATE, EventKind.OWN):
        return Finding()
    attempt = _by_gateway_id(license_id, part.gateway_id)
    if attempt is None and part.is_own:
        attempt = _by_content(license_id, part, received_at)
    if attempt is None:
        return Finding(is_missing=True, may_come=bool(part.gateway_id or part.is_own))
    if not _proves_accepted(part):
        return Finding(attempt.message_id)
    moved: list[Signal] = []
    if not _is_proven(attempt) and decisions.prove_accepted(attempt.message_id, attempt.number, part.gateway_id):
        moved.append(signals.message_sent)
    status = Status.SENT
    if part.state in _MOVES_TO:
        status, signal = _MOVES_TO[part.state]
        if decisions.advance(attempt.message_id, status):
            return Finding(attempt.message_id, (*moved, signal))
    # A send may be in flight, or just being recorded: the message moves once that is done.
    waits = OutboundMessage.objects.using(write_alias()).filter(pk=attempt.message_id, status__in=_BEFORE[status])
    may_come = waits.exists()
    return Finding(attempt.message_id, tuple(moved), is_missing=may_come, may_come=may_come)


def _is_proven(attempt: Attempt) -> bool:
    """Whether there is nothing left to prove; what has come so far does not go back."""
    return attempt.outcome == AttemptOutcome.ACCEPTED and bool(attempt.gateway_id) and attempt.status in ARRIVED


def _proves_accepted(part: ParsedEvent) -> bool:
    return part.state in _PROVES_ACCEPTED or (part.kind == EventKind.OWN and part.state != DeliveryState.FAILED)


def _by_gateway_id(license_id: int, gateway_id: str) -> Attempt | None:
    wanted = gateway_id[:255]
    if not wanted:
        return None
    return _only_message([attempt for attempt in find_attempts(license_id, wanted) if attempt.gateway_id == wanted])


def _by_content(license_id: int, part: ParsedEvent, received_at: datetime) -> Attempt | None:
    recipient_type = RecipientType.GROUP if part.is_group else RecipientType.NUMBER
    recipient = part.group if part.is_group else part.recipient
    if not recipient or not (part.text or part.media_url):
        return None
    attempts = (
        SendAttempt.objects.using(write_alias())
        .filter(
            message__license_id=license_id,
            message__recipient_type=recipient_type,
            message__recipient=recipient,
            started_at__lte=received_at,
            outcome__in=[AttemptOutcome.RUNNING, AttemptOutcome.IN_DOUBT, AttemptOutcome.ACCEPTED],
        )
        .select_related("message")
        .order_by("-pk")
    )
    fitting = [
        Attempt(attempt.message_id, attempt.number, attempt.outcome, attempt.gateway_id, attempt.message.status)
        for attempt in attempts[:_MAX_CANDIDATES]
        if attempt.message.recipient == recipient
        and _normalised(attempt.message.text) == _normalised(part.text)
        and _may_be_echoed(attempt, received_at)
    ]
    return _only_message(fitting)


def _may_be_echoed(attempt: SendAttempt, received_at: datetime) -> bool:
    """An accepted attempt competes for an echo until its own has come; then, or much later, this is another's."""
    if attempt.outcome != AttemptOutcome.ACCEPTED:
        return True
    if attempt.started_at < received_at - timedelta(seconds=ECHO_SECONDS):
        return False
    echoes = WebhookEvent.objects.using(write_alias()).filter(message_id=attempt.message_id, kind=EventKind.OWN)
    return not echoes.exists()


def _only_message(attempts: list[Attempt]) -> Attempt | None:
    """The newest of `attempts`, where all belong to one message; one that proves something before others."""
    if len({attempt.message_id for attempt in attempts}) != 1:
        return None
    open_ones = [attempt for attempt in attempts if attempt.outcome != AttemptOutcome.ACCEPTED]
    return (open_ones or attempts)[0]


def _normalised(text: str) -> str:
    return text.replace("\r\n", "\n").strip()
