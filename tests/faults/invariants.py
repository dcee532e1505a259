"""The promises, checked by comparing the phone's ledger, the database and the shop's sales.

    A  with the default policy the phone accepts no message more than once
    B  nothing stays `sending`, or due and `queued`, longer than a lease and two beats (paused lanes aside)
    C  `sent` means that the phone accepted it
    D  an accepted message is `sent` or `unknown`, or queued again only if a resend was asked for; it is never failed,
       cancelled or expired
    E  the shop's request succeeds, and takes no longer than the bound
    F  a webhook answered 2xx is stored exactly once, and its effect happens once
    G  no log, broker message or traceback contains secrets, nor does any table that should not
    N  the number is spared: a gateway that is being deployed costs each license only a handful of attempts, and no more
       messages a day go to new customers than the license's limit
    S  a recipient who asked to stop gets no message that was begun after the stop was processed
    L  nothing is lost: a committed sale has exactly one message, a withdrawn one has none
    T  a sale that the till believes stored is stored

Each function returns the faults that it found, as `Violation`s. A message is found in the ledger by recipient, text and
image, not by the gateway's id, because the checks include that the package stored the right id.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime

from django.apps import apps
from django.db import models
from django.utils import timezone

from django_kpwa.conf import kpwa_settings
from django_kpwa.gateway.outcome import Cause, OutcomeKind, has_mark
from django_kpwa.models import (
    ARRIVED,
    HELD_BY_PEOPLE,
    HoldReason,
    OutboundMessage,
    PauseReason,
    Recipient,
    RecipientType,
    SendAttempt,
    Status,
    WebhookEvent,
    body_digest,
)

ON_ITS_WAY = (Status.QUEUED, Status.SENDING)
HELD = (PauseReason.UNAUTHORIZED, PauseReason.KEY_UNREADABLE, PauseReason.LOGGED_OUT, *HELD_BY_PEOPLE)
"""Pauses that wait for a person. Messages behind them may stay queued."""


@dataclass(frozen=True)
class Violation:
    invariant: str
    words: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.words}"


def check_deliveries(
    ledger: Iterable[Mapping], *, resends: Mapping[int, int] | None = None, marked: Collection[int] = ()
) -> list[Violation]:
    """A, C and D. `resends`: how often a person or the policy asked for each message again. `marked`: the ids of
    messages that a person marked as arrived."""
    resends = resends or {}
    found: list[Violation] = []
    entries = defaultdict(list)
    for delivery in ledger:
        entries[delivery["recipient"] or delivery["group"], delivery["text"], delivery["image_url"]].append(delivery)
    for message in OutboundMessage.objects.prefetch_related("attempts").order_by("pk"):
        accepted = entries.pop((message.recipient, message.text, message.image_url), [])
        found += _check_message(message, accepted, resends.get(message.pk, 0), is_marked=message.pk in marked)
    for orphans in entries.values():
        found.append(Violation("C", f"the phone accepted something that is no message: {_ledger_words(orphans)}"))
    return found


def _check_message(
    message: OutboundMessage, accepted: list[Mapping], resends: int, *, is_marked: bool
) -> list[Violation]:
    found: list[Violation] = []
    words = f"{describe(message)}; ledger: {_ledger_words(accepted)}"
    if len(accepted) > 1 + resends:
        found.append(Violation("A", f"accepted {len(accepted)} times: {words}"))
    if message.status in ARRIVED and not accepted and not is_marked:
        found.append(Violation("C", f"{message.status}, but the phone never accepted it: {words}"))
    if accepted:
        allowed = {*ARRIVED, Status.UNKNOWN, *(ON_ITS_WAY if resends else ())}
        if message.status not in allowed:
            found.append(Violation("D", f"accepted by the phone, but {message.status}: {words}"))
    ids = {delivery["id"] for delivery in accepted}
    for attempt in message.attempts.all():
        if attempt.outcome == OutcomeKind.ACCEPTED and not (accepted or is_marked):
            found.append(Violation("C", f"attempt {attempt.number} is accepted, but the phone never had it: {words}"))
        if attempt.gateway_id and accepted and attempt.gateway_id not in ids:
            found.append(Violation("C", f"attempt {attempt.number} has the id of another delivery: {words}"))
    return found


def check_settled() -> list[Violation]:
    """B. The caller has already waited for the allowed time since the last progress."""
    waiting = OutboundMessage.objects.filter(status__in=ON_ITS_WAY, license__is_active=True)
    held = models.Q(license__lane__pause_reason__in=HELD, status=Status.QUEUED)
    put_off = models.Q(status=Status.QUEUED, reason__in=HoldReason.values, due_at__gt=timezone.now())
    stuck = waiting.exclude(held).exclude(put_off).prefetch_related("attempts").order_by("pk")
    return [Violation("B", f"stays {message.status}: {describe(message)}") for message in stuck]


def check_stops(ledger: Iterable[Mapping]) -> list[Violation]:
    """S. A message that was in progress when the stop was processed may arrive; one that was begun later may not."""
    arrived = {(delivery["recipient"], delivery["text"]) for delivery in ledger}
    found: list[Violation] = []
    for stop in Recipient.objects.filter(stopped_at__isnull=False):
        events = WebhookEvent.objects.filter(sender_number=stop.number, received_at=stop.decided_at)
        processed_at = events.values_list("processed_at", flat=True).get()
        if processed_at is None:
            continue
        messages = OutboundMessage.objects.filter(recipient=stop.number).exclude(pk=stop.answer_id)
        for message in messages.prefetch_related("attempts"):
            begun = [attempt.started_at for attempt in message.attempts.all()]
            if (message.recipient, message.text) in arrived and min(begun) > processed_at:
                found.append(Violation("S", f"begun after the stop: {describe(message)}"))
    return found


def check_new_customers(ledger: Iterable[Mapping], license_name: str, limit: int) -> list[Violation]:
    """N. A message that a person sent again counts once."""
    cold = {
        (day_of(delivery), delivery["recipient"], delivery["text"])
        for delivery in ledger
        if delivery["license"] == license_name and delivery["is_cold"]
    }
    counted = Counter(day for day, *_ in cold)
    return [
        Violation("N", f"{count} messages to new customers on {day}, at most {limit} are allowed")
        for day, count in counted.items()
        if count > limit
    ]


def day_of(delivery: Mapping) -> date:
    """The day, in the site's time zone, on which the phone accepted it."""
    return timezone.localtime(datetime.fromisoformat(delivery["accepted_at"])).date()


KNOWN = "known-"
"""Prefix of the idempotency keys of messages to customers who had written before."""


def check_known_wait_for_nothing() -> list[Violation]:
    """N, at any time: a message to a customer who has written waits for no limit and no restriction."""
    held = OutboundMessage.objects.filter(
        idempotency_key__startswith=KNOWN, reason__in=[HoldReason.COLD_LIMIT, HoldReason.RESTRICTED]
    )
    return [Violation("N", f"not to a new customer, but held like one: {describe(message)}") for message in held]


def check_restrictions(limit: int) -> list[Violation]:
    """N. `limit`: maximum number of rejected messages per license."""
    turned_down = SendAttempt.objects.filter(cause=Cause.RESTRICTED).values_list("message__license__name")
    found = [
        Violation("N", f"{count} messages of {name} to new customers were rejected; at most {limit} are allowed")
        for name, count in turned_down.annotate(models.Count("pk")).order_by()
        if count > limit
    ]
    marks, doubted = kpwa_settings().RESTRICTION_MARKS, SendAttempt.objects.filter(outcome=OutcomeKind.IN_DOUBT)
    return found + [
        Violation("N", f"rejected, but in doubt: {describe(attempt.message)}")
        for attempt in doubted.select_related("message")
        if has_mark(f"{attempt.words}\n{attempt.code}", marks)
    ]


def check_sales(sold: Iterable[object], withdrawn: Iterable[object] = ()) -> list[Violation]:
    """L. `sold`: the keys of committed sales, `withdrawn`: of those rolled back. Each is a message's `source_id`."""
    counts = Counter(OutboundMessage.objects.exclude(source_id="").values_list("source_id", flat=True))
    found = [
        Violation("L", f"sale {key} was committed and has {counts[str(key)]} messages")
        for key in sold
        if counts[str(key)] != 1
    ]
    return found + [
        Violation("L", f"sale {key} was rolled back and has {counts[str(key)]} messages")
        for key in withdrawn
        if counts[str(key)]
    ]


def check_told(told: Iterable[int], stored: Collection[int]) -> list[Violation]:
    """T. `told`: keys of sales whose transaction ended without an error. `stored`: keys of those in the database."""
    return [
        Violation("T", f"the till was told that sale {key} is stored, but it is not")
        for key in told
        if key not in stored
    ]


def check_requests(seconds: Iterable[float], bound: float) -> list[Violation]:
    """E, for requests that succeeded: a request that raises ends its test."""
    return [Violation("E", f"a sale took {took:.2f} s, more than {bound} s") for took in seconds if took > bound]


def check_webhooks(license_id: int, answered: Mapping[bytes, list[int]], heard: Iterable[Mapping]) -> list[Violation]:
    """F. `answered`: the statuses with which each body was answered. `heard`: the site's signals, in order."""
    found: list[Violation] = []
    told = Counter((line["signal"], line["about"]) for line in heard)
    for body, statuses in answered.items():
        taken = sum(200 <= status < 300 for status in statuses)
        events = list(WebhookEvent.objects.filter(digest=body_digest(license_id, body)))
        if taken and len(events) != 1:
            found.append(Violation("F", f"a webhook answered 2xx {taken} times is stored {len(events)} times"))
        if taken and sum(event.times_received for event in events) != taken:
            counted = [event.times_received for event in events]
            found.append(Violation("F", f"a webhook answered 2xx {taken} times counts {counted}"))
    found += [
        Violation("F", f"{signal} was sent {count} times for {about}")
        for (signal, about), count in told.items()
        if count > 1 and signal in _ONCE
    ]
    return found


# The others may repeat: a message can fail again after a resend, for example.
_ONCE = ("message_delivered", "message_read", "message_received", "webhook_received")


def check_secrets(
    secrets: Iterable[str], numbers: Iterable[str], outputs: Mapping[str, str], *, tables: bool = True
) -> list[Violation]:
    """G. `secrets` may be nowhere. `numbers` may be in no output, and only in columns that hold a message or an event.

    `outputs`: output of processes and contents of brokers, by a name for each.
    """
    secrets = set(secrets)
    by_length: dict[int, set[str]] = {}
    for number in numbers:
        by_length.setdefault(len(number), set()).add(number)
    found = [
        Violation("G", f"{_kind(word, secrets)} stands in {name}: …{_around(text, word)}…")
        for name, text in outputs.items()
        for word in _words_in(text, secrets, by_length)
    ]
    return found + (_check_tables(secrets, by_length) if tables else [])


_MAY_HOLD_NUMBERS = {
    "outboundmessage": {"recipient", "recipient_typed", "text", "image_url", "idempotency_key"},
    "webhookevent": {"body", "understood", "sender_number"},
    "recipient": {"number"},
    "sendattempt": {"read_as"},
    "lane": {"linked_number", "confirmed_number"},
}
_TEXTS = (models.CharField, models.TextField, models.JSONField, models.BinaryField)


def _check_tables(secrets: set[str], numbers: Mapping[int, set[str]]) -> list[Violation]:
    found: list[Violation] = []
    for model in [*apps.get_app_config("django_kpwa").get_models(), apps.get_model("admin.LogEntry")]:
        columns = [field.name for field in model._meta.concrete_fields if isinstance(field, _TEXTS)]
        allowed = _MAY_HOLD_NUMBERS.get(model._meta.model_name, set())
        for row in model._default_manager.values_list("pk", *columns) if columns else ():
            for column, value in zip(columns, row[1:], strict=True):
                text = bytes(value).decode(errors="replace") if isinstance(value, (bytes, memoryview)) else str(value)
                found += [
                    Violation("G", f"{_kind(word, secrets)} stands in {model._meta.label}.{column} of row {row[0]}")
                    for word in _words_in(text, secrets, {} if column in allowed else numbers)
                ]
    return found


def _words_in(text: str, secrets: set[str], numbers: Mapping[int, set[str]]) -> list[str]:
    """The secrets and numbers in `text`. `numbers` are grouped by length, because there may be many thousands."""
    found = {
        run[at : at + length]
        for run in (_DIGITS.findall(text) if numbers else ())
        for length, wanted in numbers.items()
        for at in range(len(run) - length + 1)
        if run[at : at + length] in wanted
    }
    return [*(secret for secret in secrets if secret in text), *found]


_DIGITS = re.compile(r"\d{8,}")


def _kind(word: str, secrets: Iterable[str]) -> str:
    return "a secret" if word in secrets else "a number"


def _around(text: str, word: str) -> str:
    at = text.index(word)
    return text[max(at - 60, 0) : at + len(word) + 20].replace("\n", " ")


def describe(message: OutboundMessage) -> str:
    """Describe a message with its attempts, to help find out what went wrong."""
    name = f"group {message.recipient!r}" if message.recipient_type == RecipientType.GROUP else message.recipient
    attempts = ", ".join(
        f"{attempt.number} {attempt.outcome} {attempt.cause} {attempt.gateway_id}".strip()
        for attempt in message.attempts.all()
    )
    return (
        f"message {message.pk} to {name} ({message.text[:30]!r}) {message.status} {message.reason}; "
        f"attempts: {attempts or 'none'}"
    )


def _ledger_words(deliveries: Iterable[Mapping]) -> str:
    return ", ".join(f"#{entry['sequence']} {entry['id']} {entry['accepted_at']}" for entry in deliveries) or "nothing"
