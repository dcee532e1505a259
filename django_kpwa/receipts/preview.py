"""Shows a person what a receipt class would send for an object, without queueing anything.

Each method of the class is called as for a real receipt. If it raises an exception, the preview describes that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from django.db import models
from django.utils import timezone

from .. import phone
from ..conf import kpwa_settings
from ..containing import contained
from ..exceptions import InvalidPhoneNumberError
from ..masking import words_of
from ..models import License, OutboundMessage, database_of, idempotency_digest, write_alias
from ..outbox import license_of
from ..store.choosing import choose
from .base import Registration
from .identity import Row, Whose, event_id_of, fingerprint_of, key_of, key_of_row, occurred_at
from .queueing import find_known, is_recent, purged_message_of
from .render import Rendered, write

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Preview:
    """One receipt of an object. If a method raised an exception, its field is empty, and `problems` names it."""

    is_wanted: bool = False
    """The result of `should_send()`."""
    is_recent: bool = True
    """False if the object is older than `max_age`. In this case `send_now()` sends the receipt, but a save does not."""
    phone_number: str = field(default="", repr=False)
    """The number as `get_phone_number()` returns it."""
    recipient: str = field(default="", repr=False)
    """The phone number in digits; empty if it is invalid."""
    event_id: str = ""
    license: License | None = None
    waits_because: str = ""
    """The reason why no license can be chosen, so that the message would wait in the queue; empty if one can."""
    rendered: Rendered | None = None
    known: OutboundMessage | None = None
    """The existing message of this receipt, if there is one."""
    is_unclear: bool = False
    """True if `known` may be about an earlier object with the same primary key, or if the number was changed since."""
    problems: dict[str, str] = field(default_factory=dict)
    """The texts of exceptions, with phone numbers masked, by the name of the method that raised them."""

    @property
    def can_be_sent(self) -> bool:
        """True if `send_now()` would queue a message, which does not depend on `max_age`."""
        return self.known is None and self.is_wanted and bool(self.recipient) and not self.problems


def preview(registration: Registration, obj: models.Model) -> Preview:
    """Preview the receipt of the saved object `obj`. Errors of the class are not raised but returned as `problems`."""
    receipt = registration.receipt
    using = database_of(obj)
    asked = _Asked(using)
    with timezone.override(timezone.get_default_timezone()):
        is_wanted = asked("should_send", lambda: bool(receipt.should_send(obj)), False)
        phone_number = asked("get_phone_number", lambda: phone.typed(receipt.get_phone_number(obj)), "")
        recipient = _recipient(phone_number)
        moment = asked("get_occurred_at", lambda: occurred_at(receipt, obj), None)
        fingerprint = asked("get_fingerprint", lambda: fingerprint_of(receipt, obj, moment), "")
        key = asked("get_event_id", lambda: key_of(registration, obj, using), "")
        row = Row(key, phone_number, fingerprint, moment)
        _, known, belongs_to = find_known(registration, row, purged_message_of(key)) if key else ("", None, None)
        known = None if belongs_to is Whose.ANOTHER else known
        license_ = (
            known.license
            if known and known.license_id
            else asked("get_license", lambda: license_of(receipt.get_license(obj)), None)
        )
        waits_because = ""
        if license_ is None and "get_license" not in asked.problems:
            chosen = choose(kpwa_settings().DEFAULT_LICENSE)
            license_, waits_because = chosen.license, str(chosen.why_not.label) if chosen.why_not else ""
        event_id = event_id_of(key) if key else ""
        rendered = None
        if event_id and (license_ is not None or waits_because):
            rendered = asked("render", lambda: write(receipt, obj, license_, event_id), None)
    return Preview(
        is_wanted=is_wanted,
        is_recent=is_recent(receipt, moment),
        phone_number=phone_number,
        recipient=recipient,
        event_id=event_id,
        license=license_,
        waits_because=waits_because,
        rendered=rendered,
        known=known,
        is_unclear=belongs_to is Whose.UNCLEAR,
        problems=asked.problems,
    )


def known_messages(registration: Registration, objects: Iterable[models.Model]) -> dict[Any, OutboundMessage]:
    """Return the existing messages of this receipt, by the primary key of their object, with their texts deferred.

    All `objects` must be from one database. This takes one query, and more only for primary keys that were reused.
    """
    keys: dict[Any, str] = {}
    for obj in objects:
        using = database_of(obj)
        if key := _Asked(using)("get_event_id", partial(key_of, registration, obj, using), ""):
            keys[obj.pk] = key
    known: dict[Any, OutboundMessage] = {}
    number = 1
    while keys:
        found = _messages_of(key_of_row(key, number) for key in keys.values())
        earlier = {}
        for primary_key, key in keys.items():
            message = found.get(key_of_row(key, number))
            if message is not None and message.source_content_type_id is None:
                earlier[primary_key] = key  # separated from its source: it was about an earlier row with this key
            elif message is not None:
                known[primary_key] = message
        keys, number = earlier, number + 1
    return known


def _recipient(phone_number: str) -> str:
    try:
        return phone.parse(phone_number)
    except InvalidPhoneNumberError:
        return ""


class _Asked:
    """Calls methods of a receipt class, and collects what they raise as `problems`."""

    def __init__(self, using: str) -> None:
        self._aliases = (using, write_alias())
        self.problems: dict[str, str] = {}

    def __call__(self, method: str, question: Callable[[], Answer], otherwise: Answer) -> Answer:
        answer = otherwise
        with contained(*self._aliases) as caught:
            answer = question()
        if caught.error is None:
            return answer
        self.problems[method] = words_of(caught.error)
        return otherwise


def _messages_of(keys: Iterable[str]) -> dict[str, OutboundMessage]:
    digests = {idempotency_digest(key): key for key in keys}
    messages = OutboundMessage.objects.filter(idempotency_digest__in=digests)
    found = messages.select_related("license").defer("text")
    return {digests[message.idempotency_digest or ""]: message for message in found}
