"""Which of a gateway's message ids were acted on, and by which event: what came before is known again in any envelope.

Not part of `WebhookEvent`: one event may tell of several messages. No foreign keys, so that a row waits for nobody.
"""

from __future__ import annotations

from django.db import models

from .database import OutboxManager


class SeenId(models.Model):
    # Over the license, what the id is used for, and the id: gateways' ids may be long, and MySQL minds no case.
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
