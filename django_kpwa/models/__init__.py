"""The tables. Configuration: `License`. State: `Lane`. The outbox: `OutboundMessage`, `SendAttempt`."""

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured

# Django's own error would name a model that the developer does not know. Importing `django_kpwa.urls` or
# `django_kpwa.outbox` ends here as well.
if apps.apps_ready and not apps.is_installed("django_kpwa"):
    raise ImproperlyConfigured(
        "django-kpwa is used, but it is not installed in this site: add 'django_kpwa' to INSTALLED_APPS, then run "
        "`manage.py migrate`."
    )

from .alert import Alert, Telling
from .database import DatabaseNow, in_seconds, outbox_key, write_alias
from .lane import ENDED_BY_STATUS, HELD_BY_PEOPLE, Lane, PauseReason
from .license import Dashboard, License, WebhookToken
from .message import (
    ARRIVED,
    FORGOTTEN_TEXT,
    LIVE,
    NOT_HURRIED,
    NOT_KEPT,
    NOT_REGISTERED,
    NUMBER_FORGOTTEN,
    RENDER_ERROR,
    RESENDABLE,
    UNSETTLED,
    WITHDRAWN,
    HoldReason,
    KeptKey,
    OutboundMessage,
    OutboundMessageQuerySet,
    Priority,
    RecipientType,
    SendAttempt,
    Status,
    idempotency_digest,
)
from .receipt_failure import FailureCause, ReceiptFailure, RegisteredReceipt
from .receipt_look import ReceiptLook
from .recipient import FORGOTTEN, Recipient, Registration, StopReason
from .source import (
    MAX_DATABASE_LENGTH,
    MAX_REFERENCE_LENGTH,
    ExactCharField,
    about,
    content_types,
    database_of,
    exact_collation,
    is_saved,
    name_by_key,
    source_id_of,
    stored_name,
    types_of,
)
from .statistics import HISTOGRAM_SECONDS, SILENT_SECONDS, STRANGERS, Heartbeat, HourlyStatistic
from .webhook_event import NOT_UNDERSTOOD, EventKind, EventStatus, SeenId, WebhookEvent, body_digest

__all__ = [
    "ARRIVED",
    "ENDED_BY_STATUS",
    "FORGOTTEN",
    "FORGOTTEN_TEXT",
    "HELD_BY_PEOPLE",
    "HISTOGRAM_SECONDS",
    "LIVE",
    "MAX_DATABASE_LENGTH",
    "MAX_REFERENCE_LENGTH",
    "NOT_HURRIED",
    "NOT_KEPT",
    "NOT_REGISTERED",
    "NOT_UNDERSTOOD",
    "NUMBER_FORGOTTEN",
    "RENDER_ERROR",
    "RESENDABLE",
    "SILENT_SECONDS",
    "STRANGERS",
    "UNSETTLED",
    "WITHDRAWN",
    "Alert",
    "Dashboard",
    "DatabaseNow",
    "EventKind",
    "EventStatus",
    "ExactCharField",
    "FailureCause",
    "Heartbeat",
    "HoldReason",
    "HourlyStatistic",
    "KeptKey",
    "Lane",
    "License",
    "OutboundMessage",
    "OutboundMessageQuerySet",
    "PauseReason",
    "Priority",
    "ReceiptFailure",
    "ReceiptLook",
    "Recipient",
    "RecipientType",
    "RegisteredReceipt",
    "Registration",
    "SeenId",
    "SendAttempt",
    "Status",
    "StopReason",
    "Telling",
    "WebhookEvent",
    "WebhookToken",
    "about",
    "body_digest",
    "content_types",
    "database_of",
    "exact_collation",
    "idempotency_digest",
    "in_seconds",
    "is_saved",
    "name_by_key",
    "outbox_key",
    "source_id_of",
    "stored_name",
    "types_of",
    "write_alias",
]
