"""Gives a waiting message its text, just before its first claim, outside any transaction."""

from __future__ import annotations

import logging
from datetime import datetime

from .. import signals
from ..models import DatabaseNow, OutboundMessage, Status, write_alias
from ..rendering import Rendered, Withdrawn, masked_traceback, render, words_of
from .announce import announce

logger = logging.getLogger("django_kpwa.dispatch")


def render_message(message_id: int, due_at: datetime) -> None:
    """Render and store a message's text, or cancel it, or fail it with the reason.

    Its due time has been moved forward already, so that a template that hangs cannot block its lane. With its text it
    takes its place at `due_at` again: it is the next to go, and the text of no other is written before that.
    """
    using = write_alias()
    message = OutboundMessage.objects.using(using).get(pk=message_id)
    unrendered = OutboundMessage.objects.using(using).filter(pk=message_id, status=Status.QUEUED, rendered_at=None)
    try:
        rendered = render(message)
        if isinstance(rendered, Rendered) and not (rendered.text.strip() or rendered.image_url):
            raise ValueError("it rendered to nothing: neither text nor image")
    except Exception as error:
        logger.error("The text of message %s could not be rendered: %s", message_id, masked_traceback(error))
        words = words_of(error)
        if unrendered.update(status=Status.FAILED, reason="render_error", reason_words=words, settled_at=DatabaseNow()):
            announce(signals.message_failed, (message_id,))
        return
    if isinstance(rendered, Withdrawn):
        if unrendered.update(
            status=Status.CANCELLED, reason="withdrawn", reason_words=rendered.reason, settled_at=DatabaseNow()
        ):
            announce(signals.message_cancelled, (message_id,))
        return
    unrendered.update(text=rendered.text, image_url=rendered.image_url, rendered_at=DatabaseNow(), due_at=due_at)
