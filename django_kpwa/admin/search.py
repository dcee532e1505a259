"""The searches above the lists of messages and webhook events: each is a few exact look-ups in indexes.

Nothing searches within texts, names or bodies: that would read a million rows.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from django.db.models import Q, QuerySet

from .. import phone
from ..exceptions import InvalidPhoneNumberError
from ..models import OutboundMessage, RecipientType, SendAttempt, WebhookEvent, idempotency_digest

MIN_DIGITS = 6
"""Minimum number of digits, country code included, of a number that is searched for by its beginning."""
_MAX_BY_GATEWAY_ID = 100


def search_messages(messages: QuerySet[OutboundMessage], term: str) -> QuerySet[OutboundMessage]:
    """The `messages` to the number or group `term`, or with the idempotency key, gateway id or UUID `term`."""
    term = _cleaned(term)
    if not term:
        return messages
    every = OutboundMessage.objects.all()
    by_key = every.filter(idempotency_digest=idempotency_digest(term)).values_list("pk", flat=True)
    attempts = SendAttempt.objects.filter(gateway_id=term)
    by_gateway_id = attempts.values_list("message_id", flat=True)[:_MAX_BY_GATEWAY_ID]
    ids = {*by_key, *by_gateway_id, *_by_uuid(every, term)}
    return _found(messages, _by_number(every, "recipient", term, only=Q(recipient_type=RecipientType.NUMBER)), ids)


def search_events(events: QuerySet[WebhookEvent], term: str) -> QuerySet[WebhookEvent]:
    """The `events` sent by a customer with the number `term`, or with the gateway id or UUID `term`."""
    term = _cleaned(term)
    if not term:
        return events
    every = WebhookEvent.objects.all()
    by_gateway_id = every.filter(gateway_id=term).order_by("-pk").values_list("pk", flat=True)[:_MAX_BY_GATEWAY_ID]
    # Only incoming messages have a sender's number. The other events' is empty, and no term is.
    return _found(events, _by_number(every, "sender_number", term), {*by_gateway_id, *_by_uuid(every, term)})


def _cleaned(term: str) -> str:
    return term.strip().replace("\x00", "")


def _found(rows: QuerySet[Any], condition: Q, ids: Iterable[int]) -> QuerySet[Any]:
    # The ids apart: with subqueries in an OR, no database uses the indexes.
    ids = sorted(ids)
    return rows.filter(condition | Q(pk__in=ids) if ids else condition)


def _by_uuid(rows: QuerySet[Any], term: str) -> Iterable[int]:
    try:
        return rows.filter(uuid=uuid.UUID(term)).values_list("pk", flat=True)
    except ValueError:
        return ()


def _by_number(rows: QuerySet[Any], field: str, term: str, *, only: Q = Q()) -> Q:  # noqa: B008 - it is not changed
    """Matches a `field` that equals `term` or the number that it means in any spelling, or begins with its digits.

    `only` further restricts the matches by beginning.
    """
    exact = Q(**{field: term})
    number = _number(term)
    # The beginning of a number can be a valid number itself: 628123456 is a landline.
    if number and rows.filter(**{field: number}).exists():
        return Q(**{f"{field}__in": [number, term]})
    beginning = phone.gateway_reading(term)
    if not MIN_DIGITS <= len(beginning) <= phone.MAX_LENGTH or any(character.isalpha() for character in term):
        return exact
    # A range, which every index serves; LIKE needs a special index on PostgreSQL.
    return exact | (only & Q(**{f"{field}__gte": beginning, f"{field}__lt": str(int(beginning) + 1)}))


def _number(term: str) -> str:
    try:
        return phone.parse(term)
    except InvalidPhoneNumberError:
        return ""
