"""Empties the data about a phone number or from a stranger, in batches. No message and no event is deleted.

Only finished rows are emptied. A message that is queued or being sent is left, and so is an event that waits to be
processed; `count_left()` counts such messages. Concurrent work cannot fill an emptied row again: resending requires a
recipient, and a worker that holds an event can no longer record it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db.models import BinaryField, F, Func, IntegerField, Q, QuerySet, TextField, Value
from django.db.models.functions import Cast, Coalesce
from django.views.decorators.debug import sensitive_variables

from .. import phone
from ..encryption import keyed_digests
from ..models.database import DatabaseNow
from ..models.message import (
    FORGOTTEN_TEXT,
    NOT_KEPT,
    NUMBER_FORGOTTEN,
    UNSETTLED,
    OutboundMessage,
    SendAttempt,
    Status,
    idempotency_digest,
)
from ..models.receipt_failure import ReceiptFailure
from ..models.recipient import FORGOTTEN, Recipient
from ..models.statistics import STRANGERS, Heartbeat
from ..models.webhook_event import EventKind, EventStatus, WebhookEvent
from .recipients import Recipients, messages_to
from .results import Change

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models.sql.compiler import SQLCompiler

_AT_ONCE = 200
_READ_AT_ONCE = 1000
_TAIL = 4
"""Number of last digits that people write without a separator. Rows that do not contain them need not be read."""
_EMPTY_MESSAGE: dict[str, Any] = {
    "recipient": "",
    "recipient_typed": "",
    "text": FORGOTTEN_TEXT,
    "image_url": "",
    "idempotency_key": "",
    "reason_words": "",
    "undelivered_words": "",
    "changed_words": "",
}
# The digest is emptied, because it could be found again by trying all numbers. `tries` changes, so that a worker that
# holds the event records nothing.
_EMPTY_EVENT: dict[str, Any] = {
    "body": b"",
    "understood": {},
    "sender_number": "",
    "error": "",
    "digest": None,
    "next_try_at": None,
    "tries": F("tries") + 1,
}


@dataclass(frozen=True)
class Emptied:
    """How many rows of each kind were emptied."""

    messages: int = 0
    attempts: int = 0
    events: int = 0


class _Position(Func):
    """The position, counted from 1, of some bytes in a binary column; 0 if they are absent."""

    function, arg_joiner, output_field = "POSITION", " IN ", IntegerField()

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        part, whole = self.get_source_expressions()
        return Func(whole, part, function="INSTR", output_field=IntegerField()).as_sql(compiler, connection, **context)


class Forgetting(Recipients):
    """Emptying what is stored about a number or a stranger. Numbers are in digits, with the country code."""

    @sensitive_variables()
    def cancel_all(self, number: str) -> list[Change]:
        """Withdraw all messages queued to `number`, including the answer to a stop. Returns those that changed."""
        return self._withdraw_many(messages_to(number), NUMBER_FORGOTTEN)

    @sensitive_variables()
    def empty_messages(self, number: str) -> Emptied:
        """Empty the messages to `number` that are settled, with their attempts and the events that are about them.

        The digest of an idempotency key stays, so that nothing is sent twice. Only that of a copy for another number is
        emptied: it is derived from that number, which could be found by trying all numbers.
        """
        # Messages that are queued or being sent are left, because their result is not known yet.
        settled = messages_to(number).exclude(status__in=UNSETTLED)
        emptied, last = Emptied(), 0
        while True:
            with self.brief():
                columns = ("pk", "idempotency_key", "idempotency_digest", "source_reference")
                rows = list(self.locked(settled.filter(pk__gt=last)).values_list(*columns)[:_AT_ONCE])
                if not rows:
                    return emptied
                ids, last = [row[0] for row in rows], rows[-1][0]
                found = OutboundMessage.objects.filter(pk__in=ids)
                pattern = phone.spellings(number)
                found.filter(pk__in=[pk for pk, _, _, named in rows if pattern.search(named)]).update(
                    source_reference=""
                )
                found.filter(pk__in=[pk for pk, key, digest, _ in rows if _is_copy(key, digest)]).update(
                    idempotency_digest=None
                )
                # The customer can no longer be asked. Also, no late answer queues a dismissed message again.
                found.filter(status=Status.UNKNOWN).update(dismissed_at=Coalesce("dismissed_at", DatabaseNow()))
                found.update(**_EMPTY_MESSAGE)
                attempts = SendAttempt.objects.filter(message_id__in=ids)
                told = attempts.update(words="", read_as="")
                attempts.filter(gateway_id__contains=phone.national(number)).update(gateway_id="")
                about = list(WebhookEvent.objects.filter(message_id__in=ids).values_list("pk", flat=True))
                events = self._empty_events(about, number)
            emptied = Emptied(emptied.messages + len(ids), emptied.attempts + told, emptied.events + events)

    @sensitive_variables()
    def empty_events(self, number: str, should_stop: Callable[[], bool]) -> tuple[int, int, bool]:
        """Empty the events that name `number`.

        Returns how many were emptied; how many are left because they wait to be processed; and False if `should_stop()`
        ended the search.
        """
        emptied = left = 0
        for ids in self.find_events(number, should_stop):
            if ids is None:
                return emptied, left, False
            with self.brief():
                went = self._empty_events(ids, number)
            emptied, left = emptied + went, left + len(ids) - went
        return emptied, left, True

    @sensitive_variables()
    def find_events(self, number: str, should_stop: Callable[[], bool]) -> Iterator[list[int] | None]:
        """Yield the primary keys of the events that name `number` in any spelling, in batches.

        All events are searched, but only those that contain the number's last digits are loaded. If `should_stop()`
        ends the search, the last item is None.
        """
        last = 0
        by_sender = WebhookEvent.objects.filter(sender_number=number).order_by("pk")
        while ids := list(by_sender.filter(pk__gt=last).values_list("pk", flat=True)[:_AT_ONCE]):
            yield ids
            last = ids[-1]
        pattern, hidden = phone.spellings(number), self._hidden_ids(number)
        last = 0
        while True:
            if should_stop():
                yield None
                return
            part = WebhookEvent.objects.filter(pk__gt=last).order_by("pk")
            newest = list(part.values_list("pk", flat=True)[_READ_AT_ONCE - 1 : _READ_AT_ONCE])
            part = part.filter(pk__lte=newest[0]) if newest else part
            named = [
                pk
                for pk, *texts in _candidates(part, [number[-_TAIL:], *hidden])
                if any(pattern.search(text) or any(lid in text for lid in hidden) for text in map(_as_text, texts))
            ]
            for start in range(0, len(named), _AT_ONCE):
                yield named[start : start + _AT_ONCE]
            if not newest:
                return
            last = newest[0]

    @sensitive_variables()
    def empty_failures(self, number: str) -> int:
        """Remove `number` from the errors and references of failed receipts. Returns how many were changed."""
        pattern, emptied = phone.spellings(number), 0
        for pk, error, named in self.find_failures(number).values_list("pk", "error", "source_reference"):
            if pattern.search(error) or pattern.search(named):
                reference = "" if pattern.search(named) else named
                emptied += ReceiptFailure.objects.filter(pk=pk).update(
                    error=pattern.sub("…", error), source_reference=reference
                )
        return emptied

    @sensitive_variables()
    def find_failures(self, number: str) -> QuerySet[ReceiptFailure]:
        """Return the failures of receipts that may name `number`."""
        tail = number[-_TAIL:]
        return ReceiptFailure.objects.filter(Q(error__contains=tail) | Q(source_reference__contains=tail))

    @sensitive_variables()
    def forget_recipient(self, number: str) -> bool:
        """Replace `number` by a keyed digest, with which its stop stays effective; or delete its rows if it has no
        stop.

        Returns True if it has a stop.
        """
        kept: dict[int | None, int] = {}
        newest = f"{FORGOTTEN}{keyed_digests(number)[0]}"
        with self.brief():
            rows = self._recipients(number)
            for row in rows.filter(stopped_at__isnull=False).order_by("pk").select_for_update():
                kept.setdefault(row.license_id, row.pk)
            # Deleted first, because a license may have only one row for a number.
            rows.exclude(pk__in=kept.values()).delete()
            Recipient.objects.filter(pk__in=kept.values()).update(number=newest, lid="", registered="", checked_at=None)
        return bool(kept)

    @sensitive_variables()
    def count_left(self, number: str) -> int:
        """Return how many messages to `number` are not emptied, because they are not settled or another process locks
        them.
        """
        return messages_to(number).count()

    @sensitive_variables()
    def recipients_of(self, number: str) -> QuerySet[Recipient]:
        """Return the rows of `number`, which hold a stop or a hidden id."""
        return self._recipients(number)

    # --- strangers ---

    def strangers_until(self) -> datetime | None:
        """Return the time of receipt up to which events were examined for strangers; None if none were yet."""
        return Heartbeat.objects.filter(name=STRANGERS).values_list("seen_at", flat=True).first()

    def note_strangers_until(self, received_at: datetime) -> None:
        """Store that all events received before `received_at` have been examined."""
        with self.brief():
            if not Heartbeat.objects.filter(name=STRANGERS).update(seen_at=received_at):
                Heartbeat.objects.bulk_create([Heartbeat(name=STRANGERS, seen_at=received_at)], ignore_conflicts=True)

    @sensitive_variables()
    def drop_bodies_of_strangers(self, ids: Collection[int]) -> int:
        """Drop the bodies of those events that are about no message, and whose senders never got a message.

        An event that waits to be processed is left. Returns the number of events whose body was dropped.
        """
        events = WebhookEvent.objects.filter(pk__in=ids, message=None).exclude(status=EventStatus.PENDING)
        senders = {pk: _senders_of(understood) for pk, understood in events.values_list("pk", "understood")}
        known = self._written_to({sender for found in senders.values() for sender in found})
        strangers = [pk for pk, found in senders.items() if not found & known]
        with self.brief():
            return WebhookEvent.objects.filter(pk__in=strangers).exclude(body=b"").update(body=b"")

    @sensitive_variables()
    def _written_to(self, senders: Collection[str]) -> set[str]:
        """Return those of these numbers and hidden ids to which a license has sent a message, or is about to."""
        found: set[str] = set()
        every = sorted(senders)
        for start in range(0, len(every), _READ_AT_ONCE):
            some = every[start : start + _READ_AT_ONCE]
            names = {number: {number} for number in some}
            for lid, number in Recipient.objects.filter(lid__in=some).values_list("lid", "number"):
                names.setdefault(number, set()).add(lid)
            messages = OutboundMessage.objects.filter(recipient__in=names)
            met = Recipient.objects.filter(number__in=names, last_sent_at__isnull=False)
            for number in {
                *messages.order_by().values_list("recipient", flat=True).distinct(),
                *met.values_list("number", flat=True),
            }:
                found |= names[number]
        return found

    @sensitive_variables()
    def _hidden_ids(self, number: str) -> list[str]:
        lids = self._recipients(number).exclude(lid="").values_list("lid", flat=True)
        return [lid.partition("@")[0] for lid in lids]

    @sensitive_variables()
    def _empty_events(self, ids: Sequence[int], number: str) -> int:
        events = WebhookEvent.objects.filter(pk__in=ids).exclude(status=EventStatus.PENDING)
        # An incoming message's id is emptied: with it, the digest in `SeenId` could be found again by trying all
        # numbers.
        named = Q(kind=EventKind.INCOMING) | Q(gateway_id__contains=phone.national(number))
        events.filter(named).update(gateway_id="")
        return events.update(**_EMPTY_EVENT)


@sensitive_variables()
def _senders_of(understood: Any) -> set[str]:
    """Return the numbers and hidden ids of the authors of an event's messages."""
    first = understood if isinstance(understood, dict) else {}
    more = first.get("more")
    parts = [first, *(part for part in (more if isinstance(more, list) else []) if isinstance(part, dict))]
    return {str(part[name]) for part in parts for name in ("sender", "chat") if part.get(name)}


@sensitive_variables()
def _is_copy(key: str, digest: str | None) -> bool:
    # The copy of a receipt has the key of its original, and its own digest.
    return digest is not None and (key.startswith(NOT_KEPT) or digest != idempotency_digest(key))


@sensitive_variables()
def _candidates(part: QuerySet[WebhookEvent], needles: Collection[str]) -> Any:
    found = Q()
    understood = Cast("understood", TextField())
    rows: QuerySet[Any] = part.annotate(as_text=understood)
    for place, needle in enumerate(needles):
        in_bytes = Value(needle.encode(), output_field=BinaryField())
        rows = rows.annotate(**{f"place_{place}": _Position(in_bytes, F("body"))})
        found |= Q(**{f"place_{place}__gt": 0}) | Q(as_text__contains=needle) | Q(error__contains=needle)
        found |= Q(gateway_id__contains=needle)
    return rows.filter(found).values_list("pk", "body", "as_text", "error", "gateway_id")


@sensitive_variables()
def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else bytes(value).decode("utf-8", "replace")
