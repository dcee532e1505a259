"""The search above the list of messages: every way of looking is one exact look into an index.

Nothing looks for a part of a text or of a name: that would read a million rows.
"""

from __future__ import annotations

import uuid

from django.db.models import Q, QuerySet

from ...models import OutboundMessage, RecipientType, SendAttempt, idempotency_digest
from ..numbers import by_number

_MOST_BY_ID = 100


def search_messages(messages: QuerySet[OutboundMessage], term: str) -> QuerySet[OutboundMessage]:
    """Those of `messages` to the number or the group `term`, or of the key or id `term`."""
    term = term.strip().replace("\x00", "")
    if not term:
        return messages
    every = OutboundMessage.objects.using(messages.db)
    found = by_number(every, "recipient", term, only=Q(recipient_type=RecipientType.NUMBER))
    ids = _ids_by_key(messages.db, term)
    return messages.filter(found | Q(pk__in=ids) if ids else found)


def _ids_by_key(using: str, term: str) -> list[int]:
    messages = OutboundMessage.objects
    ids = set(messages.filter(idempotency_digest=idempotency_digest(term)).values_list("pk", flat=True))
    ids |= set(SendAttempt.objects.filter(gateway_id=term).values_list("message_id", flat=True)[:_MOST_BY_ID])
    try:
        ids |= set(messages.filter(uuid=uuid.UUID(term)).values_list("pk", flat=True))
    except ValueError:
        pass
    return sorted(ids)
