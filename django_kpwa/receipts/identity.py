"""What makes a receipt this one: its key, and the fingerprint of the row it is about.

A database gives a primary key again (deleted rows, a restored dump, SQLite's rowids, a numbering that begins anew each
year). So a message whose key is known may be about another row that had the key before. Nothing is sent twice to find
out: where it cannot be told, nothing is sent, and that is shown.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import TYPE_CHECKING

from django.utils.timezone import is_naive

from .. import phone
from ..contents import says_something
from ..exceptions import InvalidPhoneNumberError
from ..models import OutboundMessage, Status, idempotency_digest, source_id_of, stored_name

if TYPE_CHECKING:
    from django.db import models

    from .base import Receipt, Registration

_MOST_OF_A_PART = 80
_MARK = "~"  # follows no percent sign in a part that is quoted
_GIVEN, _TIME = "=", "@"


def key_of(registration: Registration, obj: models.Model, using: str) -> str:
    """The idempotency key of a receipt of `obj`, which is in the database `using`: four parts between colons.

    A proxy's rows are its concrete model's: saved through either, a sale is one sale. Raises `ValueError` for an event
    id that is none.
    """
    event_id = registration.receipt.get_event_id(obj)
    if not isinstance(event_id, str) or not says_something(event_id):
        raise ValueError(f"get_event_id() returned {event_id!r}; it must be a text that is not empty or blank.")
    concrete = obj._meta.concrete_model or type(obj)
    database = f"@{_short(_quoted(using))}" if stored_name(using) else ""
    return f"receipt{database}:{concrete._meta.label_lower}:{_short(_quoted(source_id_of(obj)))}:{_quoted(event_id)}"


def key_of_row(key: str, number: int) -> str:
    """The same receipt of the row that was the `number`th to have this primary key, as far as is known."""
    return key if number == 1 else f"{key}:{number}"


def event_id_of(key: str) -> str:
    """The event id in a key that these made."""
    return key.split(":")[3].replace("%3A", ":").replace("%25", "%")


def occurred_at(receipt: Receipt, obj: models.Model) -> datetime | None:
    """When it happened, as the class says. Raises `ValueError` for a time that is none."""
    moment = receipt.get_occurred_at(obj)
    if moment is not None and (not isinstance(moment, datetime) or is_naive(moment)):
        raise ValueError(f"get_occurred_at() returned {moment!r}; it must be an aware datetime or None.")
    return moment


def fingerprint_of(receipt: Receipt, obj: models.Model, moment: datetime | None) -> str:
    """What is stored with a message of the row that it is about: what the class gives, else when it happened."""
    given = receipt.get_fingerprint(obj)
    if not isinstance(given, str):
        raise ValueError(f"get_fingerprint() returned {given!r}; it must be a text, empty where there is none.")
    if given:
        return f"{_GIVEN}{hashlib.sha256(given.encode('utf-8', 'surrogatepass')).hexdigest()[:40]}"
    return f"{_TIME}{moment.astimezone(timezone.utc).isoformat()}" if moment else ""


@dataclass(frozen=True)
class Row:
    """What is known of the row at hand, `is_new` where the database inserted it just now, and of its receipt."""

    key: str
    phone_number: str = field(repr=False)
    fingerprint: str
    occurred_at: datetime | None
    is_new: bool = False


class Whose(Enum):
    """Which row a known message is about."""

    THIS_ONE = "this one"
    ANOTHER = "another one"
    UNCLEAR = "unclear"


def whose(known: OutboundMessage, row: Row) -> Whose:
    """Whether `known`, which has the key, is about `row`.

    Unclear is also what is about this row and would go to another number now: it went out to the first one, and who
    corrected the number is told.
    """
    if known.status == Status.QUEUED and known.needs_rendering:
        return Whose.THIS_ONE  # everything is asked again when it is written
    differs = bool(row.phone_number) and _goes_to_another(known, row.phone_number)
    if row.fingerprint.startswith(_GIVEN) and known.source_fingerprint.startswith(_GIVEN):
        if row.fingerprint != known.source_fingerprint:
            return Whose.ANOTHER
        return Whose.UNCLEAR if differs else Whose.THIS_ONE
    is_same_time = _is_same_time(row.fingerprint, known.source_fingerprint)
    # What happened after the message was queued; or its time was edited, or moves whenever the row is saved.
    is_later = row.occurred_at is not None and row.occurred_at > known.created_at and not is_same_time
    if (is_later and (differs or row.is_new)) or (row.is_new and differs and not is_same_time):
        return Whose.ANOTHER
    if is_later or differs or (row.is_new and not is_same_time):
        return Whose.UNCLEAR
    return Whose.THIS_ONE


def is_of_an_earlier_row(message: OutboundMessage, receipt: Receipt, obj: models.Model) -> bool:
    """Whether a receipt's message names `obj` as its source, and is about a row that had its primary key before.

    For pages, which show each message to somebody: the number is asked for only where the time is another. Raises what
    the class raises.
    """
    if message.status == Status.QUEUED and message.needs_rendering:
        return False  # it will be about this row
    moment = occurred_at(receipt, obj)
    fingerprint = fingerprint_of(receipt, obj, moment)
    if fingerprint == message.source_fingerprint:
        return False
    if fingerprint.startswith(_GIVEN) and message.source_fingerprint.startswith(_GIVEN):
        return True
    if moment is None or moment <= message.created_at or _is_same_time(fingerprint, message.source_fingerprint):
        return False
    phone_number = phone.typed(receipt.get_phone_number(obj))
    return not phone_number or _goes_to_another(message, phone_number)


def _goes_to_another(known: OutboundMessage, phone_number: str) -> bool:
    """False where it is not kept to whom it went."""
    if not known.recipient or phone_number[:255] == known.recipient_typed:
        return False
    try:
        return phone.parse(phone_number) != known.recipient
    except InvalidPhoneNumberError:
        return True


def _is_same_time(fingerprint: str, known: str) -> bool:
    if not (fingerprint.startswith(_TIME) and known.startswith(_TIME)):
        return False
    first, second = (datetime.fromisoformat(each.removeprefix(_TIME)) for each in (fingerprint, known))
    # A column may keep whole seconds, of what had fractions when it was first saved.
    is_cut = not (first.microsecond and second.microsecond)
    return first == second or (is_cut and abs(first - second) <= timedelta(seconds=1))


def _quoted(part: str) -> str:
    """`part` without colons, and no two parts alike."""
    return part.replace("%", "%25").replace(":", "%3A")


def _short(part: str) -> str:
    """A quoted part of any length, in the room that a key has. What it stands for is stored beside the key."""
    return part if len(part) <= _MOST_OF_A_PART else f"%{_MARK}{idempotency_digest(part)}"
