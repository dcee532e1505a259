"""What is kept of a purged message: its key's digest, its time, its status and its source's fingerprint; no number and
no text. It is kept for ever: otherwise a sale that is saved again would send its receipt a second time.
"""

from __future__ import annotations

from django.db import models

from .database import OutboxManager
from .message import OutboundMessage

NOT_KEPT = "copy:"
"""Prefix of the keys that only guard against a double click, and are not kept."""


class KeptKey(models.Model):
    digest = models.CharField(max_length=64)
    message_id = models.BigIntegerField()
    created_at = models.DateTimeField()
    status = models.CharField(max_length=16)
    source_fingerprint = models.CharField(max_length=64, blank=True)

    objects = OutboxManager()

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["digest"], name="kpwa_kept_once")]

    def __str__(self) -> str:
        return self.digest

    def as_message(self) -> OutboundMessage:
        """An unsaved message (`was_purged`) with the fields that were kept."""
        message = OutboundMessage(
            pk=self.message_id,
            idempotency_digest=self.digest,
            created_at=self.created_at,
            status=self.status,
            source_fingerprint=self.source_fingerprint,
        )
        message.was_purged = True
        message._state.adding, message._state.db = False, self._state.db
        return message
