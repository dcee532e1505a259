"""Claims: the search for a lane's next message, the beginning of its attempt, and how a claim is taken back.

The rules of `lanes` apply here as well.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Exists, F, QuerySet
from django.views.decorators.debug import sensitive_variables

from ..gateway.outcome import OutcomeKind
from ..models.database import DatabaseNow, in_seconds
from ..models.license import License
from ..models.message import (
    NOT_REGISTERED,
    OutboundMessage,
    OutboundMessageQuerySet,
    RecipientType,
    SendAttempt,
    Status,
)
from ..models.recipient import Recipient
from .columns import hold_columns, sent_columns
from .compiled import Parameter, first_of, insert_row, update_where
from .new_customers import NewCustomers
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
    Lease,
    LeaseLost,
    Ready,
    Step,
    Unrendered,
)

_LOOKED_AT = (
    "pk", "due_at", "expires_at", "renderer", "rendered_at", "attempts_made", "attempts_spent", "in_doubt",
    *CONTENT_COLUMNS, *FACT_COLUMNS,
    "now", "has_stops", "license__is_active", "license__lane__pause_reason", "license__lane__next_send_at",
    "license__lane__restricted_until",
)  # fmt: skip
# A constant, so that its hash is computed once, see `compiled._shape_of()`.
_ONE_MORE_SPENT = F("attempts_spent") + 1


class Claims(NewCustomers):
    """The parts of a lane's work that find and claim its next message."""

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

    @sensitive_variables()
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
        is_undone = without_proof(sending).update(**columns)
        undone = Status(columns["status"]) if is_undone else settle_as_proven(sending)
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


def being_sent(message_id: int, attempt_number: int) -> OutboundMessageQuerySet:
    return OutboundMessage.objects.filter(pk=message_id, status=Status.SENDING, attempts_made=attempt_number)


def running_attempt(message_id: int, attempt_number: int) -> QuerySet[SendAttempt]:
    return SendAttempt.objects.filter(message_id=message_id, number=attempt_number, outcome=OutcomeKind.RUNNING)


def _claimed(claim: Claim) -> tuple[OutboundMessageQuerySet, QuerySet[SendAttempt]]:
    """Return the claimed message and its attempt, as long as the attempt is running.

    The attempt is selected by its primary key. Its number is not enough, because the next claim reuses the number of a
    deleted attempt. The caller may be repeating a call that was committed without its knowledge, and another worker
    may be sending the message by now.
    """
    running = SendAttempt.objects.filter(pk=claim.attempt_id, outcome=OutcomeKind.RUNNING)
    return being_sent(claim.message_id, claim.attempt_number).filter(Exists(running)), running


def without_proof(sending: OutboundMessageQuerySet) -> OutboundMessageQuerySet:
    """Return the messages among `sending` that have no proof of an accepted attempt.

    Callers update these first, and the proven ones last. If an UPDATE of these has to wait for a transaction that
    stores a proof, it skips the message, and `settle_as_proven()` then finds it.
    """
    return sending.filter(proven_at=None)


def settle_as_proven(sending: OutboundMessageQuerySet) -> Status | None:
    proven = sending.filter(proven_at__isnull=False)
    return Status.SENT if proven.update(**sent_columns(F("proven_at"))) else None
