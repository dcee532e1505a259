"""The tables. Configuration: `License`. State: `Lane`. The outbox: `OutboundMessage`, `SendAttempt`."""

from .attempt import AttemptCause, AttemptOutcome, SendAttempt
from .clock import DatabaseNow, in_seconds, write_alias
from .lane import Lane, PauseReason
from .license import License, WebhookToken
from .message import (
    ARRIVED,
    RESENDABLE,
    OutboundMessage,
    Priority,
    RecipientType,
    Status,
    idempotency_digest,
)
from .receipt_failure import ReceiptFailure
from .statistics import HISTOGRAM_SECONDS, Heartbeat, HourlyStatistic
from .webhook_event import EventKind, EventStatus, WebhookEvent, body_digest

__all__ = [
    "ARRIVED",
    "HISTOGRAM_SECONDS",
    "RESENDABLE",
    "AttemptCause",
    "AttemptOutcome",
    "DatabaseNow",
    "EventKind",
    "EventStatus",
    "Heartbeat",
    "HourlyStatistic",
    "Lane",
    "License",
    "OutboundMessage",
    "PauseReason",
    "Priority",
    "ReceiptFailure",
    "RecipientType",
    "SendAttempt",
    "Status",
    "WebhookEvent",
    "WebhookToken",
    "body_digest",
    "idempotency_digest",
    "in_seconds",
    "write_alias",
]
