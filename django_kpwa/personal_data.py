"""Requests of the people behind phone numbers: exports all data held about a number, or empties it.

The site's own tables, backups and logs are not covered.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from django.views.decorators.debug import sensitive_variables

from . import announce, phone
from .containing import loud
from .logs import get_logger
from .models import OutboundMessage, SendAttempt, WebhookEvent, write_alias
from .store import store

logger = get_logger("django_kpwa.personal_data")

_AT_ONCE = 200
"""Maximum number of messages whose events are read, or of events, per query."""


@dataclass(frozen=True)
class Forgotten:
    """What `forget()` did: how many messages it cancelled first, and how many rows of each kind it emptied.

    `is_stopped`: the number had a stop, which still holds.
    `left_messages`: messages that were left because they are being sent.
    `left_events`: webhook events that were left because they are not processed yet.
    `is_complete`: False if there was no time to search all events.
    """

    cancelled: int
    messages: int
    attempts: int
    events: int
    failures: int
    is_stopped: bool
    left_messages: int
    left_events: int
    is_complete: bool

    @property
    def is_done(self) -> bool:
        """True if nothing is left, so that `forget()` need not be called again."""
        return self.is_complete and not self.left_messages and not self.left_events


@sensitive_variables()
@loud(write_alias)
def forget(number: str, *, within_seconds: float | None = None) -> Forgotten:
    """Cancel what waits for `number`, in digits, and empty the data held about it. Idempotent.

    A stop of the number still holds afterwards, by a keyed digest. `within_seconds`: time limit for searching webhook
    events; None: no limit. Raises `django.db.Error`; what was emptied until then stays empty.
    """
    until = None if within_seconds is None else time.monotonic() + within_seconds
    cancelled = store().cancel_all(number)
    announce.messages_moved(cancelled)
    emptied = store().empty_messages(number)
    events, left_events, is_complete = store().empty_events(
        number, lambda: until is not None and time.monotonic() > until
    )
    failures = store().empty_failures(number)
    # Last, because the recipient's hidden id is needed to find the events from this number.
    is_stopped = store().forget_recipient(number) if is_complete else bool(store().why_stopped(number))
    told = Forgotten(
        cancelled=len(cancelled),
        messages=emptied.messages,
        attempts=emptied.attempts,
        events=emptied.events + events,
        failures=failures,
        is_stopped=is_stopped,
        left_messages=store().count_left(number),
        left_events=left_events,
        is_complete=is_complete,
    )
    logger.info("The data about a number were emptied (%s messages, %s events).", told.messages, told.events)
    return told


@sensitive_variables()
def held_about(number: str) -> dict[str, Any]:
    """Return all data held about `number`, in digits: rows of our tables as dicts. Raises `django.db.Error`."""
    messages = list(OutboundMessage.objects.filter(recipient=number).order_by("pk").values())
    attempts = SendAttempt.objects.filter(message_id__in=[message["id"] for message in messages])
    by_message: dict[int, list[Any]] = {}
    for attempt in attempts.order_by("message_id", "number").values():
        by_message.setdefault(attempt["message_id"], []).append(attempt)
    pattern = phone.spellings(number)
    failures = store().find_failures(number).order_by("pk").values()
    return {
        "number": number,
        "messages": [message | {"attempts": by_message.get(message["id"], [])} for message in messages],
        "events": [_event(row) for row in _events_about(number, [message["id"] for message in messages])],
        "failures": [row for row in failures if pattern.search(f"{row['error']} {row['source_reference']}")],
        "stops": list(store().recipients_of(number).order_by("pk").values()),
    }


@sensitive_variables()
def _events_about(number: str, message_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield the events from `number`, about its messages, or that contain it, each once."""
    told: set[int] = set()
    parts = (message_ids[start : start + _AT_ONCE] for start in range(0, len(message_ids), _AT_ONCE))
    by_message = (
        list(WebhookEvent.objects.filter(message_id__in=part).order_by("pk").values_list("pk", flat=True))
        for part in parts
    )
    for ids in chain(by_message, store().find_events(number, lambda: False)):
        new = [pk for pk in ids or () if pk not in told]
        told.update(new)
        for start in range(0, len(new), _AT_ONCE):
            rows: Any = WebhookEvent.objects.filter(pk__in=new[start : start + _AT_ONCE]).order_by("pk").values()
            yield from rows


@sensitive_variables()
def _event(row: dict[str, Any]) -> dict[str, Any]:
    """Return an event's columns, with its body as text, or in base64 if it is not UTF-8."""
    body = bytes(row.pop("body"))
    try:
        return row | {"body": body.decode()}
    except UnicodeDecodeError:
        return row | {"body_base64": base64.b64encode(body).decode("ascii")}
