"""Which of a gateway's message ids were acted on, and by which event: what came before is known again in any envelope.

Not part of `WebhookEvent`: one event may tell of several messages. No foreign keys, so that a row waits for nobody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from django.db import models
from django.views.decorators.debug import sensitive_variables

from .clock import DatabaseNow, write_alias
from .waiting import brief_transaction


class SeenId(models.Model):
    # Over the license, what the id is used for, and the id: gateways' ids may be long, and MySQL minds no case.
    digest = models.CharField(max_length=64, unique=True)
    event_id = models.BigIntegerField()
    message_id = models.BigIntegerField(null=True)
    seen_at = models.DateTimeField()

    class Meta:
        default_permissions = ()
        indexes = [
            models.Index(fields=["seen_at"], name="kpwa_seen_at"),
            models.Index(fields=["message_id"], name="kpwa_seen_message"),
        ]

    def __str__(self) -> str:
        return self.digest


@dataclass(frozen=True)
class Seen:
    """Who was the first to act on an id: an event, and the message that it moved, where it is one of ours."""

    event_id: int
    message_id: int | None


def seen_digest(license_id: int, use: str, *parts: str) -> str:
    """SHA-256 by which an id is known; `use` keeps apart what it is used for."""
    lengths = ":".join(str(len(part)) for part in parts)
    return hashlib.sha256(f"{license_id}:{use}:{lengths}:{''.join(parts)}".encode("utf-8", "surrogatepass")).hexdigest()


def find_seen(digests: Collection[str]) -> dict[str, Seen]:
    """Those of `digests` that were acted on before."""
    rows = SeenId.objects.using(write_alias()).filter(digest__in=digests)
    return {
        digest: Seen(event_id, message_id)
        for digest, event_id, message_id in rows.values_list("digest", "event_id", "message_id")
    }


@sensitive_variables()
def claim_seen(event_id: int, claims: Sequence[tuple[str, int | None]]) -> dict[str, Seen]:
    """Claim digests for an event, each with its message; returns whose each is, which may be an earlier one's.

    Of several at once that claim one, one has it: the column is unique.
    """
    using = write_alias()
    # In one order everywhere, so that two who claim the same ones never wait for each other.
    wanted = dict(sorted(claims))
    rows = [
        SeenId(digest=digest, event_id=event_id, message_id=message_id, seen_at=DatabaseNow())
        for digest, message_id in wanted.items()
    ]
    with brief_transaction(using):
        SeenId.objects.using(using).bulk_create(rows, ignore_conflicts=True)
    return find_seen(wanted)
