"""Lanes and the messages that go through them: leases and records, portably and for every case; `claims` has the rest.

- Every status change is an UPDATE on the condition that the row still has the status that it leaves.
- Rows are locked in one order, against deadlocks: lane, then messages, then their attempts.
- A transaction begins with a write. SQLite then takes its write lock at once. MariaDB's snapshot then begins after the
  wait for the lock, so that later reads see what is committed.
- Recording is durable: it is never part of a caller's transaction.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import F
from django.db.models.functions import Coalesce
from django.views.decorators.debug import sensitive_variables

from ..gateway.outcome import Cause, Outcome, OutcomeKind
from ..models.database import DatabaseNow, in_seconds
from ..models.lane import HELD_BY_PEOPLE, Lane, PauseReason
from ..models.message import (
    ARRIVED,
    OutboundMessage,
    OutboundMessageQuerySet,
    RecipientType,
    SendAttempt,
    Status,
)
from ..models.recipient import Recipient
from .claims import Claims, being_sent, running_attempt, settle_as_proven, without_proof
from .columns import (
    answer_columns,
    error_columns,
    lane_columns,
    outcome_columns,
    pause_columns,
    sent_columns,
    verdict_columns,
)
from .compiled import update_where
from .locks import TAKE_SECONDS
from .restriction import Sign, sign_of
from .results import (
    CONTENT_COLUMNS,
    Change,
    Claim,
    Content,
    LaneVerdict,
    Lease,
    LeaseLost,
    MessageVerdict,
    Pause,
    Ready,
    Recorded,
    Step,
)


class Lanes(Claims):
    """The operations of a lane's driver: take and give back the lease, claim a message, record its outcome."""

    # --- leases ---

    def ensure_lane(self, license_id: int) -> None:
        """Insert the lane's row if it is missing; safe to call from several processes at once."""
        Lane.objects.bulk_create([Lane(license_id=license_id)], ignore_conflicts=True)

    def take_lease(
        self, lease: Lease, seconds: float, *, resend_lost: bool, max_attempts: int, claims: bool = False
    ) -> Step:
        """Take the lease of a lane that nobody drives.

        If an earlier lease ran out, its worker was lost, and the message that it was sending becomes `unknown`.

        Args:
            lease: The new lease, with its own token.
            seconds: How long the lease lasts.
            resend_lost: Return that message to `queued` instead, if it has spent fewer than `max_attempts`.
            max_attempts: The value of `KPWA["MAX_ATTEMPTS"]`.
            claims: Allow the store to claim the first message by the same statement.

        Returns:
            A step with `Ready`, a `Claim` (only with `claims`), or `LeaseLost` if the lane is not free.

        Raises:
            OperationalError: The lane's row stays locked by another process, see `locks`.
        """
        with self.durable(TAKE_SECONDS):
            free = Lane.objects.filter(pk=lease.license_id).free()
            columns = {"lease_token": lease.token, "lease_expires_at": in_seconds(seconds)}
            if not free.update(**columns, lease_taken_at=DatabaseNow()):
                return Step(LeaseLost())
            return Step(Ready(), self._settle_lost(lease.license_id, resend_lost, max_attempts))

    def swap_lease(self, passed_on: Lease, lease: Lease, seconds: float, *, claims: bool = False) -> Step:
        """Replace the lease `passed_on`, which its holder handed to the next task, by `lease`, for `seconds`.

        `claims`, the result and the exception are as for `take_lease()`. `LeaseLost` means that the task was delivered
        twice, and the other delivery was faster.
        """
        with self.durable(TAKE_SECONDS):
            columns = {"lease_token": lease.token, "lease_expires_at": in_seconds(seconds)}
            return Step(Ready() if self._held(passed_on).update(**columns) else LeaseLost())

    def has_startable_work(self, license_id: int) -> bool:
        """True if the lane is free, may be driven now, and has a message due."""
        lane = Lane.objects.filter(pk=license_id).startable().free()
        return (
            OutboundMessage.objects.due().filter(license_id=license_id).exists()
            and lane.exclude(next_send_at__gt=DatabaseNow()).exists()
        )

    def release_lease(self, lease: Lease) -> bool:
        """Give the lane back, so that any worker may take it. Returns False if the lease was already lost."""
        with self.durable():
            return bool(self._held(lease).update(lease_token=None, lease_expires_at=None))

    def pause_lane(self, lease: Lease, pause: Pause, *, probes: int = 0, error: str = "") -> bool:
        """Pause the lane of this lease, or extend its pause.

        Args:
            lease: The lease under which the caller drives the lane.
            pause: The pause to write.
            probes: Number of status checks during this pause so far; 0 if the pause begins now.
            error: What went wrong, as text for people.

        Returns:
            False if the lease was lost, or if the lane has another pause that only people end. That pause is kept.
        """
        with self.durable():
            return self._pause(lease, pause, probes=probes, **error_columns(error))

    def end_pace(self) -> None:
        """Let every lane send immediately. For a site's own tests."""
        Lane.objects.update(next_send_at=None)

    def end_waits_for_text(self, seconds: float) -> None:
        """Make due every message that waits at most `seconds` for its text. For a site's own tests."""
        waiting = OutboundMessage.objects.filter(status=Status.QUEUED, rendered_at=None).exclude(renderer="")
        waiting.filter(due_at__lte=in_seconds(seconds)).update(due_at=DatabaseNow())

    def shift_times(self, messages: OutboundMessageQuerySet, name: str, by: timedelta) -> None:
        """Add `by` to the column `name` of these messages. For a site's own tests."""
        messages.update(**{name: F(name) + by})

    def settle_abandoned(self, license_id: int, *, resend_lost: bool, max_attempts: int) -> tuple[Change, ...]:
        """Free a lane whose lease ran out and that no worker takes. Returns the messages that changed.

        `resend_lost` and `max_attempts` are as for `take_lease()`. A lane that another process has locked is skipped.
        """
        with self.durable(TAKE_SECONDS):
            abandoned = Lane.objects.filter(pk=license_id).abandoned()
            if not list(self.locked(abandoned).values_list("pk", flat=True)):
                return ()
            abandoned.update(lease_token=None, lease_expires_at=None)
            return self._settle_lost(license_id, resend_lost, max_attempts)

    def _pause(self, lease: Lease, pause: Pause, *, probes: int, **columns: Any) -> bool:
        columns |= pause_columns(pause)
        if probes:
            del columns["paused_at"]
        # A status check must not end or replace a pause that a person has to end.
        pausable = self._held(lease).exclude(pause_reason__in=set(HELD_BY_PEOPLE) - {pause.reason})
        if pause.reason == PauseReason.NUMBER_CHANGED:
            # A person may have confirmed the number since this driver read the lane.
            pausable = pausable.exclude(confirmed_number="").exclude(confirmed_number=F("linked_number"))
        return bool(pausable.update(**columns, probes=probes))

    # --- records ---

    @sensitive_variables()
    def record(
        self,
        lease: Lease,
        claim: Claim,
        outcome: Outcome,
        verdict: MessageVerdict,
        lane: LaneVerdict,
        *,
        lease_seconds: float,
        claims_next: bool,
        is_retry: bool = False,
    ) -> Recorded:
        """Record a claim's outcome and renew the lease, in one transaction.

        If the lease was lost in the meantime, only this attempt and its message are updated, and only if the outcome
        makes them more certain.

        Args:
            lease: The lease under which the message was claimed.
            claim: The claim whose message was sent or tried.
            outcome: What is known after the call.
            verdict: What follows for the message.
            lane: What follows for the lane.
            lease_seconds: How long the renewed lease lasts.
            claims_next: Claim the next message as well. If there is nothing to send, the same commit gives the lane
                back instead (`Idle.is_released`).
            is_retry: An earlier call failed, but its COMMIT may have succeeded. A message that it claimed was never
                sent, and is put back.

        Returns:
            The message's new status and the driver's next step.
        """
        with self.durable():
            columns = lane_columns(lane) | {"lease_expires_at": in_seconds(lease_seconds)}
            sign = sign_of(outcome)
            # The usual case needs no weighing: a success indicates nothing if no message has failed before it.
            is_usual = sign not in _WEIGHED and self._update_held(lease, columns, cold_trail="")
            held = is_usual or self._update_held(lease, columns)
            paused = held and lane.pause is not None and self._pause(lease, lane.pause, probes=0)
            status = self._settle(claim, outcome, verdict)
            is_forgotten = not held and self._is_forgotten(claim.message_id)
            self._finish_attempt(claim, outcome, without_words=is_forgotten)
            if not is_forgotten and outcome.kind in (OutcomeKind.ACCEPTED, OutcomeKind.IN_DOUBT):
                self._note_sent(lease.license_id, claim.content)
            if not held:
                return Recorded(status, Step(LeaseLost()))
            if not is_usual:
                words = outcome.words or str(outcome.code or "")
                self._weigh(lease.license_id, claim.message_id, claim.content, sign, words)
            if is_retry:
                status = status or self._recorded_before(claim)
                self._give_back_unstarted(lease.license_id)
            return Recorded(status, self._claim_or_release(lease) if claims_next else Step(Ready()), paused)

    def _is_forgotten(self, message_id: int) -> bool:
        """True if the number of this message was forgotten.

        The row is locked, so that the number cannot be forgotten until this transaction ends.
        """
        message = OutboundMessage.objects.filter(pk=message_id).select_for_update()
        return "" in message.values_list("recipient", flat=True)

    def _finish_attempt(self, claim: Claim, outcome: Outcome, *, without_words: bool = False) -> None:
        """Store the outcome of the attempt. If it was declared in doubt, only a certain outcome replaces that.

        `without_words`: store no text of the gateway, because it may name the recipient.
        """
        # Without an answer, `gateway_id` is left alone: a webhook may have stored it in the meantime.
        answered = answer_columns(outcome.answer) if outcome.answer is not None else {}
        columns = {"finished_at": DatabaseNow()} | outcome_columns(outcome) | answered
        if without_words:
            columns |= dict.fromkeys({"words", "gateway_id", "read_as"} & columns.keys(), "")
        before = [OutcomeKind.RUNNING] if outcome.kind == OutcomeKind.IN_DOUBT else _UNFINISHED
        for kind in before:
            if update_where(self.connection, SendAttempt, {"pk": claim.attempt_id, "outcome": kind}, columns):
                return

    @sensitive_variables()
    def _note_sent(self, license_id: int, content: Content) -> None:
        """Store in the recipient's row that a message was sent to the number, or may have been."""
        if content.recipient_type != RecipientType.NUMBER:
            return
        where = {"license_id": license_id, "number": content.recipient}
        columns = {"first_sent_at": _FIRST_SENT, "last_sent_at": DatabaseNow(), "sent_since_inbound": _ONE_MORE_SENT}
        if not update_where(self.connection, Recipient, where, columns):
            Recipient.objects.bulk_create([Recipient(**where)], ignore_conflicts=True)
            update_where(self.connection, Recipient, where, columns)

    def _settle(self, claim: Claim, outcome: Outcome, verdict: MessageVerdict) -> Status | None:
        """Apply the verdict to the message; returns its new status, or None if it had another status meanwhile."""
        if verdict.status == Status.SENT:
            return self._settle_accepted(claim)
        sending = being_sent(claim.message_id, claim.attempt_number)
        settled = _settle_sending(without_proof(sending), outcome, verdict) or settle_as_proven(sending)
        if settled is None and outcome.kind != OutcomeKind.IN_DOUBT:
            return self._settle_late(claim, verdict)
        return settled

    def _settle_accepted(self, claim: Claim) -> Status | None:
        columns = sent_columns(DatabaseNow())
        where = {"pk": claim.message_id, "status": Status.SENDING, "attempts_made": claim.attempt_number}
        if update_where(self.connection, OutboundMessage, where, columns):
            return Status.SENT
        # After the lease was lost, the message may have become `unknown` or been queued again. It was sent all the
        # same: proof that any one attempt was accepted is enough.
        moved = OutboundMessage.objects.filter(pk=claim.message_id, status__in=[Status.UNKNOWN, Status.QUEUED])
        if moved.update(**columns):
            return Status.SENT
        # A later attempt is being sent: the proof is stored now and takes effect when that attempt is recorded.
        return Status.SENT if self.settle_proven(claim.message_id) else None

    def _settle_late(self, claim: Claim, verdict: MessageVerdict) -> Status | None:
        """Apply a verdict that came after the lease ran out, and says that the attempt was certainly not sent.

        The message was declared in doubt by then. The doubt ends if no other attempt is in doubt.
        """
        messages = OutboundMessage.objects.filter(pk=claim.message_id, in_doubt=True)
        # Locked before its attempts are read. Otherwise a resend could be claimed in between, and its own doubt would
        # be overlooked.
        if not list(messages.select_for_update().values_list("pk", flat=True)):
            return None
        others = SendAttempt.objects.filter(message_id=claim.message_id).exclude(pk=claim.attempt_id)
        if others.filter(outcome__in=_UNFINISHED).exists():
            return None
        untouched = messages.filter(
            status=Status.UNKNOWN, reason=Cause.WORKER_LOST.value, dismissed_at=None, attempts_made=claim.attempt_number
        )
        if untouched.update(**verdict_columns(verdict), in_doubt=False):
            return verdict.status
        # A person has decided about the message in the meantime. That decision stays; only the flag is cleared.
        messages.update(in_doubt=False)
        return None

    def settle_proven(self, message_id: int) -> bool:
        """Store the proof that an attempt of the message was accepted. Returns True if the message became `sent`.

        A message that is being sent becomes `sent` when its running attempt is recorded.
        """
        message = OutboundMessage.objects.filter(pk=message_id)
        # The first UPDATE covers all three statuses and locks the row: with one UPDATE for each, the message could
        # change from `sending` to `unknown` between them and be missed by both.
        open_ones = [Status.UNKNOWN, Status.QUEUED, Status.SENDING]
        if not message.filter(status__in=open_ones).update(proven_at=Coalesce("proven_at", DatabaseNow())):
            return False
        return bool(message.exclude(status=Status.SENDING).update(**sent_columns(F("proven_at"))))

    def _recorded_before(self, claim: Claim) -> Status:
        """Return the message's status if an earlier call recorded it, but lost the connection during its COMMIT."""
        status = Status(OutboundMessage.objects.values_list("status", flat=True).get(pk=claim.message_id))
        return Status.SENT if status in ARRIVED else status

    def _give_back_unstarted(self, license_id: int) -> None:
        """Put back the message that an earlier call of `record()` claimed: the gateway was never called for it."""
        unstarted = OutboundMessage.objects.filter(license_id=license_id, status=Status.SENDING)
        for message_id, number in list(unstarted.values_list("pk", "attempts_made")):
            self._undo_claim(being_sent(message_id, number), running_attempt(message_id, number))

    @sensitive_variables()
    def _settle_lost(self, license_id: int, resend_lost: bool, max_attempts: int) -> tuple[Change, ...]:
        """Settle the messages that a lost worker was sending. Nobody knows whether they were sent.

        Returns those that did not go back to the queue.
        """
        sending = OutboundMessage.objects.filter(license_id=license_id, status=Status.SENDING)
        max_spent = max_attempts - 1 if resend_lost else -1
        changed = []
        names = ("pk", "attempts_made", *CONTENT_COLUMNS)
        for message_id, number, *content in list(sending.values_list(*names)):
            status = _lose(sending.filter(pk=message_id), max_spent)
            if status is not None and status != Status.QUEUED:
                changed.append(Change(message_id, status))
            running_attempt(message_id, number).update(
                outcome=OutcomeKind.IN_DOUBT, cause=Cause.WORKER_LOST.value, finished_at=DatabaseNow()
            )
            self._note_sent(license_id, Content(*content))
        return tuple(changed)


# Constants, so that their hashes are computed once, see `compiled._shape_of()`.
_FIRST_SENT = Coalesce("first_sent_at", DatabaseNow())
_ONE_MORE_SENT = F("sent_since_inbound") + 1
_WEIGHED = (Sign.MARKED, Sign.FAILED, Sign.IN_DOUBT)
"""Signs that are weighed even if nothing has indicated a restriction so far."""
_UNFINISHED = [OutcomeKind.RUNNING, OutcomeKind.IN_DOUBT]


def _settle_sending(sending: OutboundMessageQuerySet, outcome: Outcome, verdict: MessageVerdict) -> Status | None:
    columns = verdict_columns(verdict)
    if outcome.kind == OutcomeKind.IN_DOUBT:
        return verdict.status if sending.update(**columns, in_doubt=True) else None
    if verdict.status == Status.QUEUED:
        return Status.QUEUED if sending.update(**columns) else None
    if sending.filter(in_doubt=False).update(**columns):
        return verdict.status
    return Status.UNKNOWN if sending.filter(in_doubt=True).update(**columns | {"status": Status.UNKNOWN}) else None


def _lose(sending: OutboundMessageQuerySet, max_spent: int) -> Status | None:
    """Settle one message of a lost worker, and return its new status; None if it is no longer `sending`.

    It is queued again if it spent at most `max_spent` attempts. Otherwise it becomes `unknown`.
    """
    doubt = {"in_doubt": True, "reason": Cause.WORKER_LOST.value, "reason_words": ""}
    unproven = without_proof(sending)
    if unproven.filter(attempts_spent__lte=max_spent).update(status=Status.QUEUED, due_at=DatabaseNow(), **doubt):
        return Status.QUEUED
    if unproven.update(status=Status.UNKNOWN, settled_at=DatabaseNow(), **doubt):
        return Status.UNKNOWN
    return settle_as_proven(sending)
