"""Changes of messages whose text is written by a receipt just before they are sent."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.views.decorators.debug import sensitive_variables

from ..models.database import DatabaseNow, in_seconds
from ..models.license import License
from ..models.message import RENDER_ERROR, WITHDRAWN, OutboundMessage, OutboundMessageQuerySet, Status
from .base import StoreBase


class Texts(StoreBase):
    """Stores the result of rendering a message. `message` is the message as it was read before its rendering began.

    If the row has changed since, for example because another driver has begun a rendering, the methods with a result
    change nothing and return False.
    """

    @sensitive_variables()
    def store_text(
        self, message: OutboundMessage, *, text: str, image_url: str, due_at: datetime, changed: dict[str, Any]
    ) -> bool:
        """Store the text, and move the message back to its place in the queue.

        `due_at`: that place, see `Unrendered`. `changed`: further columns that the rendering has determined again.
        """
        columns = {"text": text, "image_url": image_url, "rendered_at": DatabaseNow(), "renderings_begun": 0}
        return bool(_as_read(message).update(**columns, due_at=due_at, reason="", reason_words="", **changed))

    def give_unrendered(
        self, message: OutboundMessage, license_: License, due_at: datetime, changed: dict[str, Any]
    ) -> bool:
        """Give the message to another license, whose lane then has the text written.

        The other arguments are as for `store_text()`.
        """
        return bool(_as_read(message).update(license=license_, due_at=due_at, **changed))

    def postpone_rendering(self, message: OutboundMessage, words: str, wait_seconds: float | None) -> bool:
        """Leave the message queued, with the reason in `words`, and make it due in `wait_seconds`.

        If `wait_seconds` is None, it stays where it was moved when the rendering began.
        """
        waits = {} if wait_seconds is None else {"due_at": in_seconds(wait_seconds)}
        return bool(_as_read(message).update(**waits, reason=RENDER_ERROR, reason_words=words))

    def keep_fingerprint(self, message: OutboundMessage, fingerprint: str) -> None:
        """Store the fingerprint of the row that the message is about now, even if it was queued for another."""
        OutboundMessage.objects.filter(pk=message.pk).update(source_fingerprint=fingerprint)

    def fail_unrendered(self, message: OutboundMessage, words: str) -> bool:
        """Make the message `failed`, because its text cannot be written, with the reason in `words`."""
        return _settle(message, Status.FAILED, RENDER_ERROR, words)

    def withdraw_unrendered(self, message: OutboundMessage, words: str) -> bool:
        """Make the message `cancelled`, because its receipt is no longer wanted, with the reason in `words`."""
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
