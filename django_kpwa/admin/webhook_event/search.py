"""The search above the list of events: every way of looking is one exact look into an index, never into a body."""

from __future__ import annotations

import uuid

from django.db.models import Q, QuerySet

from ...models import WebhookEvent
from ..numbers import by_number

_MOST_BY_ID = 100


def search_events(events: QuerySet[WebhookEvent], term: str) -> QuerySet[WebhookEvent]:
    """Those of `events` that a customer of the number `term` sent, or of the gateway's or the public id `term`."""
    term = term.strip().replace("\x00", "")
    if not term:
        return events
    every = WebhookEvent.objects.using(events.db)
    # Incoming messages alone have a sender's number; the others' is empty, which no term is.
    found = by_number(every, "sender_number", term)
    ids = set(every.filter(gateway_id=term).order_by("-pk").values_list("pk", flat=True)[:_MOST_BY_ID])
    try:
        ids |= set(every.filter(uuid=uuid.UUID(term)).values_list("pk", flat=True))
    except ValueError:
        pass
    return events.filter(found | Q(pk__in=sorted(ids)) if ids else found)
