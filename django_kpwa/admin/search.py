"""The search in the lists of messages and webhook events. Its cost does not grow with the tables.

Complete values (a number, a key, an id) are looked up in an index. Parts (three digits, words of a text, a reference)
are found by reading the newest rows: an index for them would cost three writes per message, for a few searches a day.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from typing import Any

from django.db.models import Model, Q, QuerySet

from .. import phone
from ..exceptions import InvalidPhoneNumberError
from ..models import (
    EventKind,
    OutboundMessage,
    ReceiptFailure,
    RecipientType,
    SendAttempt,
    WebhookEvent,
    idempotency_digest,
    stored_name,
    types_of,
)

MIN_DIGITS = 6
"""Minimum number of digits, country code included, of a search for numbers by their beginning."""
MIN_PART = 3
"""Minimum number of digits of a number, or of characters of a text, that are searched for as a part of it."""
READ = 20_000
"""Number of newest messages, and of newest webhook events, that a search for parts reads."""
_MAX_BY_GATEWAY_ID = 100
_MAX_BY_PART = 500
_MAX_NAMES = 50
"""Maximum number of groups, and of customers who wrote the words, whose messages are found."""
_BETWEEN_DIGITS = re.compile(r"[\s().+/-]")


def search_messages(messages: QuerySet[OutboundMessage], term: str) -> QuerySet[OutboundMessage]:
    """Return those `messages` whose recipient, idempotency key, gateway id or UUID is `term`.

    A number may be typed in any spelling, or only its beginning with at least `MIN_DIGITS` digits. Among the newest
    `READ` messages, those are found as well in which `term` is a part (ignoring case) of the number, the reference or
    the text; and all messages of a group whose name, or to a customer whose answer, contains it.
    """
    term = _cleaned(term)
    if not term:
        return messages
    every = OutboundMessage.objects.all()
    by_key = every.filter(idempotency_digest=idempotency_digest(term)).values_list("pk", flat=True)
    attempts = SendAttempt.objects.filter(gateway_id=term)
    by_gateway_id = attempts.values_list("message_id", flat=True)[:_MAX_BY_GATEWAY_ID]
    ids = {*by_key, *by_gateway_id, *_by_uuid(every, term), *_by_part(every, term)}
    return _found(messages, _by_number(every, "recipient", term, only=Q(recipient_type=RecipientType.NUMBER)), ids)


def sources_by_reference(model: type[Model], using: str, **lookup: str) -> list[str]:
    """Return the primary keys, as text, of the objects whose reference in the newest messages or failures matches.

    `lookup`: one text lookup, for example `icontains="KS-7"`. Returns at most `_MAX_NAMES` keys, newest first.
    """
    [(name, wanted)] = lookup.items()
    fits = {f"source_reference__{name}": wanted, "source_content_type__in": types_of(model)}
    found: dict[str, None] = {}
    for records in (OutboundMessage.objects.all(), ReceiptFailure.objects.all()):
        of_source = _newest(records).filter(source_database=stored_name(using), **fits)
        found |= dict.fromkeys(of_source.order_by("-pk").values_list("source_id", flat=True)[:_MAX_NAMES])
    return list(found)[:_MAX_NAMES]


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


def _by_part(every: QuerySet[OutboundMessage], term: str) -> set[int]:
    """Return the newest messages that contain `term`, at most `_MAX_BY_PART` for each way to find them."""
    number = _number(term)
    if number and every.filter(recipient=number).exists():
        return set()  # `term` is a complete number, so only its messages are wanted
    read = _newest(every)
    found = Q(source_reference__icontains=term)
    digits = _BETWEEN_DIGITS.sub("", term)
    if not (digits.isascii() and digits.isdigit()):
        # Digits are not searched for in texts, because they would match amounts.
        groups = Q(recipient_type=RecipientType.GROUP)
        names = _distinct(read.filter(groups, recipient__icontains=term), "recipient")
        senders = _distinct(_answers(term), "sender_number")
        ids = {*_ids(every.filter(groups, recipient__in=names)), *_ids(every.filter(recipient__in=senders))}
        return {*ids, *_ids(read.filter(found | Q(text__icontains=term) if len(term) >= MIN_PART else found))}
    if len(digits) >= MIN_PART:
        # 0812 matches the beginning of 62812…; 504 may match anywhere.
        of_number = Q(recipient__contains=digits) | Q(recipient__startswith=phone.gateway_reading(digits))
        found |= Q(recipient_type=RecipientType.NUMBER) & of_number
    return set(_ids(read.filter(found)))


def _answers(term: str) -> QuerySet[WebhookEvent]:
    if len(term) < MIN_PART:
        return WebhookEvent.objects.none()
    newest = _newest(WebhookEvent.objects.all())
    return newest.filter(kind=EventKind.INCOMING, understood__text__icontains=term).exclude(sender_number="")


def _newest(rows: QuerySet[Any]) -> QuerySet[Any]:
    newest = rows.order_by("-pk").values_list("pk", flat=True).first() or 0
    return rows.filter(pk__gt=newest - READ)


def _ids(messages: QuerySet[OutboundMessage]) -> Iterable[int]:
    return messages.order_by("-pk").values_list("pk", flat=True)[:_MAX_BY_PART]


def _distinct(rows: QuerySet[Any], column: str) -> list[str]:
    return list(dict.fromkeys(rows.order_by("-pk").values_list(column, flat=True)[:_MAX_BY_PART]))[:_MAX_NAMES]


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
