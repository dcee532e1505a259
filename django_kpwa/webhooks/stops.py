"""Acts on customers who write that they want no more messages, want them again, or that the number is not theirs.

Only a whole message counts: a sentence that contains such a word does nothing. A number is never stopped by a report of
the gateway, nor by a message from a group or from the shop itself.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from datetime import timedelta

from django.conf import settings
from django.utils import timezone, translation
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables

from .. import announce
from ..conf import Settings, kpwa_settings
from ..exceptions import KpwaError
from ..logs import get_logger
from ..models import EventKind, OutboundMessage, Recipient, StopReason, WebhookEvent
from ..outbox import send_stop_answer
from ..store import store
from ..wake import wake_license_on_commit
from .parsers import ParsedEvent

logger = get_logger("django_kpwa.webhooks")

ANSWERED_FOR = timedelta(hours=1)
"""Maximum age of an event that is answered. An older one, which was delayed or is reprocessed, gets no answer."""
_WRITTEN = ("", "text", "button", "list")
_HIDDEN = "@lid"


def what_is_asked(text: str, conf: Settings) -> StopReason | bool | None:
    """Return what a customer's message asks for: the reason of a stop, True for the end of a stop, None for neither.

    Case, white space, punctuation and emoji are ignored.
    """
    said = _bare(text)
    if not said:
        return None
    for words, asked in (
        (conf.WRONG_NUMBER_WORDS, StopReason.WRONG_NUMBER),
        (conf.STOP_WORDS, StopReason.STOPPED),
        (conf.START_WORDS, True),
    ):
        if said in {_bare(word) for word in words}:
            return asked
    return None


@sensitive_variables()
def heed(event: WebhookEvent, parts: Sequence[ParsedEvent]) -> None:
    """Do what the customers' messages among `parts` ask for. Safe to repeat, because a later decision stays.

    Raises `django.db.Error`.
    """
    incoming = [part for part in parts if part.kind == EventKind.INCOMING and not part.is_group and not part.is_own]
    if not incoming:
        return
    conf = kpwa_settings()
    for part in incoming:
        if part.sender and part.sender_is_certain and part.chat.lower().endswith(_HIDDEN):
            store().learn_hidden_id(event.license_id, part.sender, part.chat)
        number = _author(event, part)
        if number:
            store().note_inbound(event.license_id, number, event.received_at)
            if store().end_cold_holds(event.license_id, number):
                wake_license_on_commit(event.license_id)
        asked = what_is_asked(part.text, conf) if part.content in _WRITTEN else None
        if asked is None:
            continue
        if not number:
            logger.warning("Webhook event %s asks for a stop, but whose number it is from is not known.", event.uuid)
        elif isinstance(asked, StopReason):
            _stop(event, number, asked, conf)
        elif store().lift_stop(number, event.received_at):
            logger.info("A customer asked for messages again (webhook event %s).", event.uuid)


@sensitive_variables()
def _author(event: WebhookEvent, part: ParsedEvent) -> str:
    """Return the number of the message's author, in digits; empty if it is not certain."""
    if not part.sender:
        return store().number_behind(part.chat) if part.chat.lower().endswith(_HIDDEN) else ""
    # If the field may hold the linked phone, a number is accepted only if the license has sent a message to it.
    written_to = OutboundMessage.objects.filter(recipient=part.sender, license_id=event.license_id)
    return part.sender if part.sender_is_certain or written_to.exists() else ""


@sensitive_variables()
def _stop(event: WebhookEvent, number: str, reason: StopReason, conf: Settings) -> None:
    stopped = store().stop(event.license_id, number, reason, event.received_at)
    if stopped is None:
        return
    logger.info("A customer asked for a stop (%s, webhook event %s).", reason.value, event.uuid)
    announce.messages_moved(store().cancel_stopped(number, reason))
    if reason == StopReason.WRONG_NUMBER:
        store().mark_wrong_number(number)
    if conf.ANSWERS_STOPS and timezone.now() - event.received_at < ANSWERED_FOR:
        _answer(event, stopped, number, reason)


@sensitive_variables()
def _answer(event: WebhookEvent, stopped: Recipient, number: str, reason: StopReason) -> None:
    with translation.override(settings.LANGUAGE_CODE):
        if reason == StopReason.WRONG_NUMBER:
            text = _("We are sorry. We will send nothing more to this number.")
        elif start_words := kpwa_settings().START_WORDS:
            text = _("You will get no more messages from us. To get them again, write: %(word)s") % {
                "word": start_words[0].upper()
            }
        else:
            text = _("You will get no more messages from us.")
    try:
        send_stop_answer(event.license, stopped, number, text)
    except KpwaError as error:
        logger.warning("A stop could not be answered (%s).", type(error).__name__)


# The character before an emoji's variation selector, or in a keycap. `_bare()` removes these and all other symbols
# first, because normalising would turn some of them into letters or digits.
_EMOJI = re.compile(".\ufe0f\u20e3?|.\u20e3")


def _bare(text: str) -> str:
    """Return the letters and digits of `text`, casefolded."""
    plain = "".join(one for one in _EMOJI.sub("", text) if unicodedata.category(one) not in ("So", "No"))
    folded = unicodedata.normalize("NFKC", plain).casefold()
    return "".join(character for character in folded if character.isalnum())
