"""The searches of the lists of messages and webhook events. Each is a few index look-ups.

Texts, names and bodies are not searched: that would read the whole table. References are, in the newest messages: an
index on them would cost every message three writes for a search of a few a day.
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
"""Minimum number of digits, country code included, of a search for numbers by their beginning."""
_MAX_BY_GATEWAY_ID = 100
_MAX_BY_REFERENCE = 100
REFERENCES_READ = 20_000
"""Number of the newest messages whose references a search reads."""


def search_messages(messages: QuerySet[OutboundMessage], term: str) -> QuerySet[OutboundMessage]:
    """Return those `messages` whose recipient, idempotency key, gateway id or UUID is `term`.

    Of the newest, also those whose reference contains it, in any case. A number may be typed in any spelling, or only
    its beginning with at least `MIN_DIGITS` digits.
    """
    term = _cleaned(term)
    if not term:
        return messages
    every = OutboundMessage.objects.all()
    by_key = every.filter(idempotency_digest=idempotency_digest(term)).values_list("pk", flat=True)
    attempts = SendAttempt.objects.filter(gateway_id=term)
    by_gateway_id = attempts.values_list("message_id", flat=True)[:_MAX_BY_GATEWAY_ID]
    ids = {*by_key, *by_gateway_id, *_by_uuid(every, term), *_by_reference(term)}
    return _found(messages, _by_number(every, "recipient", term, only=Q(recipient_type=RecipientType.NUMBER)), ids)


def search_events(events: QuerySet[WebhookEvent], term: str) -> QuerySet[WebhookEvent]:
    """Return those `events` whose sender's number (or its beginning), gateway id or UUID is `term`."""
    term = _cleaned(term)
    if not term:
        return events
    every = WebhookEvent.objects.all()
    by_gateway_id = every.filter(gateway_id=term).order_by("-pk").values_list("pk", flat=True)[:_MAX_BY_GATEWAY_ID]
    # No restriction to incoming messages is needed: other events have an empty sender number, and no term is empty.
    return _found(events, _by_number(every, "sender_number", term), {*by_gateway_id, *_by_uuid(every, term)})


def _cleaned(term: str) -> str:
    return term.strip().replace("\x00", "")


def _found(rows: QuerySet[Any], condition: Q, ids: Iterable[int]) -> QuerySet[Any]:
    # The ids were read by queries of their own: with subqueries in an OR, no database uses the indexes.
    ids = sorted(ids)
    return rows.filter(condition | Q(pk__in=ids) if ids else condition)


def _by_reference(term: str) -> Iterable[int]:
    newest = OutboundMessage.objects.order_by("-pk").values_list("pk", flat=True).first()
    if newest is None:
        return ()
    read = OutboundMessage.objects.filter(pk__gt=newest - REFERENCES_READ, source_reference__icontains=term)
    return read.order_by("-pk").values_list("pk", flat=True)[:_MAX_BY_REFERENCE]


def _by_uuid(rows: QuerySet[Any], term: str) -> Iterable[int]:
    try:
        return rows.filter(uuid=uuid.UUID(term)).values_list("pk", flat=True)
    except ValueError:
        return ()


def _by_number(rows: QuerySet[Any], field: str, term: str, *, only: Q = Q()) -> Q:  # noqa: B008 - it is not changed
    """Return a condition that matches a number in `field` by `term`, in any spelling, or by its beginning.

    If a row with exactly that number exists, only the exact number is matched. `only` further restricts the matches by
    beginning.
    """
    exact = Q(**{field: term})
    number = _number(term)
    # The beginning of a number can be a valid number itself: 628123456 is a landline.
    if number and rows.filter(**{field: number}).exists():
        return Q(**{f"{field}__in": [number, term]})
    beginning = phone.gateway_reading(term)
    if not MIN_DIGITS <= len(beginning) <= phone.MAX_LENGTH or any(character.isalpha() for character in term):
        return exact
    # A range, because any index serves it; LIKE would need a special operator class on PostgreSQL.
    return exact | (only & Q(**{f"{field}__gte": beginning, f"{field}__lt": str(int(beginning) + 1)}))


def _number(term: str) -> str:
    try:
        return phone.parse(term)
    except InvalidPhoneNumberError:
        return ""
