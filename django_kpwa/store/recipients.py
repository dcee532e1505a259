"""What is known about phone numbers: who asked the shop to stop, who has written, and which hidden ids they have."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from itertools import islice
from typing import Any

from django.db.models import Case, F, QuerySet, When
from django.views.decorators.debug import sensitive_variables

from ..encryption import keyed_digests
from ..models.database import DatabaseNow, in_seconds
from ..models.lane import Lane
from ..models.license import License
from ..models.message import ARRIVED, WITHDRAWN, OutboundMessage, RecipientType, Status
from ..models.recipient import FORGOTTEN, Recipient, Registration, StopReason
from ..models.webhook_event import WebhookEvent
from .base import StoreBase
from .compiled import Parameter, first_of
from .results import UNRESTRICTED, Change, Contact, Standing

MARKED_DAYS = 30
"""Maximum age in days of messages that are marked when their number turns out to be wrong."""
_AT_ONCE = 500
"""Maximum number of rows, or of numbers, per statement."""


@sensitive_variables()
def forms_of(number: str) -> list[str]:
    """Return the values that the column `number` may have for this number: the number, and its forms once forgotten."""
    return [number, *(f"{FORGOTTEN}{digest}" for digest in keyed_digests(number))]


def contact_of(number: str, now: datetime, known: Mapping[str, Any]) -> Contact | None:
    """Return the `Contact` for the columns `KNOWN` of a recipient, which are all None if it has no row."""
    if known.get("first_sent_at") is not None or known.get("last_inbound_at") is not None:
        return None
    return Contact(number, now, Registration(known.get("registered") or ""), known.get("checked_at"))


KNOWN = ("first_sent_at", "last_inbound_at", "registered", "checked_at")


def _known() -> QuerySet[Recipient, Any]:
    license_id, number = (
        Parameter("license", License._meta.pk),
        Parameter("number", Recipient._meta.get_field("number")),
    )
    known: QuerySet[Recipient, Any] = Recipient.objects.filter(license_id=license_id, number=number).values(*KNOWN)
    return known


class Recipients(StoreBase):
    """Stops, and what is known about a number. Numbers are in digits, with the country code."""

    @sensitive_variables()
    def stop(self, license_id: int, number: str, reason: StopReason, heard_at: datetime) -> Recipient | None:
        """Store that the owner of `number`, in digits, wants no messages, and return the row.

        `heard_at`: when the request was received. Returns None if there is a newer decision about the number.
        """
        with self.brief():
            Recipient.objects.bulk_create([Recipient(license_id=license_id, number=number)], ignore_conflicts=True)
            rows = self._recipients(number)
            rows.exclude(decided_at__gte=heard_at).update(stopped_at=heard_at, decided_at=heard_at, stop_reason=reason)
            return rows.filter(decided_at=heard_at, stopped_at=heard_at).order_by("pk").first()

    @sensitive_variables()
    def lift_stop(self, number: str, heard_at: datetime | None = None) -> bool:
        """End the stop of `number`. Returns False if there is none, or if it is newer than `heard_at`."""
        stopped = self._recipients(number).filter(stopped_at__isnull=False)
        if heard_at is not None:
            stopped = stopped.filter(decided_at__lt=heard_at)
        ended = {"stopped_at": None, "stop_reason": "", "answer_id": None}
        with self.brief():
            if not stopped.update(**ended, decided_at=DatabaseNow() if heard_at is None else heard_at):
                return False
        # Not in the same transaction, because recording a send locks the message before the recipient.
        with self.brief():
            messages_to(number).filter(status__in=ARRIVED, reason=StopReason.WRONG_NUMBER).update(reason="")
        return True

    @sensitive_variables()
    def why_stopped(self, number: str, message_id: int | None = None) -> StopReason | None:
        """Return the reason why nothing must be sent to `number`; None if messages may be sent.

        `message_id`: a message that may be the answer to the stop. The answer is sent nevertheless.
        """
        stops = self._stops([number])
        if message_id is not None:
            stops = stops.exclude(answer_id=message_id)
        reason = stops.order_by("pk").values_list("stop_reason", flat=True).first()
        return None if reason is None else StopReason(reason)

    @sensitive_variables()
    def find_stopped(self, numbers: Iterable[str]) -> set[str]:
        """Return those of `numbers` to which nothing must be sent. They are looked up in parts, to bound the memory."""
        if not Recipient.objects.filter(stopped_at__isnull=False).exists():
            return set()
        found: set[str] = set()
        numbers = iter(numbers)
        while part := set(islice(numbers, _AT_ONCE)):
            number_of = {form: number for number in part for form in forms_of(number)}
            stops = Recipient.objects.filter(number__in=number_of, stopped_at__isnull=False)
            found |= {number_of[form] for form in stops.values_list("number", flat=True)}
        return found

    @sensitive_variables()
    def cancel_stopped(self, number: str, reason: StopReason) -> list[Change]:
        """Withdraw the messages queued to `number`, except the answer to its stop. Returns those that changed.

        A message that a driver has locked is left, because the driver checks for stops before it calls the gateway.
        """
        answers = [answer for answer in self._stops([number]).values_list("answer_id", flat=True) if answer]
        return self._withdraw_many(messages_to(number).exclude(pk__in=answers), reason)

    @sensitive_variables()
    def mark_wrong_number(self, number: str) -> None:
        """Mark recent messages to `number`: its owner is not the customer."""
        lately = messages_to(number).filter(status__in=ARRIVED, sent_at__gte=in_seconds(-86_400 * MARKED_DAYS))
        lately.update(reason=StopReason.WRONG_NUMBER, reason_words="")

    @sensitive_variables()
    def note_inbound(self, license_id: int, number: str, heard_at: datetime) -> None:
        """Store that the owner of `number` wrote to the license at `heard_at`. An older event changes nothing."""
        own = Recipient.objects.filter(license_id=license_id, number=number)
        newer = own.exclude(last_inbound_at__gte=heard_at)
        # Messages sent since then still count as unanswered, because the customer wrote before them.
        since = Case(When(last_sent_at__gt=heard_at, then=F("sent_since_inbound")), default=0)
        columns = {"last_inbound_at": heard_at, "sent_since_inbound": since}
        with self.brief():
            if newer.update(**columns) or own.exists():
                return
            Recipient.objects.bulk_create([Recipient(license_id=license_id, number=number)], ignore_conflicts=True)
            newer.update(**columns)

    @sensitive_variables()
    def standing_of(self, license_id: int, message_id: int, warm_days: int) -> Standing:
        """Return whether a restriction of the license's number applies to a message.

        A customer who has not written within `warm_days` is new. Groups are neither new nor known.
        """
        until = Lane.objects.filter(pk=license_id).values_list("restricted_until", flat=True).first()
        if until is None:
            return UNRESTRICTED
        message = OutboundMessage.objects.filter(pk=message_id, recipient_type=RecipientType.NUMBER)
        number = message.values_list("recipient", flat=True).first()
        return Standing(until, is_cold=number is not None and not self.has_written(license_id, number, warm_days))

    @sensitive_variables()
    def has_written(self, license_id: int, number: str, days: int) -> bool:
        """True if the owner of `number` wrote to the license within this number of `days`."""
        return self.who_wrote(license_id, days).filter(number=number).exists()

    def who_wrote(self, license_id: int, days: int) -> QuerySet[Recipient]:
        """Return the recipients that wrote to the license within this number of `days`."""
        return Recipient.objects.filter(license_id=license_id, last_inbound_at__gte=in_seconds(-86_400 * days))

    @sensitive_variables()
    def find_contact(self, license_id: int, number: str, now: datetime) -> Contact | None:
        """Return what is known about `number` before the first message to it; None if messages were exchanged."""
        found = first_of(self.connection, _known, {"license": license_id, "number": number})
        return contact_of(number, now, found or {})

    @sensitive_variables()
    def learn_hidden_id(self, license_id: int, number: str, lid: str) -> None:
        """Store which number WhatsApp's hidden id `lid` stands for."""
        with self.brief():
            own = Recipient.objects.filter(license_id=license_id, number=number)
            if not own.filter(lid=lid).exists():
                Recipient.objects.bulk_create([Recipient(license_id=license_id, number=number)], ignore_conflicts=True)
                own.update(lid=lid)

    def number_behind(self, lid: str) -> str:
        """Return the number that a hidden id stands for, in digits; empty if it is unknown or was forgotten."""
        known = Recipient.objects.filter(lid=lid).exclude(number__startswith=FORGOTTEN)
        return known.values_list("number", flat=True).order_by("-pk").first() or ""

    @sensitive_variables()
    def _withdraw_many(self, messages: QuerySet[OutboundMessage], reason: str) -> list[Change]:
        waiting = messages.filter(status=Status.QUEUED)
        changed: list[Change] = []
        while True:
            with self.brief():
                ids = list(self.locked(waiting).values_list("pk", flat=True)[:_AT_ONCE])
                changed += [Change(pk, status) for pk in ids if (status := self._withdraw(pk, reason))]
            if len(ids) < _AT_ONCE:
                return changed

    @sensitive_variables()
    def drop_recipients(self, numbers: Collection[str]) -> None:
        """Delete the rows of those of `numbers` that no message and no event is about any more, except stops."""
        if not numbers:
            return
        # Compared in Python, because in an old MariaDB the tables may have different collations.
        messages = OutboundMessage.objects.filter(recipient__in=numbers).order_by()
        events = WebhookEvent.objects.filter(sender_number__in=numbers).order_by()
        kept = {*messages.values_list("recipient", flat=True).distinct()}
        kept |= {*events.values_list("sender_number", flat=True).distinct()}
        with self.brief():
            Recipient.objects.filter(number__in={*numbers} - kept, stopped_at=None).delete()

    def _withdraw(self, message_id: int, reason: str) -> Status | None:
        queued = OutboundMessage.objects.filter(pk=message_id, status=Status.QUEUED)
        settled = {"settled_at": DatabaseNow(), "reason_words": ""}
        if queued.filter(in_doubt=False).update(status=Status.CANCELLED, reason=reason, **settled):
            return Status.CANCELLED
        doubtful = queued.filter(in_doubt=True).update(status=Status.UNKNOWN, reason=WITHDRAWN, **settled)
        return Status.UNKNOWN if doubtful else None

    def _recipients(self, number: str) -> QuerySet[Recipient]:
        return Recipient.objects.filter(number__in=forms_of(number))

    def _stops(self, numbers: Collection[str]) -> QuerySet[Recipient]:
        forms = [form for number in numbers for form in forms_of(number)]
        return Recipient.objects.filter(number__in=forms, stopped_at__isnull=False)


def messages_to(number: str) -> QuerySet[OutboundMessage]:
    """Return the messages to the number `number`."""
    return OutboundMessage.objects.filter(recipient=number, recipient_type=RecipientType.NUMBER)
