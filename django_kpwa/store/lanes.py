"""Lanes and the messages that go through them: leases, claims and records, portably and for every case.

- Every status change is an UPDATE on the condition that the row still has the status that it leaves.
- Rows are locked in one order, against deadlocks: lane, then messages, then their attempts.
- A transaction begins with a write. SQLite then takes its write lock at once. MariaDB's snapshot then begins after the
  wait for the lock, so that later reads see what is committed.
- Recording is durable: it is never part of a caller's transaction.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Exists, F, QuerySet
from django.db.models.functions import Coalesce
from django.views.decorators.debug import sensitive_variables

from ..gateway.outcome import Cause, Outcome, OutcomeKind
from ..models.database import DatabaseNow, in_seconds
from ..models.lane import HELD_BY_PEOPLE, Lane, PauseReason
from ..models.license import License
from ..models.message import (
    ARRIVED,
    NOT_REGISTERED,
    OutboundMessage,
    OutboundMessageQuerySet,
    RecipientType,
    SendAttempt,
    Status,
)
from ..models.recipient import Recipient
from .columns import (
    answer_columns,
    error_columns,
    hold_columns,
    lane_columns,
    outcome_columns,
    pause_columns,
    sent_columns,
    verdict_columns,
)
from .compiled import Parameter, first_of, insert_row, update_where
from .locks import TAKE_SECONDS
from .new_customers import NewCustomers
from .restriction import Sign, sign_of
from .results import (
    CONTENT_COLUMNS,
    FACT_COLUMNS,
    Ahead,
    Change,
    Claim,
    Contact,
    Content,
    Facts,
    Hold,
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
    *CONTENT_COLUMNS, *FACT_COLUMNS,
    "now", "has_stops", "license__is_active", "license__lane__pause_reason", "license__lane__next_send_at",
    "license__lane__restricted_until",
)  # fmt: skip


class Lanes(NewCustomers):
    """The operations of a lane's driver: take and give back the lease, claim a message, record its outcome."""

    RENDER_STEP_BACK_SECONDS = 60.0
    """Seconds by which an unrendered message is moved back in the queue before its template runs. A template that hangs
    or kills the worker then does not block the messages behind it."""
    TEXT_KEEPS_SECONDS = 60
    """Age in seconds after which a text is rendered again, because the lane was paused or the attempt failed in the
    meantime. Its recipient and license are then determined again as well. With an attempt in doubt the text is kept:
    the recipient may have it already."""
    MAX_SKIPPED = 100
    """Maximum number of messages that one search for the next message skips, for example expired ones, before it
    commits. Until then its transaction blocks other writers."""

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

    # --- claims ---

    def claim_next(self, lease: Lease, seconds: float, first_id: int | None = None) -> Step:
        """Renew the lease for `seconds` and claim the next message that may be sent now.

        `first_id`: the primary key of a message that is sent before all others, if it is still due.

        Returns a step with a `Claim`, `Unrendered`, `Idle` or `LeaseLost`; or with `Ready`, if the search has to go on
        and the caller has to call again.
        """
        with self.durable():
            return self._claim(lease, first_id) if self._renew(lease, seconds) else Step(LeaseLost())

    def give_back(self, claim: Claim, hold: Hold | None = None, *, forgets: bool = False) -> Status | None:
        """Put a claimed message that was not sent back into the queue.

        Args:
            claim: The claim to undo.
            hold: Why the message is put off, and until when. Its attempt is then deleted, as if it had not begun.
            forgets: Delete the attempt although there is no hold. The message keeps its place in the queue.

        Returns:
            The message's new status: `queued`, or `sent` if proof of an earlier attempt has arrived. None if the lease
            ran out and the message was already declared in doubt.
        """
        forgotten = hold_columns(hold) if hold is not None else {} if forgets else None
        with self.durable():
            return self._undo_claim(*_claimed(claim), forgotten)

    def fail_unregistered(self, claim: Claim) -> Status | None:
        """Make a claimed message `failed` before it is sent, because its number has no WhatsApp.

        Its attempt is deleted. A message with an earlier attempt in doubt goes back to `unknown` instead. Returns the
        new status, or None if the lease ran out.
        """
        columns = {"reason": NOT_REGISTERED, "reason_words": "", "settled_at": DatabaseNow()}
        sending, running = _claimed(claim)
        with self.durable():
            return self._undo_claim(
                sending.filter(in_doubt=False), running, columns | {"status": Status.FAILED}
            ) or self._undo_claim(sending, running, columns | {"status": Status.UNKNOWN})

    def put_off_unrendered(self, found: Unrendered, hold: Hold) -> bool:
        """Put off a message before its text is written. Returns False if it is no longer queued."""
        with self.durable():
            # Reverts the rendering that was counted when the message was found.
            begun = OutboundMessage.objects.filter(pk=found.message_id, status=Status.QUEUED, renderings_begun__gt=0)
            return bool(begun.update(**hold_columns(hold), renderings_begun=F("renderings_begun") - 1))

    def _claim(self, lease: Lease, first_id: int | None = None) -> Step:
        """Find and claim the next due message, and expire the overdue ones before it.

        The caller has locked the lane's row, by renewing the lease.
        """
        changed: list[Change] = []
        # Excluded from each further search: under REPEATABLE READ, a message that was cancelled or proven sent between
        # the search and the claim would be found again and again.
        passed: list[int] = []
        while len(passed) < self.MAX_SKIPPED:
            found = self._first_due(lease.license_id, passed, first_id)
            first_id = None
            if found is None or found["license__lane__pause_reason"] or not found["license__is_active"]:
                return Step(Idle(), tuple(changed))
            passed.append(found["pk"])
            now, next_send_at = found["now"], found["license__lane__next_send_at"]
            if found["expires_at"] is not None and found["expires_at"] <= now:
                status = self._expire(found["pk"])
                changed += [Change(found["pk"], status)] if status else []
            elif self._wants_its_text(found, now):
                if self._step_back_to_render(found["pk"]):
                    return Step(Unrendered(found["pk"], found["due_at"], _facts(found)), tuple(changed))
            elif next_send_at is not None and next_send_at > now:
                idle = Idle(wait_seconds=(next_send_at - now).total_seconds(), ahead=self._ahead(lease, found))
                return Step(idle, tuple(changed))
            elif claim := self._start(lease, found):
                return Step(claim, tuple(changed))
        # More messages may be due. The caller searches for them after this commit.
        return Step(Ready(), tuple(changed))

    @sensitive_variables()
    def _first_due(self, license_id: int, passed: list[int], first_id: int | None) -> dict[str, Any] | None:
        """Return the columns `_LOOKED_AT` of the first due message that is not in `passed`; None if there is none.

        The message `first_id` is preferred to all others.
        """
        # The usual case runs a compiled query, because building one costs more than the rest of a claim.
        if first_id is not None and (found := _due(license_id).filter(pk=first_id).first()):
            return found  # type: ignore[no-any-return]  # the columns of `values()`
        if passed:
            return _due(license_id).exclude(pk__in=passed).first()
        return first_of(self.connection, _first_due, {"license_id": license_id})

    def _wants_its_text(self, found: dict[str, Any], now: datetime) -> bool:
        """True if the text has to be rendered (again) before the message is claimed, see `TEXT_KEEPS_SECONDS`."""
        if not found["renderer"]:
            return False
        if found["rendered_at"] is None:
            return True
        return not found["in_doubt"] and found["rendered_at"] <= now - timedelta(seconds=self.TEXT_KEEPS_SECONDS)

    def _step_back_to_render(self, message_id: int) -> bool:
        """Count a rendering and move the message back in the queue. Returns False if it is no longer queued."""
        return bool(
            OutboundMessage.objects.filter(pk=message_id, status=Status.QUEUED).update(
                due_at=in_seconds(self.RENDER_STEP_BACK_SECONDS), renderings_begun=F("renderings_begun") + 1
            )
        )

    @sensitive_variables()
    def _start(self, lease: Lease, found: dict[str, Any]) -> Claim | None:
        """Claim the message and insert its attempt. Returns None if the message has changed since it was found."""
        number = found["attempts_made"] + 1
        where = {"pk": found["pk"], "status": Status.QUEUED, "attempts_made": found["attempts_made"]}
        columns = {
            "status": Status.SENDING, "attempts_made": number, "attempts_spent": _ONE_MORE_SPENT
        }  # fmt: skip
        if not update_where(self.connection, OutboundMessage, where, columns):
            return None
        began = {"message_id": found["pk"], "number": number, "started_at": DatabaseNow()}
        attempt_id = insert_row(self.connection, SendAttempt, began)
        content = Content(**{column: found[column] for column in CONTENT_COLUMNS})
        spent, has_stops = found["attempts_spent"] + 1, bool(found["has_stops"])
        contact = self._contact(lease, found)
        return Claim(found["pk"], attempt_id, number, spent, content, _facts(found), has_stops, contact)

    @sensitive_variables()
    def _contact(self, lease: Lease, found: dict[str, Any]) -> Contact | None:
        """Return the recipient's `Contact`; None for a group, or if messages were exchanged with the number."""
        if found["recipient_type"] != RecipientType.NUMBER:
            return None
        # A query of its own, not a join: in an old MariaDB the two tables may have different collations.
        return self.find_contact(lease.license_id, found["recipient"], found["now"])

    @sensitive_variables()
    def _ahead(self, lease: Lease, found: dict[str, Any]) -> Ahead | None:
        contact = self._contact(lease, found)
        return None if contact is None else Ahead(found["pk"], _facts(found), contact)

    def _claim_or_release(self, lease: Lease) -> Step:
        """Claim the next due message; if there is nothing to send, give the lane back in the same transaction."""
        step = self._claim(lease)
        if not isinstance(step.next, Idle) or step.next.wait_seconds is not None:
            return step
        self._held(lease).update(lease_token=None, lease_expires_at=None)
        return replace(step, next=step.next._replace(is_released=True))

    def _expire(self, message_id: int) -> Status | None:
        """Expire an overdue message, or return it to `unknown` if an attempt is in doubt; returns its new status."""
        overdue = OutboundMessage.objects.filter(pk=message_id).overdue()
        for status, in_doubt in ((Status.EXPIRED, False), (Status.UNKNOWN, True)):
            if overdue.filter(in_doubt=in_doubt).update(status=status, settled_at=DatabaseNow()):
                return status
        return None

    def _undo_claim(
        self,
        sending: OutboundMessageQuerySet,
        running: QuerySet[SendAttempt],
        forgotten: dict[str, Any] | None = None,
    ) -> Status | None:
        """Undo a claim and return the message's new status; None if it is no longer claimed.

        `forgotten`: columns to write as well; the attempt is then deleted. None: the attempt is kept as not sent.
        """
        columns: dict[str, Any] = {"status": Status.QUEUED, "attempts_spent": F("attempts_spent") - 1}
        if forgotten is not None:
            columns |= {"attempts_made": F("attempts_made") - 1, **forgotten}
        is_undone = _unproven(sending).update(**columns)
        undone = Status(columns["status"]) if is_undone else _settle_as_proven(sending)
        if is_undone and forgotten is not None:
            running.delete()
        elif undone:
            running.update(outcome=OutcomeKind.NOT_SENT, finished_at=DatabaseNow())
        return undone

    @sensitive_variables()
    def find_warm_due(self, license_id: int, priority: int, warm_days: int) -> int | None:
        """Find a due message that may be sent without checking its number: to a group, or to a known customer.

        Only the next `MAX_SKIPPED` messages are searched that are at least as urgent as `priority`. A known customer
        has written to the license within `warm_days`. Returns the message's primary key, or None.
        """
        due = _due(license_id).filter(priority__lte=priority)
        found = list(due.values_list("pk", "recipient_type", "recipient")[: self.MAX_SKIPPED])
        wrote = self.who_wrote(license_id, warm_days).filter(number__in=[recipient for *_, recipient in found])
        warm = set(wrote.values_list("number", flat=True))
        # A loop, because the frame of an interrupted comprehension would show a number in an error report.
        for message_id, kind, recipient in found:
            if kind != RecipientType.NUMBER or recipient in warm:
                return int(message_id)
        return None

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
            self._undo_claim(_sending(message_id, number), _running(message_id, number))

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
            _running(message_id, number).update(
                outcome=OutcomeKind.IN_DOUBT, cause=Cause.WORKER_LOST.value, finished_at=DatabaseNow()
            )
            self._note_sent(license_id, Content(*content))
        return tuple(changed)


# Constants, so that their hashes are computed once, see `compiled._shape_of()`.
_FIRST_SENT = Coalesce("first_sent_at", DatabaseNow())
_ONE_MORE_SENT = F("sent_since_inbound") + 1
_ONE_MORE_SPENT = F("attempts_spent") + 1
_WEIGHED = (Sign.MARKED, Sign.FAILED, Sign.IN_DOUBT)
"""Signs that are weighed even if nothing has indicated a restriction so far."""
_UNFINISHED = [OutcomeKind.RUNNING, OutcomeKind.IN_DOUBT]


def _due(license_id: Any) -> QuerySet[OutboundMessage, Any]:
    """Return the columns `_LOOKED_AT` of the due messages, in the order in which they are sent."""
    due = OutboundMessage.objects.filter(license_id=license_id, status=Status.QUEUED, due_at__lte=DatabaseNow())
    looked_at: QuerySet[OutboundMessage, Any] = due.annotate(
        now=DatabaseNow(), has_stops=Exists(Recipient.objects.filter(stopped_at__isnull=False))
    ).values(*_LOOKED_AT)
    return looked_at.order_by("priority", "due_at", "id")


def _facts(found: dict[str, Any]) -> Facts:
    columns = {column: found[column] for column in FACT_COLUMNS}
    return Facts(found["now"], **columns, is_restricted=found["license__lane__restricted_until"] is not None)


def _first_due() -> QuerySet[OutboundMessage, Any]:
    return _due(Parameter("license_id", License._meta.pk))


def _sending(message_id: int, attempt_number: int) -> OutboundMessageQuerySet:
    return OutboundMessage.objects.filter(pk=message_id, status=Status.SENDING, attempts_made=attempt_number)


def _running(message_id: int, attempt_number: int) -> QuerySet[SendAttempt]:
    return SendAttempt.objects.filter(message_id=message_id, number=attempt_number, outcome=OutcomeKind.RUNNING)


def _claimed(claim: Claim) -> tuple[OutboundMessageQuerySet, QuerySet[SendAttempt]]:
    """Return the claimed message and its attempt, as long as the attempt is running.

    The attempt is selected by its primary key. Its number is not enough, because the next claim reuses the number of a
    deleted attempt. The caller may be repeating a call that was committed without its knowledge, and another worker
    may be sending the message by now.
    """
    running = SendAttempt.objects.filter(pk=claim.attempt_id, outcome=OutcomeKind.RUNNING)
    return _sending(claim.message_id, claim.attempt_number).filter(Exists(running)), running


def _unproven(sending: OutboundMessageQuerySet) -> OutboundMessageQuerySet:
    """Return the messages among `sending` that have no proof of an accepted attempt.

    Callers update these first, and the proven ones last. If an UPDATE of these has to wait for a transaction that
    stores a proof, it skips the message, and `_settle_as_proven()` then finds it.
    """
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


def _lose(sending: OutboundMessageQuerySet, max_spent: int) -> Status | None:
    """Settle one message of a lost worker, and return its new status; None if it is no longer `sending`.

    It is queued again if it spent at most `max_spent` attempts. Otherwise it becomes `unknown`.
    """
    doubt = {"in_doubt": True, "reason": Cause.WORKER_LOST.value, "reason_words": ""}
    unproven = _unproven(sending)
    if unproven.filter(attempts_spent__lte=max_spent).update(status=Status.QUEUED, due_at=DatabaseNow(), **doubt):
        return Status.QUEUED
    if unproven.update(status=Status.UNKNOWN, settled_at=DatabaseNow(), **doubt):
        return Status.UNKNOWN
    return _settle_as_proven(sending)
