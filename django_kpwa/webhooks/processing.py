"""Processes stored events: parses them, acts on them, records the result and sends the site's signals.

- An event is an unverified claim. It can only move a message of its own license forward, have the license's status
  checked again, make its messages to new customers wait, or stop those to its author.
- Acting twice changes nothing, because every move is conditional on the status that it leaves.
- A worker holds an event by a lease (`next_try_at`, numbered by `tries`). If the worker is lost, the beat finds the
  event again.
- Signals are sent after the result is recorded and before `processed_at` is set. If a worker is killed in between, they
  are sent again, so none is lost.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError
from django.utils.module_loading import import_string

from .. import announce, phone
from ..conf import kpwa_settings
from ..containing import contained
from ..contents import storable
from ..gateway import SessionStatus, session_trouble_of
from ..gateway.outcome import has_mark
from ..logs import get_logger, without_controls
from ..masking import masked_traceback
from ..models import (
    EventKind,
    EventStatus,
    WebhookEvent,
    in_seconds,
    write_alias,
)
from ..schedule import TASK_LIMIT_SECONDS
from ..store import store
from ..store.locks import waited_too_long
from ..wake import wake_license_on_commit
from . import matching, stops
from .parsers import ParsedEvent, Parser, Unread, why_too_much

logger = get_logger("django_kpwa.webhooks")

LEASE_SECONDS = 60.0
"""Seconds that a worker holds an event. After that its work counts as lost."""
ANNOUNCING_SECONDS = TASK_LIMIT_SECONDS + 60.0
"""Seconds of the lease while the site's receivers run. It is longer than a task's time limit, so that two runs never
overlap."""
DEADLINE_SECONDS = 40.0
"""Maximum seconds for parsing. An event that takes longer is given up before its lease ends and others try it again."""
MATCH_SECONDS = 3600.0
"""Seconds after an event's arrival during which its message is searched for."""
MAX_LOST_TRIES = 10
"""Number of interrupted tries after which an event is given up, because it may be killing its workers."""

_REPEAT = "An earlier event already delivered this message."
_FIRST_WAIT_SECONDS = 5.0
_QUICK_TRIES = 7
_MAX_WAIT_SECONDS = 1100.0
_BATCH = 100


def process_event(event_id: int, *, clock: Callable[[], float] = time.monotonic) -> bool:
    """Process one stored event, if it is due.

    Args:
        event_id: The primary key of the event.
        clock: Returns the time in seconds, which limits parsing (`DEADLINE_SECONDS`).

    Returns:
        True if a result was recorded, even if it is that the event was given up. False if the event is not due, was
        taken by another worker, waits for a lock, or does not exist any more.

    Raises:
        django.db.Error: The database failed.
    """
    claimed = store().claim_event(event_id, LEASE_SECONDS)
    if claimed is None:
        return False
    event, linked_number = claimed
    if event.tries > MAX_LOST_TRIES:
        return _stop_trying(event)
    read = _read(event, linked_number, clock)
    if read is None:
        return True
    parts, why_not = read
    try:
        findings = _act(event, parts)
    except DatabaseError as error:
        # A frozen process holds the lock on one of the messages. Other events must not wait for it.
        if not store().can_be_left(error):
            raise
        logger.warning("Webhook event %s is postponed: another process has locked its messages.", event.uuid)
        store().record_event(event, {}, next_try_in=_wait(event))
        return False
    parts = [
        replace(part, notes=_REPEAT) if finding.is_repeat else part
        for part, finding in zip(parts, findings, strict=True)
    ]
    return _record_and_announce(event, parts, findings, why_not)


def process_due_events(*, should_stop: Callable[[], bool] = lambda: False) -> int:
    """Process all events that are due, until `should_stop()` returns True. Returns the number of processed events.

    If processing an event raises an exception, it is logged and the event is left for a later run. After `_BATCH` such
    events the run ends.
    """
    processed = 0
    failed: set[int] = set()
    # Events that another process holds. If that process is frozen, they stay due, and would be found again and again.
    others: set[int] = set()
    while len(failed) < _BATCH:
        due = WebhookEvent.objects.to_process().exclude(pk__in=failed | others)
        event_ids = list(due.order_by("next_try_at", "pk").values_list("pk", flat=True)[:_BATCH])
        if not event_ids:
            break
        for event_id in event_ids:
            if should_stop():
                return processed
            try:
                if process_event(event_id):
                    processed += 1
                else:
                    others.add(event_id)
            except Exception as error:
                failed.add(event_id)
                if waited_too_long(error):
                    logger.warning("A webhook event is postponed: another process has locked its rows.")
                    continue
                logger.error("Processing a webhook event failed; it will be retried.\n%s", masked_traceback(error))
    return processed


def reprocess(event: WebhookEvent) -> bool:
    """Process a stored event again, for example with another parser, or because its message exists by now.

    Signals are sent again only if the event was not understood before. Returns False if a worker is processing the
    event, or if it could not be processed now.
    """
    return store().free_event(event.pk) and process_event(event.pk)


def load_parser() -> Parser:
    """Return an instance of `KPWA["WEBHOOK_PARSER"]`.

    Raises `ImproperlyConfigured` if that class cannot be imported or is not a subclass of `Parser`.
    """
    path = kpwa_settings().WEBHOOK_PARSER
    try:
        parser_class = import_string(path)
    except ImportError as error:
        raise ImproperlyConfigured(f"KPWA['WEBHOOK_PARSER'] is {path!r}, which cannot be imported: {error}") from error
    if not (isinstance(parser_class, type) and issubclass(parser_class, Parser)):
        raise ImproperlyConfigured(f"KPWA['WEBHOOK_PARSER'] is {path!r}, not a django_kpwa.webhooks.Parser.")
    return parser_class()


def _stop_trying(event: WebhookEvent) -> bool:
    """Give up an event that may be killing its workers. A result that was recorded before is kept."""
    reason = f"Its processing was interrupted {MAX_LOST_TRIES} times."
    if event.processed_at is None:
        _give_up(event, reason)
        return True
    return store().record_event(event, {"error": reason}, next_try_in=None)


def _read(event: WebhookEvent, linked_number: str, clock: Callable[[], float]) -> tuple[list[ParsedEvent], str] | None:
    """Return the result of `_parse()`. None if parsing failed or took too long, and the event was given up for that."""
    began_at = clock()
    # A site's parser may use the database: its failure must leave a transaction of the caller usable.
    with contained(write_alias()) as caught:
        parsed = _parse(event, linked_number)
    if caught.error is not None:
        logger.warning("Webhook event %s could not be parsed (%s).", event.uuid, type(caught.error).__name__)
        _give_up(event, f"{type(caught.error).__name__}: {caught.error}")
        return None
    if clock() - began_at > DEADLINE_SECONDS:
        _give_up(event, f"Reading it took more than {DEADLINE_SECONDS:g} seconds.")
        return None
    return parsed


def _parse(event: WebhookEvent, linked_number: str) -> tuple[list[ParsedEvent], str]:
    """Return the parts of the event; and the reason if nothing could be read, else an empty text."""
    parser = load_parser()
    header = {"content_encoding": event.content_encoding} if _takes_encoding(type(parser)) else {}
    parsed = parser.parse(bytes(event.body), event.content_type, linked_number=linked_number, **header)
    if not isinstance(parsed, (list, tuple)) or not all(isinstance(part, ParsedEvent) for part in parsed):
        raise TypeError("The parser did not return a list of ParsedEvent.")
    if isinstance(parsed, Unread):
        return [], parsed.reason
    why_not = why_too_much(parsed)
    return ([], why_not) if why_not else (list(parsed), "")


@cache
def _takes_encoding(parser_class: type[Parser]) -> bool:
    """True if `parse()` takes `content_encoding`. A site's own parser may not: the argument was added later."""
    taken = inspect.signature(parser_class.parse).parameters.values()
    return any(one.name == "content_encoding" or one.kind == one.VAR_KEYWORD for one in taken)


def _act(event: WebhookEvent, parts: Sequence[ParsedEvent]) -> list[matching.Finding]:
    """Act on everything that the event reports, and return a `Finding` for each part. Safe to repeat.

    Raises `django.db.Error`.
    """
    findings = matching.act(event, parts)
    stops.heed(event, [part for part, finding in zip(parts, findings, strict=True) if not finding.is_repeat])
    _note_session(event, parts)
    _note_restriction(event, parts)
    return findings


def _record_and_announce(
    event: WebhookEvent, parts: Sequence[ParsedEvent], findings: Sequence[matching.Finding], why_not: str
) -> bool:
    """Record the result of a claimed event, and send its signals after that. Returns True if it was recorded.

    `why_not`: the reason if nothing could be read, else empty.
    """
    status, next_try_in = _verdict(event, findings)
    announces = event.processed_at is None
    found: dict[str, Any] = {"status": status, "error": why_not, **_columns(parts, findings)}
    if not _has_listeners(findings):
        return store().record_event(event, found, next_try_in=next_try_in, is_processed=announces)
    recorded = store().record_event(event, found, next_try_in=ANNOUNCING_SECONDS if announces else next_try_in)
    told = WebhookEvent.objects.get(pk=event.pk)
    # The worker that moved a message sends its signal, even if another worker has taken the event meanwhile: that
    # worker finds the message already moved, and sends nothing.
    announce.messages_moved(
        [(finding.message_id, status) for finding in findings if finding.message_id for status in finding.moved], told
    )
    announce.messages_undelivered([f.message_id for f in findings if f.message_id and f.is_undelivered], told)
    if recorded and announces:
        paired = zip(parts, findings, strict=True)
        announce.event_processed(
            told, [part for part, finding in paired if part.kind == EventKind.INCOMING and not finding.is_repeat]
        )
        store().record_event(event, {}, next_try_in=next_try_in, is_processed=True)
    return recorded


def _verdict(event: WebhookEvent, findings: Sequence[matching.Finding]) -> tuple[EventStatus, float | None]:
    """Return the event's new status, and the seconds until the next try (None: no further try)."""
    if not findings:
        return EventStatus.UNRECOGNISED, None
    if not any(finding.is_missing for finding in findings):
        return EventStatus.PROCESSED, None
    if not any(finding.may_come for finding in findings):
        return EventStatus.UNMATCHED, None
    held = WebhookEvent.objects.filter(pk=event.pk, tries=event.tries)
    if event.tries >= MAX_LOST_TRIES or not held.filter(received_at__gt=in_seconds(-MATCH_SECONDS)).exists():
        return EventStatus.UNMATCHED, None
    return EventStatus.UNMATCHED, _wait(event)


def _wait(event: WebhookEvent) -> float:
    """Return the seconds until the next try.

    The first ten waits together must be longer than `MATCH_SECONDS`: an event with more than `MAX_LOST_TRIES` tries is
    assumed to kill its workers.
    """
    return _FIRST_WAIT_SECONDS * 2 ** (event.tries - 1) if event.tries < _QUICK_TRIES else _MAX_WAIT_SECONDS


def _columns(parts: Sequence[ParsedEvent], findings: Sequence[matching.Finding]) -> dict[str, Any]:
    """Return the columns that record what the parser understood, and which message the event is about."""
    columns: dict[str, Any] = {}
    if parts:
        first, *more = (part.as_json() for part in parts)
        columns |= {"kind": parts[0].kind, "gateway_id": parts[0].gateway_id[:255]}
        columns["understood"] = {**first, "more": more} if more else first
        is_new = parts[0].kind == EventKind.INCOMING and not findings[0].is_repeat
        columns["sender_number"] = parts[0].sender[:64] if is_new else ""
    message_id = next((finding.message_id for finding in findings if finding.message_id), None)
    return columns if message_id is None else columns | {"message_id": message_id}


def _note_session(event: WebhookEvent, parts: Sequence[ParsedEvent]) -> None:
    """Store a problem with the account that the event reports.

    No other status is stored, because it is queried from the gateway itself.
    """
    words = [part.session_status for part in parts if part.kind == EventKind.SESSION]
    if not words or session_trouble_of(words[-1]) is None:
        return
    previous = store().note_session_word(event.license_id, words[-1], event.received_at)
    if previous is not None:
        announce.session_became(event.license, SessionStatus.UNKNOWN, previous)


def _note_restriction(event: WebhookEvent, parts: Sequence[ParsedEvent]) -> None:
    """Store that WhatsApp restricts the number, or no longer does, if the event says so and is not reprocessed."""
    told = [part for part in parts if part.kind == EventKind.SESSION]
    if not told or event.processed_at is not None:
        return
    restricts, word = told[-1].restricts, told[-1].session_status
    if restricts is None and has_mark(word, kpwa_settings().RESTRICTION_MARKS):
        restricts = True
    words = phone.mask_numbers(without_controls(word))
    if restricts and store().begin_restriction(event.license_id, words):
        logger.warning("WhatsApp restricts the number of license %s: %s", event.license_id, words)
    elif restricts is False and store().end_restriction(event.license_id):
        logger.info("Webhook event %s says that WhatsApp restricts the number no longer.", event.uuid)
        wake_license_on_commit(event.license_id)


def _give_up(event: WebhookEvent, error: str) -> None:
    masked = storable(without_controls(phone.mask_numbers(error)), 2000)
    store().record_event(event, {"status": EventStatus.FAILED, "error": masked}, next_try_in=None)


def _has_listeners(findings: Sequence[matching.Finding]) -> bool:
    """True if a receiver is connected for the event, or for a message that it moved.

    If none is, the event need not be read again for the signals.
    """
    return (
        announce.events_have_listeners()
        or any(announce.has_listeners(status) for finding in findings for status in finding.moved)
        or (any(finding.is_undelivered for finding in findings) and announce.undelivered_has_listeners())
    )
