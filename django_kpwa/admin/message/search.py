"""The search above the list of messages: every way of looking is one exact look into an index.

Nothing looks for a part of a text or of a name: that would read a million rows.
"""

from __future__ import annotations

import uuid

from django.db.models import Q, QuerySet

from ... import phone
from ...exceptions import InvalidPhoneNumberError
from ...models import OutboundMessage, RecipientType, SendAttempt, idempotency_digest

FEWEST_DIGITS = 6
"""The beginning of a number is looked for from so many digits on, its country code among them."""

_MOST_BY_ID = 100


def search_messages(messages: QuerySet[OutboundMessage], term: str) -> QuerySet[OutboundMessage]:
    """Those of `messages` to the number or the group `term`, or of the key or id `term`."""
    term = term.strip().replace("\x00", "")
    if not term:
        return messages
    found = _by_recipient(messages.db, term)
    ids = _ids_by_key(messages.db, term)
    return messages.filter(found | Q(pk__in=ids) if ids else found)


def _by_recipient(using: str, term: str) -> Q:
    number = _number(term)
    # Half a number may be a whole one too: 628123456 is a landline.
    if number and OutboundMessage.objects.using(using).filter(recipient=number).exists():
        return Q(recipient__in=[number, term])
    beginning = phone.gateway_reading(term)
    if not FEWEST_DIGITS <= len(beginning) <= phone.MAX_LENGTH or any(character.isalpha() for character in term):
        return Q(recipient=term)
    # A range, which every index serves; LIKE needs a special one on PostgreSQL.
    following = str(int(beginning) + 1)
    return Q(recipient=term) | Q(recipient__gte=beginning, recipient__lt=following, recipient_type=RecipientType.NUMBER)


def _number(term: str) -> str:
    try:
        return phone.parse(term)
    except InvalidPhoneNumberError:
        return ""


def _ids_by_key(using: str, term: str) -> list[int]:
    messages = OutboundMessage.objects.using(using)
    ids = set(messages.filter(idempotency_digest=idempotency_digest(term)).values_list("pk", flat=True))
    ids |= set(
        SendAttempt.objects.using(using).filter(gateway_id=term).values_list("message_id", flat=True)[:_MOST_BY_ID]
    )
    try:
        ids |= set(messages.filter(uuid=uuid.UUID(term)).values_list("pk", flat=True))
    except ValueError:
        pass
    return sorted(ids)
