"""The tables. Configuration: `License`. State: `Lane`. The outbox: `OutboundMessage`, `SendAttempt`."""

from .attempt import AttemptCause, AttemptOutcome, SendAttempt
from .clock import DatabaseNow, in_seconds, write_alias
from .lane import HELD_BY_PEOPLE, Lane, PauseReason
from .license import License, WebhookToken
from .message import (
    ARRIVED,
    RESENDABLE,
    OutboundMessage,
    OutboundMessageQuerySet,
    Priority,
    RecipientType,
    Status,
    idempotency_digest,
)
from .receipt_failure import ReceiptFailure
from .screens import Dashboard, RegisteredReceipt
from .seen_id import Seen, SeenId, claim_seen, find_seen, seen_digest
from .source import is_saved
from .statistics import HISTOGRAM_SECONDS, Heartbeat, HourlyStatistic, note_alive
from .webhook_event import EventKind, EventStatus, WebhookEvent, body_digest

__all__ = [
    "ARRIVED",
    "HELD_BY_PEOPLE",
    "HISTOGRAM_SECONDS",
    "RESENDABLE",
    "AttemptCause",
    "AttemptOutcome",
    "Dashboard",
    "DatabaseNow",
    "EventKind",
    "EventStatus",
    "Heartbeat",
    "HourlyStatistic",
    "Lane",
    "License",
    "OutboundMessage",
    "OutboundMessageQuerySet",
    "PauseReason",
    "Priority",
    "ReceiptFailure",
    "RecipientType",
    "RegisteredReceipt",
    "Seen",
    "SeenId",
    "SendAttempt",
    "Status",
    "WebhookEvent",
    "WebhookToken",
    "body_digest",
    "claim_seen",
    "find_seen",
    "idempotency_digest",
    "in_seconds",
    "is_saved",
    "note_alive",
    "seen_digest",
    "write_alias",
]
