"""Renders the text of a queued message just before its first claim, outside any transaction.

Before that, the store has counted the rendering, moved the message back in the queue and committed both. So a template
that hangs or kills its process blocks its lane for a minute at most, and is not tried without end.
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

MAX_RENDERINGS = 3
"""Maximum number of times that the rendering of one text is begun."""
# Waits after the first and the second failed rendering. With these, an outage of ten minutes loses no receipt.
_WAITS_SECONDS = (60.0, 600.0)
_MAX_CHANGED_LENGTH = 500


def render_message(message_id: int, due_at: datetime, max_seconds: float, *, is_late: bool = False) -> None:
    """Render and store a message's text; or cancel the message, give it to another license, or make it `failed`.

    The recipient and the license are determined again, and stored with the text. After a temporary error (see
    `_passes()`), the message stays queued for another try. A task's soft time limit is raised again after that.

    `due_at`: the message's place in the queue, which it gets back with its text. It is then the next to be sent, and no
    other text is written before that.
    `max_seconds`: seconds after which the rendering is interrupted.
    `is_late`: the text is written so long after the message was queued that it has to say so.
    """
    # The license is fetched by the same query. If it were loaded later, a site's router could read it from a replica
    # that lags.
    message = OutboundMessage.objects.select_related("license").get(pk=message_id)
    message.is_written_late = is_late
    # The lease must not expire while its driver is rendering.
    max_seconds = min(max_seconds, lease_seconds(kpwa_settings()) / 2)
    if message.renderings_begun > MAX_RENDERINGS:
        logger.error(
            "Gave up on the text of message %s: rendering it was started too many times and never finished.", message_id
        )
        _fail(message, _words_of_giving_up())
        return
    try:
        rendered = call_within(max_seconds, lambda: render_receipt(message))
        if isinstance(rendered, Rendered) and not (rendered.text.strip() or rendered.image_url):
            raise ValueError("it rendered neither a text nor an image")
    except (Exception, TookTooLongError) as error:
        logger.error("The text of message %s could not be rendered: %s", message_id, masked_traceback(error))
        _leave_connections(error)
        words = _words_of_slowness(max_seconds) if isinstance(error, TookTooLongError) else words_of(error)
        if _passes(error) and message.renderings_begun < MAX_RENDERINGS:
            wait = _WAITS_SECONDS[max(message.renderings_begun, 1) - 1]
            # A message whose rendering hung needs no further wait, because it was moved back before the rendering.
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
    changed = _readdressed(message, rendered.to) if rendered.to is not None else {}
    if rendered.reference:
        changed["source_reference"] = rendered.reference
    store().store_text(message, text=rendered.text, image_url=rendered.image_url, due_at=due_at, changed=changed)


def _readdressed(message: OutboundMessage, to: Addressee) -> dict[str, Any]:
    numbers = {"before": phone.mask(message.recipient), "after": phone.mask(to.digits)}
    with translation.override(settings.LANGUAGE_CODE):
        words = gettext("The number was %(before)s, and is now %(after)s.") % numbers
    return {"recipient": to.digits, "recipient_typed": to.typed, **_changed(message, words)}


def _moved(message: OutboundMessage, license_: License) -> dict[str, Any]:
    names = {"before": message.license.name if message.license else "–", "after": license_.name}
    with translation.override(settings.LANGUAGE_CODE):
        words = gettext("It was to be sent by %(before)s, and is now sent by %(after)s.") % names
    return _changed(message, words)


def _changed(message: OutboundMessage, words: str) -> dict[str, Any]:
    """Return the columns that show a change in the message's timeline. A later change is appended to an earlier one."""
    words = f"{message.changed_words} {words}".strip()
    return {"changed_at": DatabaseNow(), "changed_words": words[-_MAX_CHANGED_LENGTH:]}


def is_time_limit(error: BaseException) -> bool:
    """True if `error` is Celery's soft time limit. Compared by name, because Celery need not be installed."""
    return type(error).__name__ == "SoftTimeLimitExceeded"


def _passes(error: BaseException) -> bool:
    """True if a later try may succeed: database or network failed, time ran out, or no license can be chosen yet."""
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
    """Close database connections that are broken, or that may have been interrupted while reading a result."""
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
        return gettext("Writing its text was started %(count)d times and never finished.") % {"count": MAX_RENDERINGS}


def _words_of_slowness(seconds: float) -> str:
    with translation.override(settings.LANGUAGE_CODE):
        return gettext("Writing its text took longer than %(seconds)d seconds.") % {"seconds": seconds}
