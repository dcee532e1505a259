"""Lets time pass in the database: whatever is stored was stored earlier."""

from __future__ import annotations

from datetime import timedelta

from django.db import models, transaction
from django.db.models import F
from django.utils import timezone

from django_kpwa.models import (
    SILENT_SECONDS,
    Alert,
    Heartbeat,
    HourlyStatistic,
    Lane,
    OutboundMessage,
    ReceiptFailure,
    ReceiptLook,
    Recipient,
    WebhookEvent,
    write_alias,
)

MOVED = (
    Alert, Heartbeat, HourlyStatistic, Lane, OutboundMessage, ReceiptFailure, ReceiptLook, Recipient, WebhookEvent,
)  # fmt: skip


def pass_time(**time: float) -> None:
    """As if everything had been stored earlier by `timedelta(**time)`. A site that is swept is swept meanwhile."""
    sweep = Heartbeat.objects.filter(name="sweep", seen_at__gt=timezone.now() - timedelta(seconds=SILENT_SECONDS))
    is_swept = sweep.exists()
    # At once, for a process that looks meanwhile.
    with transaction.atomic(using=write_alias()):
        for model in MOVED:
            fields = [f.name for f in model._meta.concrete_fields if isinstance(f, models.DateTimeField)]
            model.objects.update(**{name: F(name) - timedelta(**time) for name in fields})
        if is_swept:
            Heartbeat.objects.filter(name="sweep").update(seen_at=timezone.now())
