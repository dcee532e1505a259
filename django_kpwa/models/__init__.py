"""The tables. Configuration: `License`. State: `Lane`. The outbox: `OutboundMessage`, `SendAttempt`."""

from .admin_pages import Dashboard, RegisteredReceipt
from .attempt import SendAttempt
from .clock import DatabaseNow, in_seconds
from .database import outbox_key, write_alias
from .kept_key import NOT_KEPT, KeptKey
from .lane import ENDED_BY_STATUS, HELD_BY_PEOPLE, Lane, PauseReason
from .license import License, WebhookToken
from .message import (
    ARRIVED,
    RENDER_ERROR,
    RESENDABLE,
    UNSETTLED,
    WITHDRAWN,
    OutboundMessage,
    OutboundMessageQuerySet,
    Priority,
    RecipientType,
    Status,
    idempotency_digest,
)
from .receipt_failure import ReceiptFailure
from .seen_id import SeenId
from .source import (
    MAX_DATABASE_LENGTH,
    ExactCharField,
    about,
    database_of,
    exact_collation,
    is_saved,
    source_id_of,
    stored_name,
    types_of,
)
from .statistics import HISTOGRAM_SECONDS, Heartbeat, HourlyStatistic
from .webhook_event import NOT_UNDERSTOOD, EventKind, EventStatus, WebhookEvent, body_digest

__all__ = [
    "ARRIVED",
    "ENDED_BY_STATUS",
    "HELD_BY_PEOPLE",
    "HISTOGRAM_SECONDS",
    "MAX_DATABASE_LENGTH",
    "NOT_KEPT",
    "NOT_UNDERSTOOD",
    "RENDER_ERROR",
    "RESENDABLE",
    "UNSETTLED",
    "WITHDRAWN",
    "Dashboard",
    "DatabaseNow",
    "EventKind",
    "EventStatus",
    "ExactCharField",
    "Heartbeat",
    "HourlyStatistic",
    "KeptKey",
    "Lane",
    "License",
    "OutboundMessage",
    "OutboundMessageQuerySet",
    "PauseReason",
    "Priority",
    "ReceiptFailure",
    "RecipientType",
    "RegisteredReceipt",
    "SeenId",
    "SendAttempt",
    "Status",
    "WebhookEvent",
    "WebhookToken",
    "about",
    "body_digest",
    "database_of",
    "exact_collation",
    "idempotency_digest",
    "in_seconds",
    "is_saved",
    "outbox_key",
    "source_id_of",
    "stored_name",
    "types_of",
    "write_alias",
]
