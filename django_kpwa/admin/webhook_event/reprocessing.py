"""Processing events again: one by its button, or many of the list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from django.contrib import messages
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ...conditions import Words
from ...models import EventStatus, WebhookEvent
from ...webhooks import reprocess
from ..buttons import Button, ButtonsAdmin, Done
from ..many import counted

MOST_AT_ONCE = 100
"""Receivers of the site run for each, so that one may take its time."""

_OUTCOMES: dict[str, tuple[Words, int]] = {
    EventStatus.PROCESSED: (_("Processed."), messages.SUCCESS),
    EventStatus.UNMATCHED: (_("Understood, but no message fits it."), messages.WARNING),
    EventStatus.UNRECOGNISED: (_("Still not understood."), messages.WARNING),
    EventStatus.FAILED: (_("It could not be processed; its page says why."), messages.ERROR),
    EventStatus.PENDING: (_("It waits for a worker."), messages.WARNING),
}
_BUSY = _("Nothing was done: somebody is processing it right now.")
_GONE = _("Nothing was done: it has been deleted.")


def _press(request: HttpRequest, event: WebhookEvent) -> Done:
    if not reprocess(event):
        return Done(_BUSY, messages.WARNING, logged="")
    status = WebhookEvent.objects.filter(pk=event.pk).values_list("status", flat=True).first()
    if status is None:
        return Done(_GONE, messages.WARNING, logged="")
    words, level = _OUTCOMES[status]
    return Done(words, level)


REPROCESS = Button("reprocess", _("Process again"), "reprocess_webhookevent", _press, is_primary=True)


def tell(admin: ButtonsAdmin, request: HttpRequest, done: Sequence[Done], skipped: int) -> None:
    """Say how many events came to what."""
    for (words, level), count in Counter((str(each.words), each.level) for each in done).items():
        told = gettext("%(what)s: %(outcome)s") % {"what": counted(admin, count), "outcome": words}
        admin.message_user(request, told, level)
