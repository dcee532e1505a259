"""Lanes and the messages that go through them: leases, claims and records, in the ORM's words and for every case.

Every status change is a conditional UPDATE on the status that it leaves. Whoever writes several of them locks in one
order: lane, then messages, then their attempts. A transaction begins with a write, so that SQLite takes its lock at
once and MariaDB reads what is committed. Recording is durable: it never hides in a caller's transaction.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from django.db.models import F, QuerySet
from django.db.models.functions import Coalesce
from django.views.decorators.debug import sensitive_variables

from ..gateway.outcome import Cause, Outcome, OutcomeKind
from ..models.attempt import SendAttempt
from ..models.clock import DatabaseNow, in_seconds
from ..models.lane import HELD_BY_PEOPLE, Lane, PauseReason
from ..models.license import License
from ..models.message import ARRIVED, OutboundMessage, OutboundMessageQuerySet, Status
from .base import StoreBase
from .columns import (
    answer_columns,
    error_columns,
    lane_columns,
    outcome_columns,
    pause_columns,
    sent_columns,
    verdict_columns,
)
from .compiled import Parameter, first_of, update_where
from .locks import TAKE_SECONDS
from .results import (
    CONTENT_COLUMNS,
    Change,
    Claim,
    Content,
    Idle,
    LaneVerdict,
    Lease,
    LeaseLost,
    MessageVerdict,
    Pause,
    Ready,
    Recorded,
    Step,
    Unrendered,
)

_LOOKED_AT = (
    "pk", "due_at", "expires_at", "renderer", "rendered_at", "attempts_made", "attempts_spent", "in_doubt",
    *CONTENT_COLUMNS,
    "now", "license__is_active", "license__lane__pause_reason", "license__lane__next_send_at",
)  # fmt: skip


class Lanes(StoreBase):
    RENDER_STEP_BACK_SECONDS = 60.0
    """An unrendered message leaves its place for so long before its template runs: one that hangs cannot block."""
    TEXT_KEEPS_SECONDS = 60
    """A text that was written longer ago is written anew, unless an attempt is in doubt: the lane was paused since, or
    the attempt failed, and to whom it goes, by which license and what it says is asked again."""
    MOST_PASSED = 100
    """One look for the next message passes so many that cannot go; then it commits, for it holds up other writers."""

    # --- leases ---

    def ensure_lane(self, license_id: int) -> None:
        """Insert the lane's row where it is missing; harmless where somebody else just did."""
        Lane.objects.bulk_create([Lane(license_id=license_id)], ignore_conflicts=True)

    def take_lease(
        self, lease: Lease, seconds: float, *, resend_lost: bool, max_attempts: int, claims: bool = False
    ) -> Step:
        """Take a lane that nobody drives, for so long. Raises as `locks` says where its row stays locked.

        Where an earlier lease had run out, its worker was lost: the message that it was sending is in doubt from here
        on (`resend_lost`: goes back to `queued` instead, while attempts are left). `claims`: the first message may be
        claimed by the same statement; the step is `Ready` otherwise.
        """
        with self.durable(TAKE_SECONDS):
            free = Lane.objects.filter(pk=lease.license_id).free()
            columns = {"lease_token": lease.token, "lease_expires_at": in_seconds(seconds)}
            if not free.update(**columns, lease_taken_at=DatabaseNow()):
                return Step(LeaseLost())
            return Step(Ready(), self._settle_lost(lease.license_id, resend_lost, max_attempts))

    def swap_lease(self, passed_on: Lease, lease: Lease, seconds: float, *, claims: bool = False) -> Step:
        """Take over a lane whose holder passed its lease on; it is lost where a repeat of the task was faster.

        `claims` as for `take_lease()`.
        """
        with self.durable(TAKE_SECONDS):
            columns = {"lease_token": lease.token, "lease_expires_at": in_seconds(seconds)}
            return Step(Ready() if self._held(passed_on).update(**columns) else LeaseLost())

    def has_startable_work(self, license_id: int) -> bool:
        """True if the lane is free, may be driven, and has something due."""
        lane = Lane.objects.filter(pk=license_id).startable().free()
        return (
            OutboundMessage.objects.due().filter(license_id=license_id).exists()
            and lane.exclude(next_send_at__gt=DatabaseNow()).exists()
        )

    def release_lease(self, lease: Lease) -> bool:
        """Give the lane back. False: the lease was lost before."""
        with self.durable():
            return bool(self._held(lease).update(lease_token=None, lease_expires_at=None))

    def pause_lane(self, lease: Lease, pause: Pause, *, probes: int = 0, error: str = "") -> bool:
        """Pause a lane that one drives, or pause it anew after `probes` status checks. `error`: in words.

        False: the lease was lost, or the lane has meanwhile a pause that people end, which stays.
        """
        with self.durable():
            return self._pause(lease, pause, probes=probes, **error_columns(error))

    def end_pace(self) -> None:
        """Let every lane send at once, as a site's own tests want it."""
        Lane.objects.update(next_send_at=None)

    def settle_abandoned(self, license_id: int, *, resend_lost: bool, max_attempts: int) -> tuple[Change, ...]:
        """Free a lane whose lease ran out and that nobody takes; returns what became of its messages.

        One that somebody is at is left to them, or to the next time.
        """
        with self.durable(TAKE_SECONDS):
            skips = self.connection.features.has_select_for_update_skip_locked
            abandoned = Lane.objects.filter(pk=license_id).abandoned()
            if not list(abandoned.select_for_update(skip_locked=skips).values_list("pk", flat=True)):
                return ()
            abandoned.update(lease_token=None, lease_expires_at=None)
            return self._settle_lost(license_id, resend_lost, max_attempts)

    def _held(self, lease: Lease) -> QuerySet[Lane]:
        return Lane.objects.filter(pk=lease.license_id, lease_token=lease.token)

    def _update_held(self, lease: Lease, columns: dict[str, Any]) -> bool:
        """The same for each message that is sent."""
        where = {"pk": lease.license_id, "lease_token": lease.token}
        return bool(update_where(self.connection, Lane, where, columns))

    def _renew(self, lease: Lease, seconds: float) -> bool:
        return self._update_held(lease, {"lease_expires_at": in_seconds(seconds)})

    def _pause(self, lease: Lease, pause: Pause, *, probes: int, **columns: Any) -> bool:
        columns |= pause_columns(pause)
        if probes:
            del columns["paused_at"]
        # No status check ends or replaces what a person has to end.
        pausable = self._held(lease).exclude(pause_reason__in=set(HELD_BY_PEOPLE) - {pause.reason})
        if pause.reason == PauseReason.NUMBER_CHANGED:
            # A person may have confirmed the number since the lane was read.
            pausable = pausable.exclude(confirmed_number="").exclude(confirmed_number=F("linked_number"))
        return bool(pausable.update(**columns, probes=probes))

    # --- claims ---

    def claim_next(self, lease: Lease, seconds: float) -> Step:
        """Renew the lease for so long and claim the next message that may go now."""
        with self.durable():
            return self._claim(lease) if self._renew(lease, seconds) else Step(LeaseLost())

    def give_back(self, claim: Claim) -> Status | None:
        """Return a claimed message that was not sent after all; `sent` where proof of an earlier attempt has come.

        None: the lease ran out and it is in doubt already.
        """
        with self.durable():
            return self._undo_claim(claim.message_id, claim.attempt_number)

    def _claim(self, lease: Lease) -> Step:
        """Find and claim the next due message; expire what is in the way. The lane's row is locked already."""
        changed: list[Change] = []
        # Cancelled, or proven sent, between look and claim; under REPEATABLE READ every look would find it again.
        passed: list[int] = []
        while len(passed) < self.MOST_PASSED:
            found = self._first_due(lease.license_id, passed)
            if found is None:
                going = Lane.objects.filter(pk=lease.license_id, pause_reason=PauseReason.NONE, license__is_active=True)
                return Step(Idle(is_paused=not going.exists()), tuple(changed))
            if found["license__lane__pause_reason"] or not found["license__is_active"]:
                return Step(Idle(is_paused=True), tuple(changed))
            passed.append(found["pk"])
            now, next_send_at = found["now"], found["license__lane__next_send_at"]
            if found["expires_at"] is not None and found["expires_at"] <= now:
                status = self._expire(found["pk"])
                changed += [Change(found["pk"], status)] if status else []
            elif self._wants_its_text(found, now):
                if self._step_back_to_render(found["pk"]):
                    return Step(Unrendered(found["pk"], found["due_at"]), tuple(changed))
            elif next_send_at is not None and next_send_at > now:
                return Step(Idle(wait_seconds=(next_send_at - now).total_seconds()), tuple(changed))
            elif claim := self._start(found):
                return Step(claim, tuple(changed))
        return Step(Idle(wait_seconds=0.0), tuple(changed))

    @sensitive_variables()
    def _first_due(self, license_id: int, passed: list[int]) -> dict[str, Any] | None:
        """What is looked at of the first message that is due, with its lane."""
        if passed:
            return _due(license_id).exclude(pk__in=passed).first()
        return first_of(self.connection, _first_due, {"license_id": license_id})

    def _wants_its_text(self, found: dict[str, Any], now: datetime) -> bool:
        if not found["renderer"]:
            return False
        if found["rendered_at"] is None:
            return True
        return not found["in_doubt"] and found["rendered_at"] <= now - timedelta(seconds=self.TEXT_KEEPS_SECONDS)

    def _step_back_to_render(self, message_id: int) -> bool:
        return bool(
            OutboundMessage.objects.filter(pk=message_id, status=Status.QUEUED).update(
                due_at=in_seconds(self.RENDER_STEP_BACK_SECONDS), renderings_begun=F("renderings_begun") + 1
            )
        )

    @sensitive_variables()
    def _start(self, found: dict[str, Any]) -> Claim | None:
        """Claim the message and begin its attempt. None: somebody else was faster."""
        number = found["attempts_made"] + 1
        where = {"pk": found["pk"], "status": Status.QUEUED, "attempts_made": found["attempts_made"]}
        columns = {
            "status": Status.SENDING, "attempts_made": number, "attempts_spent": F("attempts_spent") + 1
        }  # fmt: skip
        if not update_where(self.connection, OutboundMessage, where, columns):
            return None
        attempt = SendAttempt(message_id=found["pk"], number=number, started_at=DatabaseNow())
        attempt.save(using=self.using, force_insert=True)
        content = Content(**{column: found[column] for column in CONTENT_COLUMNS})
        return Claim(found["pk"], attempt.pk, number, found["attempts_spent"] + 1, content)

    def _claim_or_release(self, lease: Lease) -> Step:
        """Claim the next due message; where there is nothing to send, give the lane back by the same commit."""
        step = self._claim(lease)
        if not isinstance(step.next, Idle) or step.next.wait_seconds is not None:
            return step
        self._held(lease).update(lease_token=None, lease_expires_at=None)
        return replace(step, next=replace(step.next, is_released=True))

    def _expire(self, message_id: int) -> Status | None:
        """Expire a waiting message whose time has passed; one with an attempt in doubt returns to `unknown`."""
        overdue = OutboundMessage.objects.filter(pk=message_id).overdue()
        for status, in_doubt in ((Status.EXPIRED, False), (Status.UNKNOWN, True)):
            if overdue.filter(in_doubt=in_doubt).update(status=status, settled_at=DatabaseNow()):
                return status
        return None

    def _undo_claim(self, message_id: int, attempt_number: int) -> Status | None:
        sending = _sending(message_id, attempt_number)
        queued = _unproven(sending).update(status=Status.QUEUED, attempts_spent=F("attempts_spent") - 1)
        undone = Status.QUEUED if queued else _settle_as_proven(sending)
        if undone:
            _running(message_id, attempt_number).update(outcome=OutcomeKind.NOT_SENT, finished_at=DatabaseNow())
        return undone

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
        """Record an outcome, renew the lease and, where `claims_next`, claim the next message: one transaction.

        With nothing to send the lane is given back instead, by the same commit (`Idle.is_released`).
        Where the lease was lost meanwhile, what was learned still upgrades this attempt and its message, and nothing
        else. `is_retry`: an earlier try's COMMIT may have gone through unanswered; what it claimed is given back.
        """
        with self.durable():
            held = self._update_held(lease, lane_columns(lane) | {"lease_expires_at": in_seconds(lease_seconds)})
            paused = held and lane.pause is not None and self._pause(lease, lane.pause, probes=0)
            status = self._settle(claim, outcome, verdict)
            self._finish_attempt(claim, outcome)
            if not held:
                return Recorded(status, Step(LeaseLost()))
            if is_retry:
                status = status or self._recorded_before(claim)
                self._give_back_unstarted(lease.license_id)
            return Recorded(status, self._claim_or_release(lease) if claims_next else Step(Ready()), paused)

    def _finish_attempt(self, claim: Claim, outcome: Outcome) -> None:
        """Complete the attempt. One that was declared in doubt meanwhile may only become more certain."""
        # Without an answer, the id stays that a webhook may have told meanwhile.
        answered = answer_columns(outcome.answer) if outcome.answer is not None else {}
        columns = {"finished_at": DatabaseNow()} | outcome_columns(outcome) | answered
        before = [OutcomeKind.RUNNING] if outcome.kind == OutcomeKind.IN_DOUBT else _UNFINISHED
        for kind in before:
            if update_where(self.connection, SendAttempt, {"pk": claim.attempt_id, "outcome": kind}, columns):
                return

    def _settle(self, claim: Claim, outcome: Outcome, verdict: MessageVerdict) -> Status | None:
        """Move the message by its verdict; returns where it went, None where it had moved on."""
        if verdict.status == Status.SENT:
            return self._settle_accepted(claim)
        sending = _sending(claim.message_id, claim.attempt_number)
        settled = _settle_sending(_unproven(sending), outcome, verdict) or _settle_as_proven(sending)
        if settled is None and outcome.kind != OutcomeKind.IN_DOUBT:
            return self._settle_late(claim, verdict)
        return settled

    def _settle_accepted(self, claim: Claim) -> Status | None:
        columns = sent_columns(DatabaseNow())
        where = {"pk": claim.message_id, "status": Status.SENDING, "attempts_made": claim.attempt_number}
        if update_where(self.connection, OutboundMessage, where, columns):
            return Status.SENT
        # Also from where a lost lease or a withdrawn resend had put it: proof of any attempt is proof.
        moved = OutboundMessage.objects.filter(pk=claim.message_id, status__in=[Status.UNKNOWN, Status.QUEUED])
        if moved.update(**columns):
            return Status.SENT
        # A later attempt is in flight: the proof is recorded with it.
        return Status.SENT if self.settle_proven(claim.message_id) else None

    def _settle_late(self, claim: Claim, verdict: MessageVerdict) -> Status | None:
        """The lease had run out and the message was declared in doubt; now it is certain that nothing was sent.

        Where no other attempt is in doubt, neither is the message.
        """
        messages = OutboundMessage.objects.filter(pk=claim.message_id, in_doubt=True)
        # Locked before its attempts are read: a resend that is claimed in between brings a doubt of its own.
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
        # A person decided about it meanwhile: all that is left to take back is the flag.
        messages.update(in_doubt=False)
        return None

    def settle_proven(self, message_id: int) -> bool:
        """Make a message `sent` that is proven to have been accepted; one that is being sent, when that is recorded.

        True: it became `sent`.
        """
        message = OutboundMessage.objects.filter(pk=message_id)
        # One write over all of them comes first and locks: between two it could slip from `sending` to `unknown`.
        open_ones = [Status.UNKNOWN, Status.QUEUED, Status.SENDING]
        if not message.filter(status__in=open_ones).update(proven_at=Coalesce("proven_at", DatabaseNow())):
            return False
        return bool(message.exclude(status=Status.SENDING).update(**sent_columns(F("proven_at"))))

    def _recorded_before(self, claim: Claim) -> Status:
        """What a first, unanswered COMMIT of this record had made of the message."""
        status = Status(OutboundMessage.objects.values_list("status", flat=True).get(pk=claim.message_id))
        return Status.SENT if status in ARRIVED else status

    def _give_back_unstarted(self, license_id: int) -> None:
        """Return what a first, unanswered COMMIT of this record had claimed: it was never called."""
        unstarted = OutboundMessage.objects.filter(license_id=license_id, status=Status.SENDING)
        for message_id, number in list(unstarted.values_list("pk", "attempts_made")):
            self._undo_claim(message_id, number)

    def _settle_lost(self, license_id: int, resend_lost: bool, max_attempts: int) -> tuple[Change, ...]:
        """The worker of this lane is gone: nobody knows what became of the message that it was sending."""
        sending = OutboundMessage.objects.filter(license_id=license_id, status=Status.SENDING)
        most_spent = max_attempts - 1 if resend_lost else -1
        changed = []
        for message_id, number in list(sending.values_list("pk", "attempts_made")):
            status = _lose(sending.filter(pk=message_id), most_spent)
            if status is not None and status != Status.QUEUED:
                changed.append(Change(message_id, status))
            _running(message_id, number).update(
                outcome=OutcomeKind.IN_DOUBT, cause=Cause.WORKER_LOST.value, finished_at=DatabaseNow()
            )
        return tuple(changed)


_UNFINISHED = [OutcomeKind.RUNNING, OutcomeKind.IN_DOUBT]


def _due(license_id: Any) -> QuerySet[OutboundMessage, Any]:
    """What is looked at of messages that are due, in the order in which they go."""
    due = OutboundMessage.objects.filter(license_id=license_id, status=Status.QUEUED, due_at__lte=DatabaseNow())
    looked_at: QuerySet[OutboundMessage, Any] = due.annotate(now=DatabaseNow()).values(*_LOOKED_AT)
    return looked_at.order_by("priority", "due_at", "id")


def _first_due() -> QuerySet[OutboundMessage, Any]:
    return _due(Parameter("license_id", License._meta.pk))


def _sending(message_id: int, attempt_number: int) -> OutboundMessageQuerySet:
    return OutboundMessage.objects.filter(pk=message_id, status=Status.SENDING, attempts_made=attempt_number)


def _running(message_id: int, attempt_number: int) -> QuerySet[SendAttempt]:
    return SendAttempt.objects.filter(message_id=message_id, number=attempt_number, outcome=OutcomeKind.RUNNING)


def _unproven(sending: OutboundMessageQuerySet) -> OutboundMessageQuerySet:
    """The others are tried last: proof that is being committed now is seen by an UPDATE that had to wait for it."""
    return sending.filter(proven_at=None)


def _settle_as_proven(sending: OutboundMessageQuerySet) -> Status | None:
    proven = sending.filter(proven_at__isnull=False)
    return Status.SENT if proven.update(**sent_columns(F("proven_at"))) else None


def _settle_sending(sending: OutboundMessageQuerySet, outcome: Outcome, verdict: MessageVerdict) -> Status | None:
    columns = verdict_columns(verdict)
    if outcome.kind == OutcomeKind.IN_DOUBT:
        return verdict.status if sending.update(**columns, in_doubt=True) else None
    if verdict.status == Status.QUEUED:
        return Status.QUEUED if sending.update(**columns) else None
    if sending.filter(in_doubt=False).update(**columns):
        return verdict.status
    return Status.UNKNOWN if sending.filter(in_doubt=True).update(**columns | {"status": Status.UNKNOWN}) else None


def _lose(sending: OutboundMessageQuerySet, most_spent: int) -> Status | None:
    """Move one message of a lost worker: sent again only where it spent at most `most_spent` attempts."""
    doubt = {"in_doubt": True, "reason": Cause.WORKER_LOST.value, "reason_words": ""}
    unproven = _unproven(sending)
    if unproven.filter(attempts_spent__lte=most_spent).update(status=Status.QUEUED, due_at=DatabaseNow(), **doubt):
        return Status.QUEUED
    if unproven.update(status=Status.UNKNOWN, settled_at=DatabaseNow(), **doubt):
        return Status.UNKNOWN
    return _settle_as_proven(sending)
