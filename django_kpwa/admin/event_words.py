"""What an event's status means, in a sentence: why it is so, and what to press."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from ..conditions import Words
from ..models import EventKind, EventStatus, WebhookEvent

_MEANINGS: dict[str, Words] = {
    EventStatus.PENDING: _("It was stored and waits for a worker. “Process again” does it right now."),
    EventStatus.PROCESSED: _("It was understood, and what it says was done."),
    EventStatus.UNMATCHED: _(
        "It tells of a message, and no message of this license fits. It is looked for again for an hour; the message "
        "may also be one that somebody sent by hand."
    ),
    EventStatus.UNRECOGNISED: _(
        "Nobody knows what it says, so nothing was done. It is kept as it came. Once the site can read such events, "
        "press “Process again”."
    ),
    EventStatus.FAILED: _("Reading it raised an error. Once that is mended, press “Process again”."),
}
_WROTE = _("A customer wrote. Answer on the shop's own phone.")


def meaning_of(event: WebhookEvent) -> str:
    """What the event's status means for the shop, and what to do."""
    if event.status == EventStatus.PROCESSED and event.kind == EventKind.INCOMING:
        return str(_WROTE)
    return str(_MEANINGS[event.status])
