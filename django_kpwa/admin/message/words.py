"""What a message's status means, in a sentence or two: why it is so, and what to press."""

from __future__ import annotations

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ...conditions import Words
from ...models import AttemptCause, OutboundMessage, Status

_REASONS: dict[str, Words] = {
    "withdrawn": _("withdrawn before it was sent again"),
    "render_error": _("its text could not be written"),
}

_MEANINGS: dict[str, Words] = {
    Status.QUEUED: _("It waits for its turn and goes out by itself."),
    Status.SENDING: _("It is on its way to WhatsApp right now."),
    Status.SENT: _("WhatsApp has it. The customer's phone has not said yet that it arrived."),
    Status.DELIVERED: _("It is on the customer's phone."),
    Status.READ: _("The customer has read it."),
    Status.FAILED: _("It did not go out. Mend the cause, then press “Send again”."),
    Status.UNKNOWN: _(
        "Nobody knows whether the customer got it. Ask the customer, or look at the shop's own phone. "
        "It is there: press “It arrived”. It is not: press “Send again”; the customer may then get a second copy."
    ),
    Status.CANCELLED: _("It was cancelled and does not go out. “Send again” sends it after all."),
    Status.EXPIRED: _("It waited too long to be of use, so it was not sent. “Send again” sends it after all."),
}
_LEFT = _("Nobody knows whether the customer got it, and somebody chose to leave it so. It can still be decided.")
_TRIED = _("It was tried and did not go out yet. It is tried again by itself.")


def reason_of(message: OutboundMessage) -> str:
    """Why the message is as it is, in words; empty where there is nothing to say."""
    code = message.reason
    if not code:
        return ""
    if code == "withdrawn" and message.status == Status.CANCELLED:
        return gettext("it was no longer wanted")
    if code in _REASONS:
        return str(_REASONS[code])
    return str(AttemptCause(code).label) if code in AttemptCause.values else code


def meaning_of(message: OutboundMessage) -> str:
    """What the message's status means for the shop, and what to do."""
    if message.status == Status.UNKNOWN and message.dismissed_at is not None:
        return str(_LEFT)
    if message.status == Status.QUEUED and message.reason:
        return str(_TRIED)
    return str(_MEANINGS[message.status])
