"""What becomes of a message whose text a receipt writes just before it is sent."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.views.decorators.debug import sensitive_variables

from ..models.clock import DatabaseNow, in_seconds
from ..models.license import License
from ..models.message import RENDER_ERROR, WITHDRAWN, OutboundMessage, OutboundMessageQuerySet, Status
from .base import StoreBase


class Texts(StoreBase):
    """`message` is as it was read before its text was begun; what another driver has begun since is that one's."""

    @sensitive_variables()
    def store_text(
        self, message: OutboundMessage, *, text: str, image_url: str, due_at: datetime, changed: dict[str, Any]
    ) -> bool:
        """Keep the text, and what else was asked again (`changed`, by column); the message takes its place back."""
        columns = {"text": text, "image_url": image_url, "rendered_at": DatabaseNow(), "renderings_begun": 0}
        return bool(_as_read(message).update(**columns, due_at=due_at, reason="", reason_words="", **changed))

    def give_unrendered(
        self, message: OutboundMessage, license_: License, due_at: datetime, changed: dict[str, Any]
    ) -> bool:
        """Have another license send it, which has its text written in turn."""
        return bool(_as_read(message).update(license=license_, due_at=due_at, **changed))

    def postpone_rendering(self, message: OutboundMessage, words: str, wait_seconds: float | None) -> bool:
        """Leave it waiting, with the reason in words; None: it stays where it was moved to when its text was begun."""
        waits = {} if wait_seconds is None else {"due_at": in_seconds(wait_seconds)}
        return bool(_as_read(message).update(**waits, reason=RENDER_ERROR, reason_words=words))

    def fail_unrendered(self, message: OutboundMessage, words: str) -> bool:
        """Its text cannot be written: it failed, with the reason in words."""
        return _settle(message, Status.FAILED, RENDER_ERROR, words)

    def withdraw_unrendered(self, message: OutboundMessage, words: str) -> bool:
        """Its receipt is not wanted any more, for the reason in words."""
        return _settle(message, Status.CANCELLED, WITHDRAWN, words)


def _as_read(message: OutboundMessage) -> OutboundMessageQuerySet:
    return OutboundMessage.objects.filter(
        pk=message.pk,
        status=Status.QUEUED,
        license=message.license_id,
        rendered_at=message.rendered_at,
        renderings_begun=message.renderings_begun,
    )


def _settle(message: OutboundMessage, status: Status, reason: str, words: str) -> bool:
    return bool(_as_read(message).update(status=status, reason=reason, reason_words=words, settled_at=DatabaseNow()))
