"""Protects a lane's number when it writes to new customers: the daily limit, restrictions, checks of numbers.

The counts are columns of the lane and change under its lease, so that they stay exact if a process dies. The policy
that uses them is in `dispatch.hold`, `dispatch.first_contact` and `restriction`.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime, timedelta
from typing import Any

from django.db.models import BooleanField, ExpressionWrapper, F, Q, QuerySet
from django.views.decorators.debug import sensitive_variables

from ..conf import kpwa_settings
from ..gateway.outcome import Cause, OutcomeKind
from ..logs import get_logger
from ..models.database import DatabaseNow, in_seconds
from ..models.lane import Lane
from ..models.message import ARRIVED, OutboundMessage, RecipientType, SendAttempt, Status
from ..models.recipient import Recipient, Registration
from ..pace import RESTRICTED_SECONDS
from .columns import restriction_columns
from .compiled import update_where
from .recipients import Recipients
from .restriction import PROVEN_SECONDS, Fate, Known, Sent, Sign, weigh
from .results import Claim, Content, Lease

logger = get_logger("django_kpwa.dispatch")


class NewCustomers(Recipients):
    """The counts and states of a lane that concern messages to new customers."""

    def _held(self, lease: Lease) -> QuerySet[Lane]:
        """Return the lane if the lease is still held."""
        return Lane.objects.filter(pk=lease.license_id, lease_token=lease.token)

    def _update_held(self, lease: Lease, columns: dict[str, Any], **also: Any) -> bool:
        """Update `columns` of the lane, if the lease is still held. Returns False if it was lost.

        `also`: further columns that must have these values. This is a compiled query, because it runs for each message
        that is sent.
        """
        where = {"pk": lease.license_id, "lease_token": lease.token, **also}
        return bool(update_where(self.connection, Lane, where, columns))

    def _renew(self, lease: Lease, seconds: float) -> bool:
        return self._update_held(lease, {"lease_expires_at": in_seconds(seconds)})

    # --- the day's limit ---

    def count_cold(self, lease: Lease, message_id: int, day: date, limit: int) -> bool:
        """Count a claimed message as one to a new customer, before it is sent.

        A message is counted once a day, however often it is tried. It stays counted if its worker dies before sending.

        Args:
            lease: The lease under which the message was claimed.
            message_id: The primary key of the message.
            day: The present date in the license's time zone.
            limit: Maximum number of such messages per day.

        Returns:
            False if the limit is reached, or if the lease was lost.
        """
        with self.durable():
            lane = self._held(lease)
            lane.exclude(cold_day=day).update(cold_day=day, cold_sent=0)
            message = OutboundMessage.objects.filter(pk=message_id)
            if message.filter(cold_on=day).exists():
                return lane.exists()
            if not lane.filter(cold_sent__lt=limit).update(cold_sent=F("cold_sent") + 1):
                return False
            return bool(message.update(cold_on=day))

    def is_over_cold_limit(self, license_id: int, message_id: int, day: date, limit: int, warm_days: int) -> bool:
        """True if `limit` messages to new customers were counted on `day`, and this message would be another one.

        `warm_days`: a customer who wrote within this number of days is not new.
        """
        if not Lane.objects.filter(pk=license_id, cold_day=day, cold_sent__gte=limit).exists():
            return False
        message = OutboundMessage.objects.filter(pk=message_id, recipient_type=RecipientType.NUMBER)
        # Two queries, not a join: in an old MariaDB the two tables may have different collations.
        number = message.exclude(cold_on=day).values_list("recipient", flat=True).first()
        return number is not None and not self.has_written(license_id, number, warm_days)

    # --- a restriction by WhatsApp ---

    @sensitive_variables()
    def begin_try(self, lease: Lease, claim: Claim) -> datetime | None:
        """Make a claimed message the trial whether WhatsApp still restricts the number. Call it before it is sent.

        The next trial then has to wait as long as this one did, whatever the result.

        Returns None if the message is the trial now. Otherwise returns the time until which it has to wait, because its
        recipient was tried within a day. That time is in the past if the restriction has changed or the lease was lost.
        """
        if (tried_at := self._tried_at(lease.license_id, claim)) is not None:
            return tried_at + timedelta(days=1)
        with self.durable():
            lane = self._held(lease).filter(restricted_until__lte=DatabaseNow())
            for step, seconds in enumerate(RESTRICTED_SECONDS, start=1):
                columns = {"restricted_until": in_seconds(seconds), "cold_trail": str(claim.message_id)}
                if lane.filter(restriction_step=step).update(**columns):
                    return None
        return claim.facts.now

    def _tried_at(self, license_id: int, claim: Claim) -> datetime | None:
        """Return when a message to the claim's recipient last reached WhatsApp, if that was within a day; else None."""
        not_seen = Q(outcome__in=[OutcomeKind.RUNNING, OutcomeKind.RATE_LIMITED, OutcomeKind.LICENSE_REFUSED])
        not_seen |= Q(outcome=OutcomeKind.NOT_SENT) & ~Q(cause=Cause.RESTRICTED)
        attempts = SendAttempt.objects.filter(
            message__recipient=claim.content.recipient,
            message__license_id=license_id,
            started_at__gt=in_seconds(-86_400),
        )
        seen = attempts.exclude(not_seen).order_by("-started_at")
        return seen.values_list("started_at", flat=True).first()

    @sensitive_variables()
    def _weigh(self, license_id: int, message_id: int, content: Content, sign: Sign, words: str) -> None:
        """Store what `sign` about a message indicates about a restriction. The lane's row must be locked.

        `words`: the gateway's text, masked.
        """
        names = ("restriction_step", "restricted_until", "restriction_words", "cold_trail")
        step, until, marked, trail = Lane.objects.values_list(*names).get(pk=license_id)
        known = Known(step, until is not None, bool(marked), tuple(int(one) for one in trail.split(",") if one))
        is_cold = None
        if content.recipient_type == RecipientType.NUMBER:
            is_cold = not self.has_written(license_id, content.recipient, kpwa_settings().WARM_DAYS)
        found = weigh(known, sign, message_id, is_cold, self._sent({*known.trail, message_id}))
        is_marked = sign is Sign.MARKED
        if found != known:
            Lane.objects.filter(pk=license_id).update(**restriction_columns(found, words if is_marked else None))
        if found.is_restricted and not known.is_restricted:
            said = words if is_marked else "messages to several new customers failed, while others got through"
            logger.warning("WhatsApp restricts the number of license %s: %s", license_id, said)
        if is_marked:
            # The rejected message waits as long as the others.
            lane = Lane.objects.filter(pk=license_id, restricted_until__gt=DatabaseNow())
            waiting = OutboundMessage.objects.filter(pk=message_id, status=Status.QUEUED, reason=Cause.RESTRICTED)
            for until in lane.values_list("restricted_until", flat=True):
                waiting.update(due_at=until)

    def _sent(self, message_ids: Collection[int]) -> dict[int, Sent]:
        """Return the current state of messages that were sent to new customers."""
        names = ("pk", "recipient", "status", "undelivered_at", "is_proven")
        rows = OutboundMessage.objects.filter(pk__in=message_ids).annotate(
            is_proven=ExpressionWrapper(Q(sent_at__lte=in_seconds(-PROVEN_SECONDS)), BooleanField())
        )
        return {
            pk: Sent(recipient or str(pk), _fate(status, undelivered_at, is_proven))
            for pk, recipient, status, undelivered_at, is_proven in rows.values_list(*names)
        }

    # --- whether a number has WhatsApp ---

    def count_check(self, lease: Lease, now: datetime, day: date, max_per_hour: int, max_per_day: int) -> bool:
        """Count a check of a number, before the gateway is called. It stays counted if its worker dies before the call.

        Args:
            lease: The lease under which the lane is driven.
            now: The database's time.
            day: The date of `now` in the license's time zone.
            max_per_hour: Maximum number of checks in a clock hour.
            max_per_day: Maximum number of checks on `day`.

        Returns:
            False if one of the limits is reached, or if the lease was lost.
        """
        hour = now.replace(minute=0, second=0, microsecond=0)
        with self.durable():
            lane = self._held(lease)
            lane.exclude(check_day=day).update(check_day=day, checked_today=0)
            lane.exclude(check_hour=hour).update(check_hour=hour, checked_in_hour=0)
            has_room = lane.filter(checked_in_hour__lt=max_per_hour, checked_today__lt=max_per_day)
            once_more = {"checked_today": F("checked_today") + 1, "checked_in_hour": F("checked_in_hour") + 1}
            return bool(has_room.update(**once_more))

    @sensitive_variables()
    def note_checked(
        self, lease: Lease, seconds: float, message_id: int, number: str, registered: Registration
    ) -> bool:
        """Store the gateway's answer about the number of a queued message, and renew the lease for `seconds`.

        Returns False, with nothing stored, if the lease was lost, or if the message is no longer queued to this number,
        for example because the number was forgotten in the meantime.
        """
        # The message is locked, so that a process that forgets the number waits, and then finds the row stored here.
        queued = OutboundMessage.objects.filter(pk=message_id, recipient=number, status=Status.QUEUED)
        with self.durable():
            if not self._renew(lease, seconds) or not list(queued.select_for_update().values_list("pk", flat=True)):
                return False
            where = {"license_id": lease.license_id, "number": number}
            columns = {"registered": registered, "checked_at": DatabaseNow()}
            if not Recipient.objects.filter(**where).update(**columns):
                Recipient.objects.bulk_create([Recipient(**where)], ignore_conflicts=True)
                Recipient.objects.filter(**where).update(**columns)
            return True


def _fate(status: str, undelivered_at: datetime | None, is_proven: bool | None) -> Fate:
    if status not in ARRIVED:
        return Fate.FAILED
    if status == Status.SENT and undelivered_at is not None:
        return Fate.UNDELIVERED
    return Fate.PROVEN if status != Status.SENT or is_proven else Fate.ACCEPTED
