"""What a person can decide about a message, as buttons: on its page, and for many in the list."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ... import outbox
from ...conditions import Words
from ...models import RESENDABLE, OutboundMessage, Status
from ..buttons import Button, Done

MAY_DECIDE = "decide_outboundmessage"
SECOND_COPY = _("The customer may get a second copy of a message that did arrive after all.")


def _pressing(
    decide: Callable[[OutboundMessage], bool], words: Words
) -> Callable[[HttpRequest, OutboundMessage], Done]:
    def press(request: HttpRequest, message: OutboundMessage) -> Done:
        if decide(message):
            return Done(words)
        told = gettext("Nothing was changed: the message is “%(status)s” by now.")
        return Done(told % {"status": message.get_status_display()}, messages.WARNING, logged="")

    return press


SEND_AGAIN = Button(
    "send_again",
    _("Send again"),
    MAY_DECIDE,
    _pressing(outbox.resend, _("The message is queued again.")),
    confirm=SECOND_COPY,
    is_offered=lambda message: message.status in RESENDABLE,
    is_primary=True,
)
IT_ARRIVED = Button(
    "it_arrived",
    _("It arrived"),
    MAY_DECIDE,
    _pressing(outbox.mark_sent, _("The message counts as sent.")),
    is_offered=lambda message: message.status == Status.UNKNOWN,
)
LEAVE_IT = Button(
    "leave_it",
    _("Leave it"),
    MAY_DECIDE,
    _pressing(outbox.dismiss, _("The message is left as it is.")),
    is_offered=lambda message: message.status == Status.UNKNOWN and message.dismissed_at is None,
)
CANCEL = Button(
    "cancel",
    _("Cancel"),
    MAY_DECIDE,
    _pressing(outbox.cancel, _("The message was withdrawn.")),
    confirm=_("It does not go out then."),
    is_offered=lambda message: message.status == Status.QUEUED,
)

DECISIONS = (SEND_AGAIN, IT_ARRIVED, LEAVE_IT, CANCEL)
