"""What is kept of a message that was purged: by which key it is known, and when it was of which row. Neither number nor
text. Kept for ever, or a sale that is saved again would send its receipt a second time.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.db import models

from .message import OutboundMessage

NOT_KEPT = "copy:"
"""What the keys begin with that guard against a double click alone."""


class KeptKey(models.Model):
    digest = models.CharField(max_length=64)
    message_id = models.BigIntegerField()
    created_at = models.DateTimeField()
    status = models.CharField(max_length=16)
    source_fingerprint = models.CharField(max_length=64, blank=True)

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["digest"], name="kpwa_kept_once")]

    def __str__(self) -> str:
        return self.digest

    def as_message(self) -> OutboundMessage:
        """What is known of the message, which is in no table any more."""
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


def keep_keys(messages: models.QuerySet[OutboundMessage]) -> None:
    """Keep the keys of messages that are to be deleted."""
    columns = ("idempotency_digest", "pk", "created_at", "status", "source_fingerprint")
    keyed = messages.exclude(idempotency_digest=None).exclude(idempotency_key__startswith=NOT_KEPT)
    KeptKey.objects.using(messages.db).bulk_create(
        [
            KeptKey(digest=digest, message_id=message_id, created_at=at, status=status, source_fingerprint=fingerprint)
            for digest, message_id, at, status, fingerprint in keyed.values_list(*columns)
        ],
        ignore_conflicts=True,
    )


def find_kept(digests: Iterable[str], using: str) -> dict[str, OutboundMessage]:
    """What is kept of purged messages, by the digests of their keys."""
    return {kept.digest: kept.as_message() for kept in KeptKey.objects.using(using).filter(digest__in=list(digests))}
