"""The chips that a site's own pages show to the shop's staff.

A chip is the status of the messages about an object, with buttons for users allowed to act on them. It shows the newest
message, and those earlier messages that need a person's decision or help.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, cast

from django.db.models import F, Model, Q, Window
from django.db.models.functions import RowNumber
from django.utils.translation import gettext

from .. import outbox, phone, ticks
from ..formatting import short_time
from ..gateway.outcome import Cause
from ..license_conditions import held_by
from ..models import (
    UNSETTLED,
    OutboundMessage,
    ReceiptFailure,
    RecipientType,
    Status,
    about,
    database_of,
    source_id_of,
)
from ..receipts import registry
from ..site_urls import find_url
from ..words import CAUSES, FAILURES, Mark, Tone, reason_row, status_row

MAX_MESSAGES = 5
"""Maximum number of messages that are read per object, newest first."""
MAX_SHOWN = 3
"""Maximum number of messages that a chip shows."""
_MESSAGES, _FAILURES = "_kpwa_messages", "_kpwa_failures"
"""The attributes of an object in which its prefetched rows are cached."""


class Person(NamedTuple):
    """A user of the site, or an anonymous visitor. Only authenticated, active users have permissions."""

    user: Any

    def may(self, codename: str) -> bool:
        """Return True if the user has our app's permission `codename` (given without the app label)."""
        # A site's own user class may lack both attributes; such users have no permissions here.
        asked = getattr(self.user, "has_perm", None)
        return bool(getattr(self.user, "is_active", False) and asked and asked(f"django_kpwa.{codename}"))

    @property
    def is_staff(self) -> bool:
        """True if the user may log in to the admin."""
        return bool(self.user is not None and getattr(self.user, "is_staff", False))


def person_of(request: Any) -> Person:
    """Return the user of `request`; an anonymous visitor on a site without authentication."""
    return Person(getattr(request, "user", None))


@dataclass(frozen=True)
class Shown:
    """One message, or a receipt that never became one, as its chip shows it.

    `status`: that of the message, or `no_receipt`. The URLs are empty if there is no such button. `why` and `recipient`
    are empty if the user may not view messages. `asks_first` is True if resending needs a confirmation.
    """

    status: str
    mark: Mark
    at: datetime | None
    at_words: str
    why: str
    recipient: str = field(default="", repr=False)
    resend_url: str = ""
    asks_first: bool = False
    send_to_url: str = ""
    send_now_url: str = ""
    asks_again_url: str = ""


def messages_about(objects: Iterable[Model]) -> dict[Model, list[OutboundMessage]]:
    """Return the newest messages about each object, at most `MAX_MESSAGES`, newest first, without their texts.

    It takes one query per model and database.

    Raises:
        ValueError: Two objects of one model have the same primary key in different databases. They are equal to Django,
            so they can't be two keys of the result.
    """
    instances = list(objects)
    places: dict[Model, str] = {}
    for obj in instances:
        # Instances with the same primary key are equal even if they are from different databases.
        if places.setdefault(obj, database_of(obj)) != database_of(obj):
            raise ValueError(
                "Objects in two databases have the same primary key: call this for each database separately."
            )
    return dict(zip(instances, _messages_about(instances), strict=True))


def prefetch_messages(objects: Iterable[Model]) -> None:
    """Fetch the messages about all `objects` at once and cache them on the instances: chips then need no query."""
    instances = list(objects)
    found = zip(instances, _messages_about(instances), _failures_about(instances), strict=True)
    for obj, messages, failures in found:
        setattr(obj, _MESSAGES, messages)
        setattr(obj, _FAILURES, failures)


def chip(obj: Model, person: Person) -> list[Shown]:
    """Return the messages that the chip of a saved object shows to `person`; empty if there are none."""
    messages, failures = getattr(obj, _MESSAGES, None), getattr(obj, _FAILURES, None)
    if messages is None or failures is None:
        [messages], [failures] = _messages_about([obj]), _failures_about([obj])
    elsewhere = _arrived_elsewhere(messages)
    earlier = [message for message in messages[1:] if message.needs_somebody and message.pk not in elsewhere]
    shown = [_shown(message, person) for message in [*messages[:1], *earlier][:MAX_SHOWN]]
    return [*(_failed(failure, person) for failure in failures[:MAX_SHOWN]), *shown]


def _arrived_elsewhere(messages: Sequence[OutboundMessage]) -> set[int]:
    """Return those of an object's newest messages of which a copy for another number arrived, without a query.

    A copy is about the same object and newer, so it is among them.
    """
    found: set[int] = set()
    arrived = {message.pk for message in messages if message.has_arrived}
    for message in messages:  # newest first: a copy comes before its original
        if message.copied_to_id in arrived or message.copied_to_id in found:
            found.add(message.pk)
    return found


def _places_of(instances: Sequence[Model]) -> dict[tuple[type[Model], str], dict[str, list[int]]]:
    """The positions of the instances by primary key as text, for each table and database.

    If a row is given twice, as proxy and as concrete model, both are at the same place.
    """
    places: dict[tuple[type[Model], str], dict[str, list[int]]] = {}
    for number, obj in enumerate(instances):
        table = obj._meta.concrete_model or type(obj)
        by_id = places.setdefault((table, database_of(obj)), {})
        by_id.setdefault(source_id_of(obj), []).append(number)
    return places


def _failures_about(instances: Sequence[Model]) -> list[list[ReceiptFailure]]:
    """Return the receipt failures of each instance, newest first, in the order of the instances."""
    found: list[list[ReceiptFailure]] = [[] for _ in instances]
    for (table, alias), by_id in _places_of(instances).items():
        for failure in ReceiptFailure.objects.filter(about(table, alias, by_id)).order_by("-occurred_at"):
            for number in by_id.get(failure.source_id, ()):
                found[number].append(failure)
    return found


def _messages_about(instances: Sequence[Model]) -> list[list[OutboundMessage]]:
    """Return the newest messages about each instance, in the same order."""
    found: list[list[OutboundMessage]] = [[] for _ in instances]
    for (table, alias), by_id in _places_of(instances).items():
        for message in _newest(about(table, alias, by_id)):
            for number in by_id.get(message.source_id, ()):
                found[number].append(message)
    every = [message for messages in found for message in messages]
    ticks.mark_lacking(every)
    outbox.mark_stopped(every)
    return [registry.without_earlier_rows(messages, obj) for messages, obj in zip(found, instances, strict=True)]


def _newest(wanted: Q) -> list[OutboundMessage]:
    messages = OutboundMessage.objects.filter(wanted)
    # The limit is per object: an object with thousands of messages must not displace those of the others.
    place = Window(RowNumber(), partition_by=F("source_id"), order_by=F("pk").desc())
    newest = messages.annotate(place=place).filter(place__lte=MAX_MESSAGES).order_by("-pk")
    return list(newest.select_related("license__lane").defer("text", "image_url", "idempotency_key"))


def _is_for_another(message: OutboundMessage) -> bool:
    """Return True if the message's text may be sent to another number: it is settled, and was not to a group."""
    is_to_number = message.recipient_type == RecipientType.NUMBER and not message.is_forgotten
    return is_to_number and message.status not in UNSETTLED


def _shown(message: OutboundMessage, person: Person) -> Shown:
    may_view = person.may("view_outboundmessage")
    may_resend = message.can_be_resent and not message.is_stopped and person.may("decide_outboundmessage")
    may_lift = message.is_stopped and person.may("lift_recipient")
    may_send_now = message.can_be_sent_now and person.may("decide_outboundmessage")
    may_send_to = _is_for_another(message) and may_view and person.may("add_outboundmessage")
    at = _moment(message)
    return Shown(
        status=message.status,
        mark=status_row(message),
        at=at,
        at_words=short_time(at) if at else "",
        why=_why(message) if may_view else "",
        recipient=phone.written(message.recipient) if may_view else "",
        resend_url=find_url("django_kpwa:message_resend", message.uuid) if may_resend else "",
        asks_first=message.may_have_arrived,
        send_to_url=find_url("django_kpwa:message_send_to", message.uuid) if may_send_to else "",
        send_now_url=find_url("django_kpwa:message_send_now", message.uuid) if may_send_now else "",
        asks_again_url=find_url("django_kpwa:message_asks_again", message.uuid) if may_lift else "",
    )


def _failed(failure: ReceiptFailure, person: Person) -> Shown:
    may_send = person.may("add_outboundmessage") and person.may("view_outboundmessage")
    return Shown(
        status="no_receipt",
        mark=Mark(Tone.BAD, "✕", gettext("no receipt")),
        at=failure.occurred_at,
        at_words=short_time(failure.occurred_at),
        why=str(FAILURES[failure.cause].label) if person.may("view_outboundmessage") else "",
        send_now_url=find_url("django_kpwa:receipt_send_now", failure.pk) if may_send else "",
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
    """Return why the message is not or was not sent; for a refusal without a text of ours, the gateway's words."""
    if message.is_forgotten:
        return message.masked_recipient
    is_unknown = reason_row(message) is CAUSES[Cause.REFUSED]
    if message.status == Status.FAILED and is_unknown and message.reason_words:
        return gettext("the gateway said: %(words)s") % {"words": message.reason_words}
    held = held_by(message)
    if held is not None and message.license is not None:
        told = {"name": message.license.name, "condition": held.label}
        return gettext("the license %(name)s: %(condition)s") % told
    if message.is_undelivered and message.undelivered_words:
        return gettext("the gateway said: %(words)s") % {"words": message.undelivered_words}
    is_told = message.can_be_resent or message.license_id is None
    why = str(reason_row(message).label) if is_told else ""
    # The mark already shows a customer's stop.
    return "" if why == str(status_row(message).label) else why
