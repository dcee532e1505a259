"""A chip: what became of the messages about an object, and buttons for people who may act on it.

It shows the newest message, and those of the earlier ones that need a person.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from django.db.models import F, Model, Q, Window
from django.db.models.functions import RowNumber
from django.utils.translation import gettext

from .. import phone
from ..formatting import short_time
from ..gateway.outcome import Cause
from ..models import (
    RESENDABLE,
    UNSETTLED,
    OutboundMessage,
    RecipientType,
    Status,
    about,
    database_of,
    source_id_of,
)
from ..receipts import registry
from ..site_urls import find_url
from ..words import STATUSES, Mark, reason_row
from .people import Person

MAX_MESSAGES = 5
"""Maximum number of an object's messages that are read, newest first."""
MAX_SHOWN = 3
_PREFETCHED = "_kpwa_messages"


@dataclass(frozen=True)
class Shown:
    """One message as its chip shows it. Without a `resend_url` or `send_to_url` it has no such button."""

    message: OutboundMessage
    mark: Mark
    at: datetime | None
    at_words: str
    why: str
    recipient: str = field(repr=False)
    resend_url: str
    asks_first: bool
    send_to_url: str


def messages_about(objects: Iterable[Model]) -> dict[Model, list[OutboundMessage]]:
    """The newest messages about each object, newest first, without their texts, with one query for each model.

    Raises:
        ValueError: Two objects have the same primary key in different databases.
    """
    instances = list(objects)
    places: dict[Model, str] = {}
    for obj in instances:
        # To Django, two rows with the same key are equal even if they are in different databases.
        if places.setdefault(obj, database_of(obj)) != database_of(obj):
            raise ValueError("Objects in two databases have the same primary key: ask for each database by itself.")
    return dict(zip(instances, _messages_about(instances), strict=True))


def prefetch_messages(objects: Iterable[Model]) -> None:
    """Fetch the messages about these instances at once; their chips then need no queries."""
    instances = list(objects)
    for obj, messages in zip(instances, _messages_about(instances), strict=True):
        setattr(obj, _PREFETCHED, messages)


def chip(obj: Model, person: Person) -> list[Shown]:
    """What the chip of a saved object shows to `person`; empty if there are no messages about it."""
    messages = getattr(obj, _PREFETCHED, None)
    if messages is None:
        [messages] = _messages_about([obj])
    earlier = [message for message in messages[1:] if message.needs_somebody]
    return [_shown(message, person) for message in [*messages[:1], *earlier][:MAX_SHOWN]]


def _messages_about(instances: Sequence[Model]) -> list[list[OutboundMessage]]:
    """The newest messages about each of them. A row that comes as proxy and as concrete model gets the same ones."""
    found: list[list[OutboundMessage]] = [[] for _ in instances]
    places: dict[tuple[type[Model], str], dict[str, list[int]]] = {}
    for number, obj in enumerate(instances):
        table = obj._meta.concrete_model or type(obj)
        by_id = places.setdefault((table, database_of(obj)), {})
        by_id.setdefault(source_id_of(obj), []).append(number)
    for (table, alias), by_id in places.items():
        for message in _newest(about(table, alias, by_id)):
            for number in by_id.get(message.source_id, ()):
                found[number].append(message)
    return [registry.without_earlier_rows(messages, obj) for messages, obj in zip(found, instances, strict=True)]


def _newest(wanted: Q) -> list[OutboundMessage]:
    messages = OutboundMessage.objects.filter(wanted)
    # Numbered for each object, so that one with thousands of messages does not displace those of the others.
    place = Window(RowNumber(), partition_by=F("source_id"), order_by=F("pk").desc())
    newest = messages.annotate(place=place).filter(place__lte=MAX_MESSAGES).order_by("-pk")
    return list(newest.defer("text", "image_url", "idempotency_key"))


def _is_for_another(message: OutboundMessage) -> bool:
    """True if its text may be sent to another number: it is settled, and not to a group."""
    return message.recipient_type == RecipientType.NUMBER and message.status not in UNSETTLED


def _shown(message: OutboundMessage, person: Person) -> Shown:
    may_view = person.may("view_outboundmessage")
    may_resend = message.status in RESENDABLE and person.may("decide_outboundmessage")
    may_send_to = _is_for_another(message) and may_view and person.may("add_outboundmessage")
    at = _moment(message)
    return Shown(
        message=message,
        mark=STATUSES[message.status],
        at=at,
        at_words=short_time(at) if at else "",
        why=_why(message) if may_view else "",
        recipient=phone.written(message.recipient) if may_view else "",
        resend_url=find_url("django_kpwa:message_resend", message.uuid) if may_resend else "",
        asks_first=message.status == Status.UNKNOWN,
        send_to_url=find_url("django_kpwa:message_send_to", message.uuid) if may_send_to else "",
    )


def _moment(message: OutboundMessage) -> datetime | None:
    moments = {
        Status.SENT: message.sent_at,
        Status.DELIVERED: message.delivered_at or message.sent_at,
        Status.READ: message.read_at,
        Status.FAILED: message.settled_at,
        Status.UNKNOWN: message.settled_at,
    }
    return moments.get(cast(Any, message.status))


def _why(message: OutboundMessage) -> str:
    """Why it is not sent, or was not; for a refusal in the gateway's own words."""
    if message.status == Status.FAILED and message.reason == Cause.REFUSED and message.reason_words:
        return gettext("the gateway said: %(words)s") % {"words": message.reason_words}
    is_told = message.status in RESENDABLE or message.license_id is None
    return str(reason_row(message).label) if is_told else ""
