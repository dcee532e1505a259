"""Which message ids of a gateway were acted on, and by which event, so that a repeat is recognised although the body
around the id differs.

Not part of `WebhookEvent`, because one event may report several messages. No foreign keys, because their checks would
lock, and wait for, other rows.
"""

from __future__ import annotations

from django.db import models

from .database import OutboxManager


class SeenId(models.Model):
    # SHA-256 of the license, the use and the id (`store.events.seen_digest()`): ids may be long, and MySQL would ignore
    # their case.
    digest = models.CharField(max_length=64, unique=True)
    event_id = models.BigIntegerField()
    message_id = models.BigIntegerField(null=True)
    seen_at = models.DateTimeField()

    objects = OutboxManager()

    class Meta:
        default_permissions = ()
        indexes = [
            models.Index(fields=["seen_at"], name="kpwa_seen_at"),
            models.Index(fields=["message_id"], name="kpwa_seen_message"),
        ]

    def __str__(self) -> str:
        return self.digest
