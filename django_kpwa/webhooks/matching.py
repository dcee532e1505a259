"""Finds the messages that an event reports on and moves them forward, with a bounded number of queries.

- Messages are found by the gateway's ids.
- An echo is a message of the site's own that the gateway posts back. It is also found by license, recipient and text,
  if exactly one message fits.
- An id that was matched once keeps belonging to its message. An echo with that id is not matched by its text again.
- If in doubt, nothing is moved: a message that stays `unknown` waits for a person, but one that is wrongly `sent` is
  lost.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

from django.db.models import Q
from django.utils.dateparse import parse_datetime

from .. import phone
from ..gateway.outcome import OutcomeKind
from ..logs import without_controls
from ..models import (
    ARRIVED,
    EventKind,
    OutboundMessage,
    RecipientType,
    SeenId,
    SendAttempt,
    Status,
    WebhookEvent,
)
from ..store import decisions, store
from ..store.events import Attempt, seen_digest
from .parsers import DeliveryState, ParsedEvent

ECHO_SECONDS = 86_400.0
"""Seconds during which an accepted message may still get its own echo. An echo with its text may be the message's own
until then."""
CLOCK_SECONDS = 10.0
"""Seconds by which the gateway's clock may be behind ours. It often drops fractions of a second as well."""

MAX_CANDIDATES = 200
"""Maximum number of attempts that are compared with an echo's text. If there are more, none is matched, because a
better match may be among those that were not read."""
# Maximum number of messages that are moved one by one. More of them are moved by `move_many()`.
_MOVED_ONE_BY_ONE = 2
_MOVES_TO = {DeliveryState.DELIVERED: Status.DELIVERED, DeliveryState.READ: Status.READ}
_STEPS = (Status.SENT, Status.DELIVERED, Status.READ)
_PROVES_ACCEPTED = {DeliveryState.SENT, DeliveryState.DELIVERED, DeliveryState.READ}
# The statuses from which a message can still move to each of these.
_BEFORE = {
    Status.SENT: [Status.UNKNOWN, Status.QUEUED],
    Status.DELIVERED: [Status.UNKNOWN, Status.QUEUED, Status.SENDING, Status.SENT],
    Status.READ: [Status.UNKNOWN, Status.QUEUED, Status.SENDING, Status.SENT, Status.DELIVERED],
}


# Unix time in seconds, or in a finer unit, which the number of digits shows.
_EPOCH = re.compile(r"([0-9]{9,10})(?:\.[0-9]{1,9}|[0-9]{3}|[0-9]{6}|[0-9]{9})?")


class Finding(NamedTuple):
    """The result of one part of an event. `moved`: the statuses through which its message moved, in order."""

    message_id: int | None = None
    moved: tuple[Status, ...] = ()
    is_missing: bool = False
    """True if the part reports on a message that was not found, or that could not be moved yet."""
    may_come: bool = False
    """True if a later try may find or move the message."""
    is_undelivered: bool = False
    """True if the part reported the message as not delivered, and that was new."""
    is_repeat: bool = False
    """True for a customer's message that an earlier event, or an earlier part, has already delivered."""


_MISSING = Finding(is_missing=True, may_come=True)


def act(event: WebhookEvent, parts: Sequence[ParsedEvent]) -> list[Finding]:
    """Move the messages of the event's license that `parts` report on. Safe to repeat.

    Returns one `Finding` for each part, in the same order. Raises `django.db.Error`, for example because another
    process holds a lock for too long.
    """
    found: list[Attempt | None] = [None] * len(parts)
    telling = [number for number, part in enumerate(parts) if part.kind in (EventKind.STATE, EventKind.OWN)]
    if telling:
        _match(event, parts, telling, found)
    findings = _move(parts, telling, found) if any(found) else {}
    repeats = _repeats(event, parts)
    return [
        findings.get(number) or (_not_found(part) if number in telling else Finding(is_repeat=number in repeats))
        for number, part in enumerate(parts)
    ]


def _not_found(part: ParsedEvent) -> Finding:
    # The state of a message that is not the site's own does not matter, so it is not missing.
    if part.is_own is False:
        return Finding()
    return _MISSING if part.gateway_ids or part.is_own else Finding(is_missing=True)


# Finding the message


def _match(
    event: WebhookEvent, parts: Sequence[ParsedEvent], telling: Sequence[int], found: list[Attempt | None]
) -> None:
    """For each number in `telling`, set `found[number]` to the attempt on which the part `parts[number]` reports."""
    ids = {gateway_id for number in telling for gateway_id in parts[number].gateway_ids}
    attempts = (store().find_attempts(event.license_id, sorted(ids)) if ids else []) or []
    by_id: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        by_id.setdefault(attempt.gateway_id, []).append(attempt)
    open_numbers = []
    for number in telling:
        named = [attempt for gateway_id in parts[number].gateway_ids for attempt in by_id.get(gateway_id, [])]
        found[number] = _only_message(named)
        if not named and (parts[number].is_own or parts[number].gateway_ids):
            open_numbers.append(number)
    _match_seen(event, parts, open_numbers, found)


def _match_seen(
    event: WebhookEvent, parts: Sequence[ParsedEvent], numbers: Sequence[int], found: list[Attempt | None]
) -> None:
    """Find the attempts of echoes whose ids no attempt has: by an id that was matched before, else by the text."""
    echoes = [number for number in numbers if parts[number].is_own]
    # A part that reports only a state is not searched for: it has the id under which its message was sent or echoed.
    if not echoes:
        return
    digests = {
        number: [seen_digest(event.license_id, "echo", gateway_id) for gateway_id in parts[number].gateway_ids]
        for number in echoes
    }
    every = [digest for part in digests.values() for digest in part]
    seen = store().find_seen(every) if every else {}
    unseen = []
    for number in echoes:
        owners = {seen[digest].message_id for digest in digests[number] if digest in seen}
        if not owners:
            unseen.append(number)
        elif len(owners) == 1:
            found[number] = _newest_of(event.license_id, owners.pop())
    fitting = {number: attempt for number, attempt in _by_content(event, parts, unseen).items() if attempt}
    claims = [(digest, attempt.message_id) for number, attempt in fitting.items() for digest in digests[number]]
    owned = store().claim_seen(event.pk, claims) if claims else {}
    for number, attempt in fitting.items():
        # If another worker has matched one of these ids to another message meanwhile, the id stays with that message.
        if all(owned[digest].message_id == attempt.message_id for digest in digests[number]):
            found[number] = attempt


def _newest_of(license_id: int, message_id: int | None) -> Attempt | None:
    """Return the attempt of a message to which an echo of it is attributed, see `_only_message()`."""
    attempts = SendAttempt.objects.filter(message_id=message_id, message__license_id=license_id)
    rows = attempts.order_by("-pk").values_list(
        "message_id", "number", "outcome", "gateway_id", "message__status", "pk"
    )[:MAX_CANDIDATES]
    return _only_message([Attempt(*row) for row in rows])


_Content = tuple[str, str, str]
_Candidate = tuple[Attempt, datetime]
"""An attempt that an echo may belong to, and when it began."""


def _by_content(event: WebhookEvent, parts: Sequence[ParsedEvent], numbers: Sequence[int]) -> dict[int, Attempt | None]:
    wanted = {number: content for number in numbers if (content := _content_of(parts[number])) is not None}
    if not wanted:
        return {}
    candidates = _candidates(event, {recipient for _, recipient, _ in wanted.values()})
    accepted = {
        attempt.message_id
        for content in wanted.values()
        for attempt, _ in candidates.get(content, [])
        if attempt.outcome == OutcomeKind.ACCEPTED
    }
    echoed = _echoed(accepted) if accepted else set()
    return {
        number: _only_message(
            [
                attempt
                for attempt, started_at in candidates.get(content, [])
                if _may_be_echoed(attempt, echoed) and _may_be_of(started_at, parts[number])
            ]
        )
        for number, content in wanted.items()
    }


def _content_of(part: ParsedEvent) -> _Content | None:
    recipient = part.group if part.is_group else part.recipient
    if not recipient or not (part.text or part.media_url):
        return None
    return RecipientType.GROUP if part.is_group else RecipientType.NUMBER, recipient, _normalised(part.text)


def _candidates(event: WebhookEvent, recipients: set[str]) -> dict[_Content, list[_Candidate]]:
    """Return the attempts to which echoes in this event may belong, newest first, grouped by recipient and text.

    The result is empty if there are more than `MAX_CANDIDATES`.
    """
    since = event.received_at - timedelta(seconds=ECHO_SECONDS)
    doubtful = Q(outcome__in=[OutcomeKind.RUNNING, OutcomeKind.IN_DOUBT])
    attempts = (
        SendAttempt.objects
        .filter(
            doubtful | Q(outcome=OutcomeKind.ACCEPTED, started_at__gte=since),
            message__license_id=event.license_id,
            message__recipient__in=recipients,
            started_at__lte=event.received_at,
        )
        .order_by("-pk")
        .values_list(
            "message_id", "number", "outcome", "gateway_id", "message__status", "pk",
            "message__recipient_type", "message__recipient", "message__text", "started_at",
        )
    )  # fmt: skip
    rows: list[Any] = list(attempts[: MAX_CANDIDATES + 1])
    if len(rows) > MAX_CANDIDATES:
        return {}
    found: dict[_Content, list[_Candidate]] = {}
    for *columns, recipient_type, recipient, text, started_at in rows:
        content = (recipient_type, recipient, _normalised(text))
        found.setdefault(content, []).append((Attempt(*columns), started_at))
    return found


def _echoed(message_ids: set[int]) -> set[int]:
    """Return those of `message_ids` whose own echo has come. No other echo can belong to them."""
    events = WebhookEvent.objects.filter(message_id__in=message_ids, kind=EventKind.OWN)
    seen = SeenId.objects.filter(message_id__in=message_ids)
    return set(events.values_list("message_id", flat=True).union(seen.values_list("message_id", flat=True)))


def _may_be_echoed(attempt: Attempt, echoed: set[int]) -> bool:
    """True unless the attempt was accepted and its own echo has already come."""
    return attempt.outcome != OutcomeKind.ACCEPTED or attempt.message_id not in echoed


def _may_be_of(started_at: datetime, part: ParsedEvent) -> bool:
    """False if the gateway's own time shows that the message was sent before the attempt began."""
    left_at = time_of(part.occurred_at)
    return left_at is None or left_at >= started_at - timedelta(seconds=CLOCK_SECONDS)


def _only_message(attempts: list[Attempt]) -> Attempt | None:
    """Return the newest of `attempts` if all belong to one message, else None.

    An attempt that is not accepted yet is preferred to a newer one that is.
    """
    if len({attempt.message_id for attempt in attempts}) != 1:
        return None
    open_ones = [attempt for attempt in attempts if attempt.outcome != OutcomeKind.ACCEPTED]
    return (open_ones or attempts)[0]


def _normalised(text: str) -> str:
    return text.replace("\r\n", "\n").strip()


def time_of(written: str) -> datetime | None:
    """Return the gateway's time `written`, which is Unix time or ISO 8601 with a zone; None if it is neither."""
    written = written.strip()
    epoch = _EPOCH.fullmatch(written)
    try:
        if epoch is not None:
            digits = written.partition(".")[0]
            return datetime.fromtimestamp(int(digits[:10]), tz=timezone.utc)
        found = parse_datetime(written) if len(written) <= 64 else None
    except (ValueError, OverflowError):
        return None
    return found if found is not None and found.tzinfo is not None else None


# Moving the message


def _move(parts: Sequence[ParsedEvent], telling: Sequence[int], found: Sequence[Attempt | None]) -> dict[int, Finding]:
    """Move each message that was found to the most advanced status that any part reports for it.

    After that, a message that is still `sent` is marked if a part reports it as not delivered. A report that a phone
    has the message prevails, in whatever order the reports came.
    """
    findings: dict[int, Finding] = {}
    firsts: dict[int, int] = {}
    statuses: dict[int, Status] = {}
    for number in telling:
        attempt = found[number]
        if attempt is None:
            continue
        findings[number] = Finding(attempt.message_id)
        if _proves_accepted(parts[number]):
            status = _MOVES_TO.get(parts[number].state, Status.SENT)
            firsts.setdefault(attempt.message_id, number)
            known = statuses.get(attempt.message_id, Status.SENT)
            statuses[attempt.message_id] = max(known, status, key=_STEPS.index)
    moves = {}
    for message_id, number in firsts.items():
        attempt = found[number]
        if attempt is not None and not _says_nothing_new(attempt, statuses[message_id]):
            moves[number] = (attempt, statuses[message_id], parts[number].gateway_id)
    became = _carry_out(list(moves.values()))
    unmoved = [
        attempt.message_id
        for attempt, status, _ in moves.values()
        if status == Status.SENT or status not in became.get(attempt.message_id, [])
    ]
    now = _statuses(unmoved) if unmoved else {}
    for number, (attempt, status, _) in moves.items():
        # The send may still be in flight, or about to be recorded. The message can be moved once that is done.
        waits = now.get(attempt.message_id) in _BEFORE[status]
        told = tuple(became.get(attempt.message_id, []))
        findings[number] = findings[number]._replace(moved=told, is_missing=waits, may_come=waits)
    for number in telling:
        attempt = found[number]
        if attempt is not None and parts[number].state == DeliveryState.FAILED:
            words = phone.mask_numbers(without_controls(parts[number].state_words))
            if store().note_undelivered(attempt.message_id, attempt.number, words):
                findings[number] = findings[number]._replace(is_undelivered=True)
    return findings


def _carry_out(moves: Sequence[tuple[Attempt, Status, str]]) -> dict[int, list[Status]]:
    if len(moves) > _MOVED_ONE_BY_ONE:
        return store().move_many(
            [
                decisions.Move(attempt.message_id, attempt.pk, gateway_id, status)
                for attempt, status, gateway_id in moves
            ]
        )
    became: dict[int, list[Status]] = {}
    for attempt, status, gateway_id in moves:
        steps = became.setdefault(attempt.message_id, [])
        if not _is_proven(attempt) and store().prove_accepted(attempt.message_id, attempt.number, gateway_id):
            steps.append(Status.SENT)
        if status != Status.SENT and store().advance(attempt.message_id, status):
            steps.append(status)
    return became


def _says_nothing_new(attempt: Attempt, status: Status) -> bool:
    """True for a "sent" about an attempt that is known to be accepted.

    It must change nothing: if the message was reported as not delivered and queued again since, a repeated tick must
    not withdraw it.
    """
    return status == Status.SENT and attempt.outcome == OutcomeKind.ACCEPTED and bool(attempt.gateway_id)


def _is_proven(attempt: Attempt) -> bool:
    """True if `prove_accepted()` would change nothing.

    The attempt as it was read is enough to decide that, because no webhook moves these statuses back.
    """
    return attempt.outcome == OutcomeKind.ACCEPTED and bool(attempt.gateway_id) and attempt.status in ARRIVED


def _proves_accepted(part: ParsedEvent) -> bool:
    return part.state in _PROVES_ACCEPTED or (part.kind == EventKind.OWN and part.state != DeliveryState.FAILED)


def _statuses(message_ids: Sequence[int]) -> dict[int, str]:
    messages = OutboundMessage.objects.filter(pk__in=message_ids)
    return dict(messages.values_list("pk", "status"))


# Customers' messages


def _repeats(event: WebhookEvent, parts: Sequence[ParsedEvent]) -> set[int]:
    """Return the numbers of the parts with a customer's message that another event or an earlier part has delivered."""
    digests = {
        number: _incoming_digest(event.license_id, part)
        for number, part in enumerate(parts)
        if part.kind == EventKind.INCOMING and part.gateway_ids
    }
    if not digests:
        return set()
    # An event that was processed before has made its claims then, so they are only read.
    if event.processed_at is None:
        owned = store().claim_seen(event.pk, [(digest, None) for digest in digests.values()])
    else:
        owned = store().find_seen(list(digests.values()))
    first: set[str] = set()
    repeats = set()
    for number, digest in digests.items():
        if digest in first or (digest in owned and owned[digest].event_id != event.pk):
            repeats.add(number)
        first.add(digest)
    return repeats


def _incoming_digest(license_id: int, part: ParsedEvent) -> str:
    """Return a digest of id, author and text.

    The id alone is not enough: at a gateway that gives every message the same id, all but the first would be repeats.
    """
    return seen_digest(license_id, "incoming", part.gateway_ids[0], part.sender or part.chat, _normalised(part.text))
