"""Gives a waiting message its text, just before its first claim, outside any transaction.

The claim has counted this rendering and committed that, and moved the message back: a template that hangs, or that
ends its process, blocks its lane for a minute, and is not tried for ever.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError, connections
from django.utils import translation
from django.utils.translation import gettext

from .. import announce, phone
from ..conf import kpwa_settings, lease_seconds
from ..exceptions import LicenseChoiceError
from ..logs import get_logger
from ..masking import masked_traceback, words_of
from ..models import (
    DatabaseNow,
    License,
    OutboundMessage,
    Status,
)
from ..receipts.render import Addressee, Moved, Rendered, Withdrawn, render_receipt
from ..store import store
from ..wake import wake_license_on_commit
from .deadline import TookTooLongError, call_within

logger = get_logger("django_kpwa.dispatch")

MOST_RENDERINGS = 3
# Who takes this long is late for every other message of the license.
MOST_RENDER_SECONDS = 10.0
# After the first and the second that an outage stopped: one of ten minutes costs no receipt.
_WAITS_SECONDS = (60.0, 600.0)
_MOST_CHANGED = 500


def render_message(message_id: int, due_at: datetime) -> None:
    """Render and store a message's text, or cancel it, or fail it with the reason; what passes leaves it waiting.

    With the text are kept the number and the license that were asked again: who is another license's now waits there.

    With its text it takes its place at `due_at` again: it is the next to go, and the text of no other is written before
    that. Raises a task's time limit on, after it is kept that the message waits.
    """
    # With its license: what a router of the site's would read from a replica may not be there yet.
    message = OutboundMessage.objects.select_related("license").get(pk=message_id)
    if message.renderings_begun > MOST_RENDERINGS:
        logger.error("The text of message %s is given up: its writing was begun again and again.", message_id)
        _fail(message, _words_of_giving_up())
        return
    try:
        rendered = call_within(_most_seconds(), lambda: render_receipt(message))
        if isinstance(rendered, Rendered) and not (rendered.text.strip() or rendered.image_url):
            raise ValueError("it rendered to nothing: neither text nor image")
    except (Exception, TookTooLongError) as error:
        logger.error("The text of message %s could not be rendered: %s", message_id, masked_traceback(error))
        _leave_connections(error)
        words = _words_of_slowness() if isinstance(error, TookTooLongError) else words_of(error)
        if _passes(error) and message.renderings_begun < MOST_RENDERINGS:
            wait = _WAITS_SECONDS[max(message.renderings_begun, 1) - 1]
            # One that hangs has been moved back already.
            store().postpone_rendering(message, words, None if isinstance(error, TookTooLongError) else wait)
        else:
            _fail(message, words)
        if is_time_limit(error):
            raise
        return
    if isinstance(rendered, Withdrawn):
        if store().withdraw_unrendered(message, rendered.reason):
            announce.messages_became(Status.CANCELLED, [message_id])
        return
    if isinstance(rendered, Moved):
        if store().give_unrendered(message, rendered.license, due_at, _moved(message, rendered.license)):
            wake_license_on_commit(rendered.license.pk)
        return
    store().store_text(
        message,
        text=rendered.text,
        image_url=rendered.image_url,
        due_at=due_at,
        changed=_readdressed(message, rendered.to) if rendered.to is not None else {},
    )


def _readdressed(message: OutboundMessage, to: Addressee) -> dict[str, Any]:
    numbers = {"before": phone.mask(message.recipient), "after": phone.mask(to.digits)}
    with translation.override(settings.LANGUAGE_CODE):
        words = gettext("The number was %(before)s, and is now %(after)s.") % numbers
    return {"recipient": to.digits, "recipient_typed": to.typed, **_changed(message, words)}


def _moved(message: OutboundMessage, license_: License) -> dict[str, Any]:
    names = {"before": message.license.name if message.license else "–", "after": license_.name}
    with translation.override(settings.LANGUAGE_CODE):
        words = gettext("It was to be sent by %(before)s, and is now by %(after)s.") % names
    return _changed(message, words)


def _changed(message: OutboundMessage, words: str) -> dict[str, Any]:
    """For the message's timeline, the latest last."""
    words = f"{message.changed_words} {words}".strip()
    return {"changed_at": DatabaseNow(), "changed_words": words[-_MOST_CHANGED:]}


def is_time_limit(error: BaseException) -> bool:
    """Whether a worker's soft time limit interrupted what raised this. By its name: Celery need not be installed."""
    return type(error).__name__ == "SoftTimeLimitExceeded"


def _most_seconds() -> float:
    """Well below a lease: a lane whose driver has lost it is another's."""
    return min(MOST_RENDER_SECONDS, lease_seconds(kpwa_settings()) / 2)


def _passes(error: BaseException) -> bool:
    """Whether it may go by itself: the database or the network failed, there was no time, or who sends is not clear."""
    if isinstance(error, LicenseChoiceError):
        return True
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, (OperationalError, InterfaceError, ConnectionError, TimeoutError, TookTooLongError)):
            return True
        if is_time_limit(seen):
            return True
        seen = seen.__cause__
    return False


def _fail(message: OutboundMessage, words: str) -> None:
    if store().fail_unrendered(message, words):
        announce.messages_became(Status.FAILED, [message.pk])


def _leave_connections(error: BaseException) -> None:
    """End connections that broke, or that may have been interrupted in the middle of an answer."""
    was_interrupted = isinstance(error, TookTooLongError) or is_time_limit(error)
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block:
            continue
        if was_interrupted:
            connection.close()
        else:
            connection.close_if_unusable_or_obsolete()


def _words_of_giving_up() -> str:
    with translation.override(settings.LANGUAGE_CODE):
        return gettext("Writing its text was begun %(count)d times and never ended.") % {"count": MOST_RENDERINGS}


def _words_of_slowness() -> str:
    with translation.override(settings.LANGUAGE_CODE):
        return gettext("Writing its text took longer than %(seconds)d seconds.") % {"seconds": _most_seconds()}
