"""Identifies a receipt by its key, and by the fingerprint of the row that it is about.

A database may reuse a primary key: after rows were deleted or a dump was restored, with SQLite's rowids, or if numbers
begin anew each year. So a message with a known key may be about an earlier row with the same primary key. If that
cannot be decided, nothing is sent, because it could be a second receipt, and a failure is shown.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import TYPE_CHECKING

from django.db import DEFAULT_DB_ALIAS, connections
from django.utils.timezone import is_naive

from .. import phone
from ..contents import says_something
from ..exceptions import InvalidPhoneNumberError, KpwaError
from ..models import OutboundMessage, ReceiptFailure, Status, idempotency_digest, source_id_of, stored_name
from ..validation import reference_by

if TYPE_CHECKING:
    from django.db import models

    from .base import Receipt, Registration

_MAX_PART_LENGTH = 80
_MARK = "~"  # never follows a percent sign in a quoted part, so a shortened part equals no quoted one
_GIVEN, _TIME = "=", "@"


def source_of(registration: Registration, about: OutboundMessage | ReceiptFailure) -> models.Model | None:
    """Return the object that a message or a failure is about, as it is now; None if it does not exist any more.

    It is read by the base manager, because the default manager may hide objects. Raises `KpwaError` if its database is
    not in this process's `DATABASES`.
    """
    model, alias = registration.model, about.source_database or DEFAULT_DB_ALIAS
    if alias not in connections:
        raise KpwaError(f"It was saved in the database {alias!r}, which is not in this process's DATABASES.")
    primary_key = model._meta.pk.to_python(about.source_id)
    return model._base_manager.using(alias).filter(pk=primary_key).first()


def key_of(registration: Registration, obj: models.Model, using: str) -> str:
    """Return the idempotency key of a receipt of `obj` in the database `using`: four parts, separated by colons.

    The key names the concrete model, so that a sale gets the same key if it is saved through a proxy. Do not change the
    key's form: existing messages would no longer be found, and saving a recent object would send its receipt again.

    Raises `ValueError` for an invalid event id.
    """
    event_id = registration.receipt.get_event_id(obj)
    if not isinstance(event_id, str) or not says_something(event_id):
        raise ValueError(f"get_event_id() returned {event_id!r}; it must be a string that is not empty or blank.")
    concrete = obj._meta.concrete_model or type(obj)
    database = f"@{_short(_quoted(using))}" if stored_name(using) else ""
    return f"receipt{database}:{concrete._meta.label_lower}:{_short(_quoted(source_id_of(obj)))}:{_quoted(event_id)}"


def key_of_row(key: str, number: int) -> str:
    """Return the key of the same receipt for the `number`th known row with this primary key, counted from 1."""
    return key if number == 1 else f"{key}:{number}"


def event_id_of(key: str) -> str:
    """Return the event id in a key of `key_of()` or `key_of_row()`."""
    return key.split(":")[3].replace("%3A", ":").replace("%25", "%")


def occurred_at(receipt: Receipt, obj: models.Model) -> datetime | None:
    """Return the result of `get_occurred_at()`. Raises `ValueError` if it is neither an aware datetime nor None."""
    moment = receipt.get_occurred_at(obj)
    if moment is not None and (not isinstance(moment, datetime) or is_naive(moment)):
        raise ValueError(f"get_occurred_at() returned {moment!r}; it must be an aware datetime or None.")
    return moment


def fingerprint_of(receipt: Receipt, obj: models.Model, moment: datetime | None) -> str:
    """Return the fingerprint of `obj` to store with its message: a digest of `get_fingerprint()`, else `moment`.

    It is empty if there is neither. `moment`: when the event happened. Raises `ValueError` if `get_fingerprint()` does
    not return a str.
    """
    given = receipt.get_fingerprint(obj)
    if not isinstance(given, str):
        raise ValueError(f"get_fingerprint() returned {given!r}; it must be a string, empty if there is none.")
    if given:
        return f"{_GIVEN}{hashlib.sha256(given.encode('utf-8', 'surrogatepass')).hexdigest()[:40]}"
    return f"{_TIME}{moment.astimezone(timezone.utc).isoformat()}" if moment else ""


def reference_of(registration: Registration, obj: models.Model) -> str:
    """Return the result of `get_reference()` as it is stored; empty if it raises anything but a database error."""
    return reference_by(lambda: registration.receipt.get_reference(obj), f"a {registration.label}")


@dataclass(frozen=True)
class Row:
    """The present row and the key of its receipt. `is_new` is True if the row was inserted just now."""

    key: str
    phone_number: str = field(repr=False)
    fingerprint: str
    occurred_at: datetime | None
    is_new: bool = False


class Whose(Enum):
    """Which row a known message is about, compared with the present row."""

    THIS_ONE = "this one"
    ANOTHER = "another one"
    UNCLEAR = "unclear"


def whose(known: OutboundMessage, row: Row) -> Whose:
    """Decide whether `known`, a message with the row's key, is about `row`.

    The answer is also `UNCLEAR` if the message is about this row, but the row's number has changed since. The message
    went to the former number, and the person who corrected the number must learn about that.
    """
    if known.status == Status.QUEUED and known.needs_rendering:
        return Whose.THIS_ONE  # all methods of the receipt class are called again when the text is rendered
    differs = bool(row.phone_number) and _goes_to_another(known, row.phone_number)
    if row.fingerprint.startswith(_GIVEN) and known.source_fingerprint.startswith(_GIVEN):
        if row.fingerprint != known.source_fingerprint:
            return Whose.ANOTHER
        return Whose.UNCLEAR if differs else Whose.THIS_ONE
    is_same_time = _is_same_time(row.fingerprint, known.source_fingerprint)
    # The event is later than the message. So this is another row, or its time was edited or changes at every save.
    is_later = row.occurred_at is not None and row.occurred_at > known.created_at and not is_same_time
    if (is_later and (differs or row.is_new)) or (row.is_new and differs and not is_same_time):
        return Whose.ANOTHER
    if is_later or differs or (row.is_new and not is_same_time):
        return Whose.UNCLEAR
    return Whose.THIS_ONE


def is_of_an_earlier_row(message: OutboundMessage, receipt: Receipt, obj: models.Model) -> bool:
    """True if a receipt's message, whose source is `obj`, is about an earlier row with the same primary key.

    This is cheap, because pages call it that list messages: `get_phone_number()` is called only if the times differ.
    Raises whatever the receipt class raises.
    """
    if message.status == Status.QUEUED and message.needs_rendering:
        return False  # its text is still to be rendered, for this row
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
    """True if `phone_number` is not the message's recipient. False if the recipient is not stored any more."""
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
    # A column may store whole seconds only. The object had fractions of a second when it was first saved.
    is_cut = not (first.microsecond and second.microsecond)
    return first == second or (is_cut and abs(first - second) <= timedelta(seconds=1))


def _quoted(part: str) -> str:
    """Return `part` with its colons quoted, so that different parts stay different."""
    return part.replace("%", "%25").replace(":", "%3A")


def _short(part: str) -> str:
    """Return a quoted part, or its digest if it is too long for a key. The full value is stored beside the key."""
    return part if len(part) <= _MAX_PART_LENGTH else f"%{_MARK}{idempotency_digest(part)}"
