"""The portable form of each transition, in the ORM's words, inside a transaction that `transitions` has opened.

Every case is handled here. The written-out forms handle the usual case alone, to the same rows.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from django.db.models import F, Q
from django.db.models.functions import Coalesce

from ...gateway.outcome import Cause, Outcome, OutcomeKind
from ...models.attempt import SendAttempt
from ...models.clock import DatabaseNow, in_seconds
from ...models.lane import HELD_BY_PEOPLE, Lane, PauseReason
from ...models.message import ARRIVED, OutboundMessage, OutboundMessageQuerySet, Status
from ..results import Claim, Claimed, Idle, Lease, Lost, MessageVerdict, Pause, Unrendered
from .columns import answer_columns, outcome_columns, pause_columns, sent_columns

# An unrendered message steps back this far before its template runs, so that one that hangs cannot block its lane.
RENDER_STEP_BACK_SECONDS = 60.0
# A text that was written longer ago is written anew, unless an attempt is in doubt: the lane was paused since, or the
# attempt failed, and to whom it goes, by which license and what it says is asked again.
TEXT_KEEPS_SECONDS = 60
# One look for the next message goes past so many that cannot go; then it commits, for it holds up other writers.
MOST_PASSED = 100


def held(using: str, lease: Lease) -> Any:
    return Lane.objects.filter(pk=lease.license_id, lease_token=lease.token)


def pause(using: str, lease: Lease, pause: Pause, *, probes: int, **columns: Any) -> bool:
    columns |= pause_columns(pause)
    if probes:
        del columns["paused_at"]
    # No status check ends or replaces what a person has to end.
    pausable = held(using, lease).exclude(pause_reason__in=set(HELD_BY_PEOPLE) - {pause.reason})
    if pause.reason == PauseReason.NUMBER_CHANGED:
        # A person may have confirmed the number since the lane was read.
        pausable = pausable.exclude(confirmed_number="").exclude(confirmed_number=F("linked_number"))
    return bool(pausable.update(**columns, probes=probes))


def _sending(using: str, claim: Claim) -> OutboundMessageQuerySet:
    return OutboundMessage.objects.filter(
        pk=claim.message_id, status=Status.SENDING, attempts_made=claim.attempt_number
    )


def renew(using: str, lease: Lease, seconds: float) -> bool:
    return bool(held(using, lease).update(lease_expires_at=in_seconds(seconds)))


def claim(using: str, lease: Lease) -> Claimed:
    """Find and claim the next due message; expire what is in the way. The lane's row is locked already."""
    lane = (
        Lane.objects.filter(pk=lease.license_id)
        .annotate(now=DatabaseNow())
        .values("pause_reason", "next_send_at", "now", "license__is_active")
        .get()
    )
    if lane["pause_reason"] or not lane["license__is_active"]:
        return Claimed(Idle(is_paused=True))
    now: datetime = lane["now"]
    expired: list[int] = []
    doubtful: list[int] = []

    def found(next_: Claim | Unrendered | Idle) -> Claimed:
        return Claimed(next_, tuple(expired), tuple(doubtful))

    messages = OutboundMessage.objects
    # Cancelled, or proven sent, between the look and the claim; under REPEATABLE READ every look would find it again.
    passed: list[int] = []
    while len(passed) < MOST_PASSED:
        message = (
            messages.filter(license_id=lease.license_id, status=Status.QUEUED, due_at__lte=DatabaseNow())
            .exclude(pk__in=passed)
            .order_by("priority", "due_at", "id")
            .only(
                "id", "due_at", "expires_at", "renderer", "rendered_at", "attempts_made", "attempts_spent",
                "recipient_type", "recipient", "text", "image_url", "in_doubt",
            )
            .first()
        )  # fmt: skip
        if message is None:
            return found(Idle())
        passed.append(message.pk)
        if message.expires_at is not None and message.expires_at <= now:
            if expire(using, message.pk):
                (doubtful if message.in_doubt else expired).append(message.pk)
            continue
        if message.needs_rendering or _is_stale(message, now):
            if messages.filter(pk=message.pk, status=Status.QUEUED).update(
                due_at=in_seconds(RENDER_STEP_BACK_SECONDS), renderings_begun=F("renderings_begun") + 1
            ):
                return found(Unrendered(message.pk, message.due_at))
            continue
        next_send_at = lane["next_send_at"]
        if next_send_at is not None and next_send_at > now:
            return found(Idle(wait_seconds=(next_send_at - now).total_seconds()))
        claimed = messages.filter(pk=message.pk, status=Status.QUEUED, attempts_made=message.attempts_made).update(
            status=Status.SENDING,
            attempts_made=message.attempts_made + 1,
            attempts_spent=F("attempts_spent") + 1,
        )
        if claimed:
            return found(_start_attempt(using, message))
    return found(Idle(wait_seconds=0.0))


def _is_stale(message: OutboundMessage, now: datetime) -> bool:
    if not message.renderer or message.in_doubt or message.rendered_at is None:
        return False
    return message.rendered_at <= now - timedelta(seconds=TEXT_KEEPS_SECONDS)


def claim_or_release(using: str, lease: Lease) -> Claimed:
    """Claim the next due message; where there is nothing to send, give the lane back."""
    return release_idle(using, lease, claim(using, lease))


def release_idle(using: str, lease: Lease, claimed: Claimed) -> Claimed:
    """Give the lane back where there is nothing to send, now or after the pace's wait."""
    idle = claimed.next
    if not isinstance(idle, Idle) or idle.wait_seconds is not None:
        return claimed
    held(using, lease).update(lease_token=None, lease_expires_at=None)
    return replace(claimed, next=replace(idle, is_released=True))


def _start_attempt(using: str, message: OutboundMessage) -> Claim:
    number = message.attempts_made + 1
    attempt = SendAttempt(message_id=message.pk, number=number, started_at=DatabaseNow())
    attempt.save(using=using, force_insert=True)
    return Claim(
        message_id=message.pk,
        attempt_id=attempt.pk,
        attempt_number=number,
        attempts_spent=message.attempts_spent + 1,
        recipient_type=message.recipient_type,
        recipient=message.recipient,
        text=message.text,
        image_url=message.image_url,
    )


def expire(using: str, message_id: int) -> bool:
    """Expire a waiting message whose time has passed; one with an attempt in doubt returns to `unknown`."""
    overdue = OutboundMessage.objects.filter(pk=message_id).overdue()
    return bool(
        overdue.filter(in_doubt=False).update(status=Status.EXPIRED, settled_at=DatabaseNow())
        or overdue.filter(in_doubt=True).update(status=Status.UNKNOWN, settled_at=DatabaseNow())
    )


def finish_attempt(using: str, claim: Claim, outcome: Outcome) -> None:
    """Complete the attempt. One that was declared in doubt meanwhile may only become more certain."""
    running = Q(outcome=OutcomeKind.RUNNING)
    if outcome.kind != OutcomeKind.IN_DOUBT:
        running |= Q(outcome=OutcomeKind.IN_DOUBT)
    # Without an answer, the id stays that a webhook may have told meanwhile.
    answered = answer_columns(outcome.answer) if outcome.answer is not None else {}
    SendAttempt.objects.filter(running, pk=claim.attempt_id).update(
        finished_at=DatabaseNow(), **outcome_columns(outcome), **answered
    )


def settle(using: str, claim: Claim, outcome: Outcome, verdict: MessageVerdict) -> Status | None:
    """Move the message by its verdict; returns where it went, None where it had moved on."""
    if verdict.status == Status.SENT:
        # Also from where a lost lease or a withdrawn resend had put it: proof of any attempt is proof.
        accepted = OutboundMessage.objects.filter(pk=claim.message_id)
        if accepted.filter(
            Q(status__in=[Status.UNKNOWN, Status.QUEUED]) | Q(status=Status.SENDING, attempts_made=claim.attempt_number)
        ).update(**sent_columns(DatabaseNow())):
            return Status.SENT
        # A later attempt is in flight: the proof is recorded with it.
        return Status.SENT if settle_proven(using, claim.message_id) else None
    sending = _sending(using, claim)
    settled = _settle_sending(_unproven(sending), outcome, verdict) or _settle_as_proven(sending)
    if settled is None and outcome.kind != OutcomeKind.IN_DOUBT:
        return _settle_late(using, claim, verdict)
    return settled


def _settle_sending(sending: OutboundMessageQuerySet, outcome: Outcome, verdict: MessageVerdict) -> Status | None:
    columns = _verdict_columns(verdict)
    if outcome.kind == OutcomeKind.IN_DOUBT:
        return verdict.status if sending.update(**columns, in_doubt=True) else None
    if verdict.status == Status.QUEUED:
        return Status.QUEUED if sending.update(**columns) else None
    if sending.filter(in_doubt=False).update(**columns):
        return verdict.status
    return Status.UNKNOWN if sending.filter(in_doubt=True).update(**columns | {"status": Status.UNKNOWN}) else None


def _unproven(sending: OutboundMessageQuerySet) -> OutboundMessageQuerySet:
    """The others are tried last: proof that is being committed now is seen by an UPDATE that had to wait for it."""
    return sending.filter(proven_at=None)


def _settle_as_proven(sending: OutboundMessageQuerySet) -> Status | None:
    proven = sending.filter(proven_at__isnull=False)
    return Status.SENT if proven.update(**sent_columns(F("proven_at"))) else None


def _verdict_columns(verdict: MessageVerdict) -> dict[str, Any]:
    columns: dict[str, Any] = {"status": verdict.status, "reason": verdict.reason, "reason_words": verdict.words}
    if verdict.status == Status.QUEUED:
        if verdict.due_in_seconds is not None:
            columns["due_at"] = in_seconds(verdict.due_in_seconds)
        if verdict.refunds_attempt:
            columns["attempts_spent"] = F("attempts_spent") - 1
    else:
        columns["settled_at"] = DatabaseNow()
    return columns


def _settle_late(using: str, claim: Claim, verdict: MessageVerdict) -> Status | None:
    """The lease had run out and the message was declared in doubt; now it is certain that this attempt sent nothing.

    Where no other attempt is in doubt, neither is the message.
    """
    messages = OutboundMessage.objects.filter(pk=claim.message_id, in_doubt=True)
    # Locked before its attempts are read: a resend that is claimed in between brings a doubt of its own.
    if not list(messages.select_for_update().values_list("pk", flat=True)):
        return None
    others = SendAttempt.objects.filter(message_id=claim.message_id).exclude(pk=claim.attempt_id)
    if others.filter(outcome__in=[OutcomeKind.IN_DOUBT, OutcomeKind.RUNNING]).exists():
        return None
    untouched = messages.filter(
        status=Status.UNKNOWN, reason=Cause.WORKER_LOST.value, dismissed_at=None, attempts_made=claim.attempt_number
    )
    if untouched.update(**_verdict_columns(verdict), in_doubt=False):
        return verdict.status
    # A person decided about it meanwhile: all that is left to take back is the flag.
    messages.update(in_doubt=False)
    return None


def settle_proven(using: str, message_id: int) -> bool:
    """Make a message `sent` that is proven to have been accepted; one that is being sent, when that is recorded.

    True: it became `sent`.
    """
    message = OutboundMessage.objects.filter(pk=message_id)
    # One write over all of them comes first and locks: between two it could slip from `sending` to `unknown`.
    open_ones = [Status.UNKNOWN, Status.QUEUED, Status.SENDING]
    if not message.filter(status__in=open_ones).update(proven_at=Coalesce("proven_at", DatabaseNow())):
        return False
    return bool(message.exclude(status=Status.SENDING).update(**sent_columns(F("proven_at"))))


def recorded_before(using: str, claim: Claim) -> Status:
    """What a first, unanswered COMMIT of this record had made of the message."""
    status = Status(OutboundMessage.objects.values_list("status", flat=True).get(pk=claim.message_id))
    return Status.SENT if status in ARRIVED else status


def give_back_unstarted(using: str, license_id: int) -> None:
    """Return what a first, unanswered COMMIT of this record had claimed: it was never called."""
    unstarted = OutboundMessage.objects.filter(license_id=license_id, status=Status.SENDING)
    for message_id, number in list(unstarted.values_list("pk", "attempts_made")):
        undo_claim(using, message_id, number)


def undo_claim(using: str, message_id: int, attempt_number: int) -> Status | None:
    sending = OutboundMessage.objects.filter(pk=message_id, status=Status.SENDING, attempts_made=attempt_number)
    queued = _unproven(sending).update(status=Status.QUEUED, attempts_spent=F("attempts_spent") - 1)
    undone = Status.QUEUED if queued else _settle_as_proven(sending)
    if undone:
        SendAttempt.objects.filter(message_id=message_id, number=attempt_number, outcome=OutcomeKind.RUNNING).update(
            outcome=OutcomeKind.NOT_SENT, finished_at=DatabaseNow()
        )
    return undone


def settle_lost(using: str, license_id: int, *, resend_lost: bool, max_attempts: int) -> Lost:
    """The worker of this lane is gone: nobody knows what became of the message it was sending."""
    sending = OutboundMessage.objects.filter(license_id=license_id, status=Status.SENDING)
    most_spent = max_attempts - 1 if resend_lost else -1
    became: dict[int, Status | None] = {}
    for message_id, number in list(sending.values_list("pk", "attempts_made")):
        became[message_id] = _lose(sending.filter(pk=message_id), most_spent)
        SendAttempt.objects.filter(message_id=message_id, number=number, outcome=OutcomeKind.RUNNING).update(
            outcome=OutcomeKind.IN_DOUBT, cause=Cause.WORKER_LOST.value, finished_at=DatabaseNow()
        )
    return Lost(
        tuple(message_id for message_id, status in became.items() if status == Status.UNKNOWN),
        tuple(message_id for message_id, status in became.items() if status == Status.SENT),
    )


def _lose(sending: OutboundMessageQuerySet, most_spent: int) -> Status | None:
    """Move one message of a lost worker: sent again only where it spent at most `most_spent` attempts."""
    doubt = {"in_doubt": True, "reason": Cause.WORKER_LOST.value, "reason_words": ""}
    unproven = _unproven(sending)
    if unproven.filter(attempts_spent__lte=most_spent).update(status=Status.QUEUED, due_at=DatabaseNow(), **doubt):
        return Status.QUEUED
    if unproven.update(status=Status.UNKNOWN, settled_at=DatabaseNow(), **doubt):
        return Status.UNKNOWN
    return _settle_as_proven(sending)


def has_startable_work(using: str, license_id: int) -> bool:
    """Whether the lane is free and may be driven, and has something due."""
    lane = Lane.objects.filter(pk=license_id).startable().free()
    return (
        OutboundMessage.objects.due().filter(license_id=license_id).exists()
        and lane.exclude(next_send_at__gt=DatabaseNow()).exists()
    )
