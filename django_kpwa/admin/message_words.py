"""A message in words: to whom and how it begins; what its status means, why it is so, and what to press."""

from __future__ import annotations

from django.db.models import QuerySet
from django.db.models.functions import Substr
from django.utils.text import Truncator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from .. import phone
from ..conditions import Words
from ..gateway.outcome import Cause
from ..models import OutboundMessage, RecipientType, Status

_START_CHARACTERS = 80

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
_NOT_CHOSEN = _(
    "It waits, because it cannot be told which license sends it. Open the license that should, see that it is active, "
    "and tick “default”; then it goes out by itself."
)
_TRIED = _("It was tried and did not go out yet. It is tried again by itself.")


def starts_of(messages: QuerySet[OutboundMessage]) -> QuerySet[OutboundMessage]:
    """`messages` for a list: without their texts, whose beginnings are what `first_line_of()` needs."""
    return messages.defer("text", "reason_words").annotate(text_start=Substr("text", 1, _START_CHARACTERS + 1))


def first_line_of(message: OutboundMessage) -> str:
    """How a message of `starts_of()` begins."""
    start = str(getattr(message, "text_start", "")).strip()
    if not start:
        return instead_of_text(message) or gettext("(an image)")
    # Without the marks of WhatsApp's formatting around it.
    return Truncator(start.splitlines()[0].strip("*_~` ")).chars(_START_CHARACTERS)


def instead_of_text(message: OutboundMessage) -> str:
    """What is shown of a text that is not written yet."""
    return gettext("(written when it is sent)") if message.needs_rendering else ""


def recipient_of(message: OutboundMessage) -> str:
    """The number, or the group's name."""
    if message.recipient_type == RecipientType.GROUP:
        return gettext("%(name)s (group)") % {"name": message.recipient}
    return phone.written(message.recipient)


def reason_of(message: OutboundMessage) -> str:
    """Why the message is as it is, in words; empty where there is nothing to say."""
    code = message.reason
    if message.license_id is None and message.status == Status.QUEUED:
        return gettext("it cannot be told which license sends it")
    if not code:
        return ""
    if code == "withdrawn" and message.status == Status.CANCELLED:
        return gettext("it was no longer wanted")
    if code in _REASONS:
        return str(_REASONS[code])
    return str(Cause(code).label) if code in Cause.values else code


def meaning_of(message: OutboundMessage) -> str:
    """What the message's status means for the shop, and what to do."""
    if message.status == Status.UNKNOWN and message.dismissed_at is not None:
        return str(_LEFT)
    if message.status == Status.QUEUED and message.license_id is None:
        return str(_NOT_CHOSEN)
    if message.status == Status.QUEUED and message.reason:
        return str(_TRIED)
    return str(_MEANINGS[message.status])
