"""Decisions of people, policies and webhooks about messages and lanes, as conditional UPDATEs (see `lanes`).

The result of each method shows whether it changed anything. No method opens a durable transaction, because a site may
call them inside its own transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

from django.db import DatabaseError, transaction
from django.db.models import Case, F, Q, QuerySet, Value, When
from django.db.models.functions import Coalesce, Least

from .. import pace
from ..conf import kpwa_settings
from ..gateway import SessionStatus
from ..gateway.outcome import OutcomeKind, has_mark
from ..models.database import DatabaseNow, in_seconds, write_alias
from ..models.lane import HELD_BY_PEOPLE, Lane, PauseReason
from ..models.message import (
    NOT_HURRIED,
    WITHDRAWN,
    HoldReason,
    OutboundMessage,
    OutboundMessageQuerySet,
    Priority,
    SendAttempt,
    Status,
)
from ..models.recipient import Recipient, Registration
from .clock_ahead import ClockAhead
from .columns import pause_columns, restriction_columns, sent_columns, session_columns
from .compiled import update_where
from .locks import FINISH_SECONDS, brief_statements, brief_transaction, waited_too_long
from .restriction import Known, Sign, begun
from .results import CONTENT_COLUMNS, Change, Content, Pause

Asked = ParamSpec("Asked")
Decided = TypeVar("Decided")

BACKLOG_AFTER_SECONDS = 300.0
"""Age in seconds from which a message belongs to the backlog at the end of a pause, and is sent after newer ones."""
_NOT_UNDELIVERED: dict[str, Any] = {"undelivered_at": None, "undelivered_words": ""}
"""Columns to clear when a phone received the message after all, or it is sent again."""


def _decision(decide: Callable[Asked, Decided]) -> Callable[Asked, Decided | None]:
    """Decorate a method so that it waits at most `TAKE_SECONDS` for a message that a worker has locked.

    After that it returns None. The worker is about to send the message or to record its outcome, and may be frozen in
    the middle of that. A decision may be part of a web request, which must not wait for the worker.
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


class Move(NamedTuple):
    """One argument of `move_many()`: the attempt was accepted, and its message has reached `status`."""

    message_id: int
    attempt_id: int
    gateway_id: str
    """The gateway's id, which is stored with the attempt if that has none yet; may be empty."""
    status: Status
    """`sent`, `delivered` or `read`."""


class Decisions(ClockAhead):
    """Changes of messages and lanes that people, policies or webhooks decide. See `_decision()` for locked messages."""

    @_decision
    def cancel(self, message_id: int) -> Status | None:
        """Withdraw a queued message, and return its new status; None if it is not queued.

        The status is `cancelled`, or `unknown` again if an earlier attempt is in doubt.
        """
        queued = _message(message_id).filter(status=Status.QUEUED)
        if queued.filter(in_doubt=False).update(status=Status.CANCELLED, settled_at=DatabaseNow()):
            return Status.CANCELLED
        # If a lost worker reports late that nothing was sent, `_settle_late()` queues the message again, but only if
        # its reason is still that of a lost worker. The reason `WITHDRAWN` prevents that.
        withdrawn = {"status": Status.UNKNOWN, "reason": WITHDRAWN, "settled_at": DatabaseNow()}
        return Status.UNKNOWN if queued.filter(in_doubt=True).update(**withdrawn) else None

    @_decision
    def resend(self, message_id: int) -> bool:
        """Queue a message again that did not arrive, or may not have arrived (`can_be_resent`).

        Its expiry and its spent attempts are cleared. If the gateway reported that its number has no WhatsApp, the
        number is not checked again for this message, because the person who resends it may know better. Returns True if
        the message was queued.
        """
        is_queued = (
            _message(message_id)
            .resendable()
            .update(
                status=Status.QUEUED,
                due_at=DatabaseNow(),
                first_due_at=DatabaseNow(),
                expires_at=None,
                settled_at=None,
                dismissed_at=None,
                **_NOT_UNDELIVERED,
                attempts_spent=0,
                renderings_begun=0,
                reason="",
                reason_words="",
            )
        )
        if is_queued:
            license_id, number = _message(message_id).values_list("license_id", "recipient").get()
            turned_down = Recipient.objects.filter(license_id=license_id, number=number, registered=Registration.NO)
            turned_down.update(registered=Registration.NOT_SAID, checked_at=DatabaseNow())
        return bool(is_queued)

    @_decision
    def send_now(self, message_id: int) -> bool:
        """Make a message that was put off due now, as if the site sent it now.

        It no longer counts as a bulk message, because somebody waits for it. Returns False if it was not put off, or if
        people may not override the reason.
        """
        return bool(
            _message(message_id)
            .put_off()
            .exclude(reason__in=NOT_HURRIED)
            .update(
                due_at=DatabaseNow(),
                first_due_at=DatabaseNow(),
                priority=Least(F("priority"), Priority.NORMAL),
                reason="",
                reason_words="",
            )
        )

    @_decision
    def want_again(self, message_id: int, *, due_in_seconds: float, expires_in_seconds: float | None) -> bool:
        """Queue a withdrawn receipt again, because it is wanted after all. Returns True if it was queued.

        This is done only if its text was not written and no attempt was made.

        Args:
            message_id: The primary key of the message.
            due_in_seconds: Seconds until the message is due.
            expires_in_seconds: Seconds until it expires; None: it does not expire.
        """
        withdrawn = (
            _message(message_id)
            .filter(status=Status.CANCELLED, reason=WITHDRAWN, rendered_at=None, attempts_made=0)
            .exclude(recipient="")
        )  # whose number was forgotten
        return bool(
            withdrawn.update(
                status=Status.QUEUED,
                due_at=in_seconds(due_in_seconds),
                first_due_at=in_seconds(due_in_seconds),
                expires_at=None if expires_in_seconds is None else in_seconds(expires_in_seconds),
                settled_at=None,
                renderings_begun=0,
                reason="",
                reason_words="",
            )
        )

    def end_cold_holds(self, license_id: int, number: str = "") -> bool:
        """Make messages due that wait because their recipient is a new customer. Returns True if there were any.

        `number`: only messages to this number, because its owner has written. If it is empty, the messages that wait
        for the daily limit, because the limit has changed.
        """
        held = OutboundMessage.objects.put_off().filter(license_id=license_id)
        if number:
            held = held.filter(recipient=number, reason__in=NOT_HURRIED)
        else:
            held = held.filter(reason=HoldReason.COLD_LIMIT)
        return held.exists() and self._end_holds(held)

    def note_unanswered(self, license_id: int, count: int, now: datetime) -> None:
        """Store the number of this month's messages that were unanswered at `now`."""
        with self.brief():
            Lane.objects.filter(pk=license_id).update(unanswered=count, unanswered_at=now)

    @_decision
    def mark_sent(self, message_id: int) -> bool:
        """Make a message in doubt `sent`, because a person knows that it arrived. False: it is not in doubt."""
        return bool(_message(message_id).filter(status=Status.UNKNOWN).update(**sent_columns(DatabaseNow())))

    @_decision
    def note_copy(self, message_id: int, copy_id: int) -> bool:
        """Store with a message that it was copied for another number. Returns False if that was stored already."""
        return bool(_message(message_id).exclude(copied_to_id=copy_id).update(copied_to_id=copy_id))

    @_decision
    def dismiss(self, message_id: int) -> bool:
        """Leave a message in doubt as it is. It no longer waits for a decision. False: it was not waiting for one."""
        return bool(_message(message_id).undecided().update(dismissed_at=DatabaseNow()))

    def expire_overdue(self, limit: int) -> list[Change]:
        """Expire up to `limit` overdue messages, and return those that changed.

        A message with an attempt in doubt becomes `unknown` again. A message that another process has locked is left
        for the next call.
        """
        overdue = OutboundMessage.objects.overdue()
        message_ids = list(overdue.order_by("expires_at").values_list("pk", flat=True)[:limit])
        if not message_ids:
            return []
        with self.brief():
            locked = self.locked(overdue.filter(pk__in=message_ids))
            changed = [
                Change(pk, Status.UNKNOWN if in_doubt else Status.EXPIRED)
                for pk, in_doubt in locked.values_list("pk", "in_doubt")
            ]
            for status, in_doubt in ((Status.EXPIRED, False), (Status.UNKNOWN, True)):
                some = overdue.filter(pk__in=[pk for pk, became in changed if became == status], in_doubt=in_doubt)
                some.update(status=status, settled_at=DatabaseNow())
        return changed

    def prove_accepted(self, message_id: int, attempt_number: int | None = None, gateway_id: str = "") -> bool:
        """Record proof that an attempt was accepted. Returns True if the message became `sent`.

        A message that is `sending` becomes `sent` when its running attempt is recorded.

        `attempt_number`: the number of the accepted attempt; None if unknown. `gateway_id`: the gateway's id, which is
        stored with that attempt if it has none.
        """
        with transaction.atomic(using=self.using) if self.connection.in_atomic_block else self.brief():
            became_sent = self.settle_proven(message_id)
            if attempt_number is not None:
                attempt = SendAttempt.objects.filter(message_id=message_id, number=attempt_number)
                if gateway_id:
                    # Stored for a running attempt as well: its answer may never come, and later events have this id.
                    attempt.filter(gateway_id="").update(gateway_id=gateway_id[:255])
                attempt.filter(outcome=OutcomeKind.IN_DOUBT).update(outcome=OutcomeKind.ACCEPTED)
        return became_sent

    def note_undelivered(self, message_id: int, attempt_number: int, words: str) -> bool:
        """Store that the gateway reported an attempt as not delivered, and what that indicates about a restriction.

        Gateways report one failure several times, and not always with the reason. The first words are kept, but words
        with a mark of a restriction replace others. Nothing is stored for a message that is not `sent` by its last
        attempt: a phone has received it, or it is being sent again.

        `words`: the gateway's text, masked. Returns True if the report is new.
        """
        message = _message(message_id)
        found = message.values_list("license_id", *CONTENT_COLUMNS).first()
        if found is None or found[0] is None:
            return False
        license_id, content = found[0], Content(*found[1:])
        self.ensure_lane(license_id)
        sent = message.filter(status=Status.SENT, attempts_made=attempt_number)
        is_marked = has_mark(words, kpwa_settings().RESTRICTION_MARKS)
        with self.brief():
            # Changes nothing, but locks the lane before the message, which is the order in which a send is recorded.
            Lane.objects.filter(pk=license_id).update(cold_trail=F("cold_trail"))
            new = sent.filter(undelivered_at=None)
            is_new = bool(new.update(undelivered_at=DatabaseNow(), undelivered_words=words[:500]))
            if is_new or (self._say_more(sent, words, is_marked=is_marked) and is_marked):
                self._weigh(license_id, message_id, content, Sign.MARKED if is_marked else Sign.FAILED, words)
        return is_new

    def _say_more(self, sent: QuerySet[OutboundMessage], words: str, *, is_marked: bool) -> bool:
        """Store the words of a further report, if they add to the stored ones. Returns False if they do not."""
        told = sent.values_list("undelivered_words", flat=True).first() if words else None
        if told is None or (told and (not is_marked or has_mark(told, kpwa_settings().RESTRICTION_MARKS))):
            return False
        # A message without a recipient was emptied, and must stay empty.
        return bool(sent.exclude(recipient="").update(undelivered_words=words[:500]))

    def advance(self, message_id: int, status: Status) -> bool:
        """Move an accepted message forward to `delivered` or `read`, never back. Returns True if it was moved."""
        with brief_statements(self.using):
            return self._advance(message_id, status)

    def _advance(self, message_id: int, status: Status) -> bool:
        message = _message(message_id)
        if status == Status.DELIVERED:
            # A compiled query, because this runs for nearly every sent message.
            where = {"pk": message_id, "status": Status.SENT}
            columns = {"status": Status.DELIVERED, "delivered_at": DatabaseNow(), **_NOT_UNDELIVERED}
            if update_where(self.connection, OutboundMessage, where, columns):
                return True
            # A "delivered" that arrives after "read" only fills in the time.
            message.filter(status=Status.READ, delivered_at=None).update(delivered_at=DatabaseNow())
            return False
        return bool(
            message.filter(status__in=[Status.SENT, Status.DELIVERED]).update(
                status=Status.READ,
                read_at=DatabaseNow(),
                delivered_at=Coalesce("delivered_at", DatabaseNow()),
                **_NOT_UNDELIVERED,
            )
        )

    def move_many(self, moves: Sequence[Move]) -> dict[int, list[Status]]:
        """Do `prove_accepted()` and `advance()` for many messages, one move each, with a fixed number of statements.

        Returns, by message id, the statuses through which each message moved. A message that did not move is left out.
        Raises `OperationalError` if another process keeps one of the rows locked, see `locks`.
        """
        messages = OutboundMessage.objects
        attempts = SendAttempt.objects.filter(pk__in=[move.attempt_id for move in moves])
        ids = sorted(move.message_id for move in moves)
        became: dict[int, list[Status]] = {}
        with self.brief():
            # A write comes first. On SQLite it takes the lock. On other databases it waits for records in progress, so
            # that the reads after it see them.
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
                status=Status.DELIVERED, delivered_at=DatabaseNow(), **_NOT_UNDELIVERED
            )
            messages.filter(pk__in=arrived[Status.READ]).update(
                status=Status.READ,
                read_at=DatabaseNow(),
                delivered_at=Coalesce("delivered_at", DatabaseNow()),
                **_NOT_UNDELIVERED,
            )
            for status, moved in arrived.items():
                for pk in moved:
                    became.setdefault(pk, []).append(status)
        return became

    def note_session(self, license_id: int, session_status: SessionStatus, word: str = "") -> SessionStatus:
        """Store the session status that the gateway has just reported, and the gateway's own word for it.

        Returns the status that was stored before.
        """
        self.ensure_lane(license_id)
        lane = Lane.objects.filter(pk=license_id)
        columns = session_columns(session_status, word)
        with transaction.atomic(using=self.using):
            # A read before the write could miss a status that another process stores in between. There is no portable
            # UPDATE that returns the old value, so each possible old value is tried as a condition.
            for previous in SessionStatus:
                if previous != session_status and lane.filter(session_status=previous.value).update(**columns):
                    return previous
            lane.update(**columns)
        return session_status

    def note_session_word(self, license_id: int, word: str, heard_at: datetime) -> SessionStatus | None:
        """Store a word for the status from an event that was received at `heard_at`. Safe to repeat.

        The status becomes unknown, so that it is checked before the next message. Nothing is stored if the gateway has
        reported a status later. Returns the status that was stored before, or None if nothing was stored.
        """
        self.ensure_lane(license_id)
        lane = Lane.objects.filter(pk=license_id).filter(Q(session_seen_at=None) | Q(session_seen_at__lt=heard_at))
        columns = session_columns(SessionStatus.UNKNOWN, word) | {"session_seen_at": heard_at}
        # One UPDATE for each status that it may leave, as in `note_session()`.
        with brief_statements(self.using):
            left = (before for before in SessionStatus if lane.filter(session_status=before.value).update(**columns))
            return next(left, None)

    def pause_license(self, license_id: int, pause_: Pause) -> bool:
        """Pause a lane, even while a worker drives it.

        Returns False if it is already paused for this reason, or for a reason that only people end.
        """
        self.ensure_lane(license_id)
        stays = [*HELD_BY_PEOPLE, pause_.reason]
        lane = Lane.objects.filter(pk=license_id).exclude(pause_reason__in=stays)
        return bool(lane.update(**pause_columns(pause_), probes=0))

    def begin_restriction(self, license_id: int, words: str) -> bool:
        """Store a reported restriction of the number by WhatsApp. Returns False if it is already known.

        `words`: the gateway's text, masked.
        """
        self.ensure_lane(license_id)
        free = Lane.objects.filter(pk=license_id, restricted_until=None)
        with brief_statements(self.using):
            # One UPDATE for each possible previous step, as in `note_session()`.
            return any(
                free.filter(restriction_step=step).update(**restriction_columns(begun(Known(step)), words))
                for step in range(len(pace.RESTRICTED_SECONDS) + 1)
            )

    def end_restriction(self, license_id: int) -> bool:
        """End a restriction by WhatsApp, and make the messages due that wait for that. False if there was none."""
        lane = Lane.objects.filter(pk=license_id, restricted_until__isnull=False)
        has_ended = bool(lane.update(**restriction_columns(Known())))
        waiting = OutboundMessage.objects.put_off().filter(license_id=license_id, reason=HoldReason.RESTRICTED)
        return self._end_holds(waiting) or has_ended

    def _end_holds(self, held: OutboundMessageQuerySet) -> bool:
        """Make messages due that were put off. A message that another process has locked is left. True if any were."""
        has_ended = False
        while True:
            with self.brief():
                ids = list(self.locked(held).values_list("pk", flat=True)[: self.STEPPED_AT_ONCE])
                held.filter(pk__in=ids).update(due_at=DatabaseNow(), reason="")
            has_ended = has_ended or bool(ids)
            if len(ids) < self.STEPPED_AT_ONCE:
                return has_ended

    def lift_pause(self, license_id: int, *reasons: PauseReason) -> bool:
        """End a pause that has one of `reasons`, and move the backlog behind newer messages.

        Returns False if the lane was not paused for any of them, or stays locked by another process.
        """
        return self._lift(license_id, reasons)

    def confirm_number(self, license_id: int, *, keep: bool) -> bool:
        """End the pause of a changed number. Returns False as `lift_pause()` does.

        `keep`: the formerly confirmed number is to be linked again; otherwise the number linked now is confirmed.
        """
        settled = {"linked_number": F("confirmed_number")} if keep else {"confirmed_number": F("linked_number")}
        return self._lift(license_id, (PauseReason.NUMBER_CHANGED,), **settled)

    def _lift(self, license_id: int, reasons: Sequence[PauseReason], **columns: Any) -> bool:
        """End a pause that has one of `reasons`, and write `columns` with it; see `lift_pause()`."""
        lane = Lane.objects.filter(pk=license_id, pause_reason__in=reasons)
        # Most of these lanes are not paused, and need not be locked to see that.
        if not lane.exists():
            return False
        columns |= {
            **{"pause_reason": PauseReason.NONE, "pause_words": "", "probes": 0},
            **dict.fromkeys(("paused_at", "paused_until", "paused_key_version")),
        }
        has_more = True
        while has_more:
            # The pause ends with the last of these transactions. If the process is killed within a long backlog, the
            # lane is still paused, and the next call moves the rest.
            try:
                with self.brief(FINISH_SECONDS):
                    # Changes nothing yet, but locks the lane before its messages, which is the usual order.
                    if not lane.update(pause_reason=F("pause_reason")):
                        return False
                    has_more = self._step_backlog_back(license_id)
                    if not has_more:
                        lane.update(**columns)
            except DatabaseError as error:
                if not waited_too_long(error):
                    raise
                return False
        return True

    def _step_backlog_back(self, license_id: int) -> bool:
        """Lower the priority of a part of the backlog, so that newer messages are sent first. True if there is more.

        - Each message is lowered only once: its priority is none of `Priority` after that. Otherwise a message that
          waits through several outages would fall further back each time.
        - The parts are small, because one statement over a day's backlog would block everybody who cancels or marks one
          of its messages.
        - Messages that are locked at the moment keep their place.
        """
        messages = OutboundMessage.objects
        backlog = messages.filter(
            license_id=license_id,
            status=Status.QUEUED,
            priority__in=Priority.values,
            created_at__lte=in_seconds(-BACKLOG_AFTER_SECONDS),
        ).order_by()
        message_ids = list(backlog.values_list("pk", flat=True)[: self.STEPPED_AT_ONCE])
        if not message_ids:
            return False
        locked = list(self.locked(backlog.filter(pk__in=message_ids)).values_list("pk", flat=True))
        # In a caller's transaction, the first SELECT may keep returning messages that have changed since. The UPDATE
        # then lowers none of them, and this must end the search for more.
        return bool(messages.filter(pk__in=locked).update(priority=F("priority") + 1)) and (
            len(message_ids) == self.STEPPED_AT_ONCE
        )


def _message(message_id: int) -> OutboundMessageQuerySet:
    return OutboundMessage.objects.filter(pk=message_id)
