"""What people, policies and webhooks decide about messages and lanes: conditional UPDATEs, as in `lanes`.

Each method says whether it changed anything. None opens a durable transaction, because a site may call them inside one
of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from django.db import DatabaseError, transaction
from django.db.models import BooleanField, Case, ExpressionWrapper, F, Q, Value, When
from django.db.models.functions import Coalesce

from .. import pace
from ..conf import Settings, kpwa_settings, lease_seconds
from ..gateway import SessionStatus
from ..gateway.outcome import OutcomeKind
from ..models.attempt import SendAttempt
from ..models.clock import DatabaseNow, in_seconds
from ..models.database import write_alias
from ..models.lane import HELD_BY_PEOPLE, Lane, PauseReason
from ..models.message import RESENDABLE, WITHDRAWN, OutboundMessage, OutboundMessageQuerySet, Priority, Status
from .columns import pause_columns, sent_columns, session_columns
from .lanes import Lanes
from .locks import brief_statements, brief_transaction, waited_too_long
from .results import Change, Pause

Asked = ParamSpec("Asked")
Decided = TypeVar("Decided")

BACKLOG_AFTER_SECONDS = 300.0
"""Messages younger than this at the end of a pause are new: they go before the backlog."""
STEPPED_AT_ONCE = 1000
CLOCK_SECONDS = 60.0
"""A time of ours that lies further ahead than it can by this was set while the database's clock was ahead."""


def _decision(decide: Callable[Asked, Decided]) -> Callable[Asked, Decided | None]:
    """A decision that a checkout may make: it waits a second for a message that a worker has locked, then is None.

    The worker is about to send it, or to record what became of it, and may stand still in the middle of that.
    """

    @wraps(decide)
    def decide_soon(*arguments: Asked.args, **named: Asked.kwargs) -> Decided | None:
        try:
            with brief_transaction(write_alias()):
                return decide(*arguments, **named)
        except DatabaseError as error:
            if not waited_too_long(error):
                raise
            return None

    return decide_soon


@dataclass(frozen=True)
class Move:
    """What is known of one message: that its attempt was accepted, and how far the message came."""

    message_id: int
    attempt_id: int
    gateway_id: str
    """Learnt for the attempt, where that has none."""
    status: Status
    """`sent`, `delivered` or `read`."""


class Decisions(Lanes):
    @_decision
    def cancel(self, message_id: int) -> Status | None:
        """Withdraw a waiting message: `cancelled`, or `unknown` again where an earlier attempt is in doubt."""
        queued = _message(message_id).filter(status=Status.QUEUED)
        if queued.filter(in_doubt=False).update(status=Status.CANCELLED, settled_at=DatabaseNow()):
            return Status.CANCELLED
        # The reason keeps it from going out again where its lost worker learns late that nothing was sent.
        withdrawn = {"status": Status.UNKNOWN, "reason": WITHDRAWN, "settled_at": DatabaseNow()}
        return Status.UNKNOWN if queued.filter(in_doubt=True).update(**withdrawn) else None

    @_decision
    def resend(self, message_id: int) -> bool:
        """Queue a message again that did not arrive, or may not have; its expiry and spent attempts are cleared."""
        return bool(
            _message(message_id)
            .filter(status__in=RESENDABLE)
            .update(
                status=Status.QUEUED,
                due_at=DatabaseNow(),
                expires_at=None,
                settled_at=None,
                dismissed_at=None,
                attempts_spent=0,
                renderings_begun=0,
                reason="",
                reason_words="",
            )
        )

    @_decision
    def want_again(self, message_id: int, *, due_in_seconds: float, expires_in_seconds: float | None) -> bool:
        """Queue a receipt again that was withdrawn before anything of it was written or sent, as it is wanted again."""
        withdrawn = _message(message_id).filter(
            status=Status.CANCELLED, reason=WITHDRAWN, rendered_at=None, attempts_made=0
        )
        return bool(
            withdrawn.update(
                status=Status.QUEUED,
                due_at=in_seconds(due_in_seconds),
                expires_at=None if expires_in_seconds is None else in_seconds(expires_in_seconds),
                settled_at=None,
                renderings_begun=0,
                reason="",
                reason_words="",
            )
        )

    @_decision
    def mark_sent(self, message_id: int) -> bool:
        """A person knows that a message in doubt arrived."""
        return bool(_message(message_id).filter(status=Status.UNKNOWN).update(**sent_columns(DatabaseNow())))

    @_decision
    def dismiss(self, message_id: int) -> bool:
        """A person leaves a message in doubt as it is; it no longer waits for a decision."""
        return bool(_message(message_id).undecided().update(dismissed_at=DatabaseNow()))

    def expire_overdue(self, limit: int) -> list[Change]:
        """Expire up to `limit` waiting messages; those of which an attempt is in doubt are `unknown` again.

        Two statements for all of them. Where others are at one of them, it is left to them, or to the next time.
        """
        overdue = OutboundMessage.objects.overdue()
        message_ids = list(overdue.order_by("expires_at").values_list("pk", flat=True)[:limit])
        if not message_ids:
            return []
        with brief_transaction(self.using):
            # Who holds some of them and waits for none deadlocks with nobody.
            skips = self.connection.features.has_select_for_update_skip_locked
            locked = overdue.filter(pk__in=message_ids).order_by("pk").select_for_update(skip_locked=skips)
            changed = [
                Change(pk, Status.UNKNOWN if in_doubt else Status.EXPIRED)
                for pk, in_doubt in locked.values_list("pk", "in_doubt")
            ]
            for status, in_doubt in ((Status.EXPIRED, False), (Status.UNKNOWN, True)):
                some = overdue.filter(pk__in=[pk for pk, became in changed if became == status], in_doubt=in_doubt)
                some.update(status=status, settled_at=DatabaseNow())
        return changed

    def prove_accepted(self, message_id: int, attempt_number: int | None = None, gateway_id: str = "") -> bool:
        """Record proof that an attempt was accepted. True: the message became `sent` by it.

        From `sending` it becomes so when the running attempt is recorded.
        """
        with transaction.atomic(using=self.using) if self.connection.in_atomic_block else brief_transaction(self.using):
            became_sent = self.settle_proven(message_id)
            if attempt_number is not None:
                attempt = SendAttempt.objects.filter(message_id=message_id, number=attempt_number)
                if gateway_id:
                    # Also of a running one: its own answer may never come, and later events name this id.
                    attempt.filter(gateway_id="").update(gateway_id=gateway_id[:255])
                attempt.filter(outcome=OutcomeKind.IN_DOUBT).update(outcome=OutcomeKind.ACCEPTED)
        return became_sent

    def advance(self, message_id: int, status: Status) -> bool:
        """Move an accepted message forward to `delivered` or `read`; never back."""
        with brief_statements(self.using):
            return self._advance(message_id, status)

    def _advance(self, message_id: int, status: Status) -> bool:
        message = _message(message_id)
        if status == Status.DELIVERED:
            if message.filter(status=Status.SENT).update(status=Status.DELIVERED, delivered_at=DatabaseNow()):
                return True
            # A late "delivered" after "read" still tells when; it moves nothing.
            message.filter(status=Status.READ, delivered_at=None).update(delivered_at=DatabaseNow())
            return False
        return bool(
            message.filter(status__in=[Status.SENT, Status.DELIVERED]).update(
                status=Status.READ, read_at=DatabaseNow(), delivered_at=Coalesce("delivered_at", DatabaseNow())
            )
        )

    def move_many(self, moves: Sequence[Move]) -> dict[int, list[Status]]:
        """`prove_accepted()` and `advance()` of many messages, one move each, by a fixed number of statements.

        Returns what each one became by it, of those that moved. Raises `OperationalError` where others hold one of
        them for longer than a moment.
        """
        messages = OutboundMessage.objects
        attempts = SendAttempt.objects.filter(pk__in=[move.attempt_id for move in moves])
        ids = sorted(move.message_id for move in moves)
        became: dict[int, list[Status]] = {}
        with brief_transaction(self.using):
            # A write comes first: on SQLite it takes the lock, elsewhere it sees what was being recorded meanwhile.
            open_ones = [Status.UNKNOWN, Status.QUEUED, Status.SENDING]
            messages.filter(pk__in=ids, status__in=open_ones).update(proven_at=Coalesce("proven_at", DatabaseNow()))
            before = dict(messages.filter(pk__in=ids).order_by("pk").select_for_update().values_list("pk", "status"))
            sent = [pk for pk, status in before.items() if status in (Status.UNKNOWN, Status.QUEUED)]
            messages.filter(pk__in=sent).update(**sent_columns(F("proven_at")))
            learnt = [When(pk=move.attempt_id, then=Value(move.gateway_id[:255])) for move in moves if move.gateway_id]
            if learnt:
                attempts.filter(gateway_id="").update(gateway_id=Case(*learnt, default=Value("")))
            attempts.filter(outcome=OutcomeKind.IN_DOUBT).update(outcome=OutcomeKind.ACCEPTED)
            for pk in sent:
                became[pk] = [Status.SENT]
            reached = {pk: Status.SENT if pk in became else Status(status) for pk, status in before.items()}
            wanted = {move.message_id: move.status for move in moves}
            arrived = {
                status: [pk for pk in before if wanted[pk] == status and reached[pk] in from_]
                for status, from_ in (
                    (Status.DELIVERED, (Status.SENT,)),
                    (Status.READ, (Status.SENT, Status.DELIVERED)),
                )
            }
            late = [pk for pk in before if wanted[pk] == Status.DELIVERED and reached[pk] == Status.READ]
            messages.filter(pk__in=late, delivered_at=None).update(delivered_at=DatabaseNow())
            messages.filter(pk__in=arrived[Status.DELIVERED]).update(
                status=Status.DELIVERED, delivered_at=DatabaseNow()
            )
            messages.filter(pk__in=arrived[Status.READ]).update(
                status=Status.READ, read_at=DatabaseNow(), delivered_at=Coalesce("delivered_at", DatabaseNow())
            )
            for status, moved in arrived.items():
                for pk in moved:
                    became.setdefault(pk, []).append(status)
        return became

    def note_session(self, license_id: int, session_status: SessionStatus) -> SessionStatus:
        """Store what the gateway just said of the link; returns what was known before."""
        self.ensure_lane(license_id)
        lane = Lane.objects.filter(pk=license_id)
        columns = session_columns(session_status)
        with transaction.atomic(using=self.using):
            # The write comes first; what it replaced is read by trying each value that it can have replaced.
            for previous in SessionStatus:
                if previous != session_status and lane.filter(session_status=previous.value).update(**columns):
                    return previous
            lane.update(**columns)
        return session_status

    def pause_license(self, license_id: int, pause_: Pause) -> bool:
        """Pause a lane, whoever drives it. False: it is paused for this reason already, or for one that people end."""
        self.ensure_lane(license_id)
        stays = [*HELD_BY_PEOPLE, pause_.reason]
        lane = Lane.objects.filter(pk=license_id).exclude(pause_reason__in=stays)
        return bool(lane.update(**pause_columns(pause_), probes=0))

    def lift_pause(self, license_id: int, *reasons: PauseReason) -> bool:
        """End a pause that has one of `reasons`. The backlog that it left goes behind what is new.

        False: the lane was not paused for any of them.
        """
        return self._lift(license_id, reasons)

    def confirm_number(self, license_id: int, *, keep: bool) -> bool:
        """End the pause of a changed number: the linked one is confirmed or, with `keep`, the former one linked again.

        False: the lane was not paused for that.
        """
        settled = {"linked_number": F("confirmed_number")} if keep else {"confirmed_number": F("linked_number")}
        return self._lift(license_id, (PauseReason.NUMBER_CHANGED,), **settled)

    def _lift(self, license_id: int, reasons: Sequence[PauseReason], **columns: Any) -> bool:
        lane = Lane.objects.filter(pk=license_id, pause_reason__in=reasons)
        if not lane.exists():
            return False
        # While the lane is still paused: killed within a long backlog, it leaves the rest to whoever lifts it next.
        self._step_backlog_back(license_id)
        return bool(
            lane.update(
                pause_reason=PauseReason.NONE,
                pause_words="",
                paused_at=None,
                paused_until=None,
                paused_key_version=None,
                probes=0,
                **columns,
            )
        )

    def bring_back_times_ahead(self, license_ids: Sequence[int]) -> list[int]:
        """End what a clock that was ahead, and is right again, made the lanes of `license_ids` wait for.

        No pace, pause, lease or backoff lasts as long as such a time says: it is set to what it would be if it began
        now. A lease is not ended, for its driver may be in the middle of a send. Returns the licenses whose lanes were
        changed.
        """
        conf = kpwa_settings()
        lanes = Lane.objects.filter(pk__in=license_ids).select_related("license")
        changed = []
        for lane in lanes.annotate(now=DatabaseNow()):
            columns = _brought_back(lane, lane.now, conf)  # type: ignore[attr-defined]  # annotated just above
            # Who has moved on since is looked at again by the next sweep.
            as_seen = Lane.objects.filter(
                pk=lane.pk, lease_token=lane.lease_token, pause_reason=lane.pause_reason, paused_until=lane.paused_until
            )
            if columns and as_seen.update(**columns):
                changed.append(lane.license_id)
        longest = max(pace.MAX_RETRY_SECONDS * 1.2, self.RENDER_STEP_BACK_SECONDS) + CLOCK_SECONDS
        waiting = OutboundMessage.objects.filter(license_id__in=changed, status=Status.QUEUED)
        tried = waiting.filter(Q(attempts_made__gt=0) | Q(renderings_begun__gt=0))
        tried.filter(due_at__gt=in_seconds(longest)).update(due_at=DatabaseNow())
        return changed

    def bring_back_messages_ahead(self, limit: int = STEPPED_AT_ONCE) -> int:
        """The same for messages that were queued by a clock that was ahead; returns how many.

        What was due at once, or a moment after it was stored, is due now. A time that the site named stays.
        """
        messages = OutboundMessage.objects
        ahead = messages.filter(status=Status.QUEUED, created_at__gt=in_seconds(CLOCK_SECONDS)).order_by()
        message_ids = list(ahead.values_list("pk", flat=True)[:limit])
        if message_ids:
            some = ahead.filter(pk__in=message_ids)
            some.filter(due_at__lte=F("created_at") + timedelta(seconds=CLOCK_SECONDS)).update(due_at=DatabaseNow())
            some.update(created_at=DatabaseNow())
        return len(message_ids)

    def _step_backlog_back(self, license_id: int) -> None:
        """One step, once: a message that has waited through two outages is not pushed ever further back.

        In small statements: one over the backlog of a day would hold up those who cancel or mark its messages.
        """
        messages = OutboundMessage.objects
        backlog = messages.filter(
            license_id=license_id,
            status=Status.QUEUED,
            priority__in=Priority.values,
            created_at__lte=in_seconds(-BACKLOG_AFTER_SECONDS),
        ).order_by()
        while True:
            message_ids = list(backlog.values_list("pk", flat=True)[:STEPPED_AT_ONCE])
            # None may be left to step where a caller's transaction still sees some that others have taken since.
            if not message_ids or not backlog.filter(pk__in=message_ids).update(priority=F("priority") + 1):
                return


def _message(message_id: int) -> OutboundMessageQuerySet:
    return OutboundMessage.objects.filter(pk=message_id)


def may_be_ahead(conf: Settings) -> ExpressionWrapper[Q]:
    """Of a lane, in SQL: whether `bring_back_times_ahead()` may find something. None of those that do is left out."""
    longest = min(longest_pause(reason, conf) for reason in (PauseReason.FAILING, PauseReason.RATE_LIMITED))
    expression: ExpressionWrapper[Q] = ExpressionWrapper(
        Q(next_send_at__gt=in_seconds(CLOCK_SECONDS))
        | Q(lease_expires_at__gt=in_seconds(2 * lease_seconds(conf) + CLOCK_SECONDS))
        | Q(lease_taken_at__gt=in_seconds(CLOCK_SECONDS))
        | Q(paused_at__gt=in_seconds(CLOCK_SECONDS))
        | Q(paused_until__gt=in_seconds(longest + CLOCK_SECONDS)),
        output_field=BooleanField(),
    )
    return expression


def _brought_back(lane: Lane, now: datetime, conf: Settings) -> dict[str, Any]:
    def is_ahead(moment: datetime | None, most_seconds: float = 0.0) -> bool:
        return moment is not None and moment > now + timedelta(seconds=most_seconds + CLOCK_SECONDS)

    columns: dict[str, Any] = {}
    pace, lease = lane.license.pace_seconds[1], lease_seconds(conf)
    if is_ahead(lane.next_send_at, pace):
        columns["next_send_at"] = in_seconds(pace)
    if is_ahead(lane.lease_taken_at):
        columns["lease_taken_at"] = DatabaseNow()
    # Twice: another process may have been started with other settings.
    if lane.lease_token is not None and is_ahead(lane.lease_expires_at, 2 * lease):
        columns["lease_expires_at"] = in_seconds(lease)
    longest = longest_pause(PauseReason(lane.pause_reason), conf)
    if lane.paused_until is not None and (is_ahead(lane.paused_until, longest) or is_ahead(lane.paused_at)):
        asked = (lane.paused_until - lane.paused_at).total_seconds() if lane.paused_at is not None else longest
        columns["paused_until"] = in_seconds(min(max(asked, 0.0), longest))
    if is_ahead(lane.paused_at):
        columns["paused_at"] = DatabaseNow()
    return columns


def longest_pause(reason: PauseReason, conf: Settings) -> float:
    """How many seconds a pause for `reason` lasts at most before the lane is looked at again."""
    return pace.MAX_RETRY_AFTER_SECONDS if reason == PauseReason.RATE_LIMITED else conf.max_probe_seconds * 1.2
