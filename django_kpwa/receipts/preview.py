"""What a receipt class would say about an object, for people to look at: nothing is queued, and nothing is raised.

Each method of the class is asked as at a send, and what it raises is told in words.
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
class Problem:
    """What a method raised, in words, phone numbers masked."""

    method: str
    words: str


@dataclass(frozen=True)
class Preview:
    """What is known of one receipt of an object; empty where a method raised, which `problems` tell."""

    is_wanted: bool = False
    """What `should_send()` says."""
    is_recent: bool = True
    """False: older than `max_age`, so that a save sends nothing; `send_now()` does."""
    phone_number: str = field(default="", repr=False)
    """As the class gives it."""
    recipient: str = field(default="", repr=False)
    """The number that it means, in digits."""
    number_problem: str = field(default="", repr=False)
    """Why it means none."""
    event_id: str = ""
    license: License | None = None
    waits_because: str = ""
    """Why it would be queued and wait: it cannot be told which license sends. Empty where it can."""
    rendered: Rendered | None = None
    known: OutboundMessage | None = None
    """The message that this receipt has already."""
    is_unclear: bool = False
    """That message may be about another object, which had its primary key before, or its number was corrected since."""
    problems: list[Problem] = field(default_factory=list)

    @property
    def can_be_sent(self) -> bool:
        return self.known is None and self.is_wanted and bool(self.recipient) and not self.problems


def preview(registration: Registration, obj: models.Model) -> Preview:
    """Ask the receipt class about `obj`, a saved object."""
    receipt = registration.receipt
    using = database_of(obj)
    asked = _Asked(using)
    with timezone.override(timezone.get_default_timezone()):
        is_wanted = asked("should_send", lambda: bool(receipt.should_send(obj)), False)
        phone_number = asked("get_phone_number", lambda: phone.typed(receipt.get_phone_number(obj)), "")
        recipient, number_problem = _recipient(phone_number) if phone_number else ("", "")
        moment = asked("get_occurred_at", lambda: occurred_at(receipt, obj), None)
        fingerprint = asked("get_fingerprint", lambda: fingerprint_of(receipt, obj, moment), "")
        key = asked("get_event_id", lambda: key_of(registration, obj, using), "")
        row = Row(key, phone_number, fingerprint, moment)
        found = find_known(registration, row, purged_message_of(key)) if key else None
        known = found.message if found and found.whose is not Whose.ANOTHER else None
        license_ = (
            known.license
            if known and known.license_id
            else asked("get_license", lambda: _named_license(registration, obj), None)
        )
        waits_because = ""
        if license_ is None and not any(problem.method == "get_license" for problem in asked.problems):
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
        number_problem=number_problem,
        event_id=event_id,
        license=license_,
        waits_because=waits_because,
        rendered=rendered,
        known=known,
        is_unclear=found is not None and found.whose is Whose.UNCLEAR,
        problems=asked.problems,
    )


def known_messages(registration: Registration, objects: Iterable[models.Model]) -> dict[Any, OutboundMessage]:
    """By primary key, the messages that this receipt of `objects` has already, without their texts: one query.

    All `objects` are of one database.
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
                earlier[primary_key] = key  # it is about nothing any more: an earlier row had this key
            elif message is not None:
                known[primary_key] = message
        keys, number = earlier, number + 1
    return known


def _recipient(phone_number: str) -> tuple[str, str]:
    try:
        return phone.parse(phone_number), ""
    except InvalidPhoneNumberError as error:
        return "", str(error)


class _Asked:
    """Asks a receipt class, and keeps what it raises."""

    def __init__(self, using: str) -> None:
        self._aliases = (using, write_alias())
        self.problems: list[Problem] = []

    def __call__(self, method: str, question: Callable[[], Answer], otherwise: Answer) -> Answer:
        answer = otherwise
        with contained(*self._aliases) as caught:
            answer = question()
        if caught.error is None:
            return answer
        self.problems.append(Problem(method, words_of(caught.error)))
        return otherwise


def _named_license(registration: Registration, obj: models.Model) -> License | None:
    return license_of(registration.receipt.get_license(obj))


def _messages_of(keys: Iterable[str]) -> dict[str, OutboundMessage]:
    digests = {idempotency_digest(key): key for key in keys}
    messages = OutboundMessage.objects.filter(idempotency_digest__in=digests)
    found = messages.select_related("license").defer("text")
    return {digests[message.idempotency_digest or ""]: message for message in found}
