"""Drives one lane: claims a message, calls the gateway, records the outcome, and repeats.

It ends when nothing is left to do or its slice of time is over. The package's promises depend on this order:

- A claim is committed before the call.
- No call and no signal receiver runs inside a transaction.
- The outcome is recorded before anything else happens.
- A worker that was frozen between claim and call gives the message back instead of calling.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple

from django.db import DatabaseError, InterfaceError
from django.utils import timezone

from .. import announce
from ..conf import LATE_AFTER_SECONDS, SLICE_SECONDS, Settings, kpwa_settings, lease_seconds
from ..exceptions import GatewayError
from ..gateway import Gateway, ServiceStatus, SessionStatus
from ..gateway.outcome import Cause, Outcome, OutcomeKind, outcome_of_answer, outcome_of_error
from ..logs import get_logger
from ..masking import masked_traceback, words_of
from ..models import HoldReason, Lane, License, RecipientType, Status
from ..store import store
from ..store.locks import waited_too_long
from ..store.results import (
    UNRESTRICTED,
    Ahead,
    Claim,
    Contact,
    Facts,
    Hold,
    Idle,
    LaneVerdict,
    Lease,
    LeaseLost,
    MessageVerdict,
    Ready,
    Recorded,
    Standing,
    Step,
    Unrendered,
)
from . import failpoints
from .first_contact import (
    MAX_CHECK_SECONDS,
    MAX_CHECKS_PER_DAY,
    MAX_CHECKS_PER_HOUR,
    FirstStep,
    asks_again_at,
    first_step,
    has_room,
    registered_after,
)
from .hold import until_tomorrow, why_not_now
from .render import is_time_limit, render_message
from .session import may_send
from .verdict import Circumstances, judge

logger = get_logger("django_kpwa.dispatch")

MAX_SECONDS_SLEPT = 0.05
"""Maximum wait for the pace in seconds during which the driver sleeps."""
MAX_SECONDS_HELD = 20.0
"""Maximum wait for the pace in seconds for which the driver keeps the lease, and passes it on to a delayed task. For a
longer wait it gives the lane back, and beat wakes it."""


class Driven(NamedTuple):
    """How a drive ended.

    `attempts`: number of messages sent or tried.
    `has_more`: the caller has to drive the lane again at once.
    `lease_token`: the token of the lease, if it is still held. The caller has to drive the lane again under this token
    after `wait_seconds`.
    """

    attempts: int = 0
    has_more: bool = False
    lease_token: uuid.UUID | None = None
    wait_seconds: float = 0.0


def drive(
    license_id: int,
    lease_token: uuid.UUID | None = None,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    slice_seconds: float = SLICE_SECONDS,
) -> Driven:
    """Drive the lane of `license_id` for about `slice_seconds`. Returns at once if another worker drives it.

    `lease_token`: the lease that an earlier drive passed on (`Driven.lease_token`).
    `should_stop`: called between messages. If it returns True, the lane is given back.
    """
    conf = kpwa_settings()
    attempts = 0
    while True:
        began_at = _elapsed()
        driver: _Driver | None = None
        try:
            lease, step = _take(license_id, lease_token, conf, claims=not should_stop())
            if isinstance(step.next, LeaseLost):
                return Driven(attempts)
            driver = _Driver(lease, step, conf, should_stop, began_at, slice_seconds)
            driven = driver.run()
        except DatabaseError as error:
            if not waited_too_long(error):
                raise
            # The lease expires by itself; until then this process can serve other lanes.
            logger.warning("License %s is postponed: another process has locked its rows.", license_id)
            return Driven(attempts + (driver.attempts if driver else 0))
        attempts += driven.attempts
        if driven.lease_token is not None or driven.has_more:
            return Driven(attempts, driven.has_more, driven.lease_token, driven.wait_seconds)
        # The release is committed now. A message that was stored just before it published no wake-up, because the lane
        # was still being driven. So look once more.
        if driver.has_broken or should_stop() or not store().has_startable_work(license_id):
            return Driven(attempts)
        lease_token = None


def _take(license_id: int, lease_token: uuid.UUID | None, conf: Settings, *, claims: bool) -> tuple[Lease, Step]:
    """Take the lane, which is free or was passed on to us. Returns the lease and the first step (or `LeaseLost`)."""
    seconds, lease = lease_seconds(conf), Lease(license_id)
    if lease_token is not None:
        return lease, store().swap_lease(Lease(license_id, lease_token), lease, seconds, claims=claims)
    options: dict[str, Any] = {
        "resend_lost": "worker_lost" in conf.RESEND_UNKNOWN, "max_attempts": conf.MAX_ATTEMPTS, "claims": claims
    }  # fmt: skip
    step = store().take_lease(lease, seconds, **options)
    if isinstance(step.next, LeaseLost) and not Lane.objects.filter(pk=license_id).exists():
        if not License.objects.filter(pk=license_id).exists():
            # The license was deleted, or the wake-up comes from another database, for instance a test's.
            logger.info("License %s does not exist; its wake-up is ignored.", license_id)
            return lease, step
        store().ensure_lane(license_id)
        step = store().take_lease(lease, seconds, **options)
    return lease, step


class _Driver:
    """Sends a lane's messages for as long as it holds one lease."""

    max_seconds_before_call = 5.0
    """Maximum time from requesting a claim to its call. A process that took longer was frozen, and another worker may
    be sending the message by now."""
    max_seconds_rendering = 10.0
    """Maximum time for rendering a text. It delays every other message of the license."""

    def __init__(
        self,
        lease: Lease,
        step: Step,
        conf: Settings,
        should_stop: Callable[[], bool],
        began_at: float,
        slice_seconds: float,
    ) -> None:
        self.lease = lease
        self.step = step
        self.conf = conf
        self.should_stop = should_stop
        self.lease_seconds = lease_seconds(conf)
        self.ends_at = _elapsed() + slice_seconds
        self.attempts = 0
        self.has_broken = False
        # When the current claim was requested, see `max_seconds_before_call`.
        self.began_at = began_at
        self.claim = step.claim
        self.has_unrecorded_call = False
        # True once the limit of number checks is reached.
        self.has_asked_enough = False
        self._gateway: Gateway | None = None

    def run(self) -> Driven:
        try:
            return self._run()
        except BaseException:
            self._let_go()
            raise
        finally:
            if self._gateway is not None:
                self._gateway.close()

    def _let_go(self) -> None:
        """Give the lane back, except after a call whose outcome was not recorded.

        The lease then has to expire, so that the message is declared in doubt.
        """
        if self.has_unrecorded_call:
            return
        if self.claim is not None:
            store().give_back(self.claim)
        store().release_lease(self.lease)

    def _run(self) -> Driven:
        announce.messages_moved(self.step.changed)
        self.lane = self.step.lane or Lane.objects.select_related("license").get(pk=self.lease.license_id)
        self.failures = self.lane.failures
        if not self.lane.license.is_active or not may_send(self.lease, self.lane, self.open_gateway, self.conf):
            self._let_go()
            return Driven()
        return self._send_all()

    def open_gateway(self) -> Gateway:
        """Return the lane's gateway, opened at the first call. Raises the exceptions of `License.get_gateway()`."""
        if self._gateway is None:
            self._gateway = self.lane.license.get_gateway()
        return self._gateway

    def _send_all(self) -> Driven:
        step = self.step
        while True:
            if isinstance(step.next, Ready):
                if self._is_over():
                    return self._stop(has_more=not self.has_broken)
                failpoints.before_claim()
                self.began_at = _elapsed()
                step = store().claim_next(self.lease, self.lease_seconds)
                announce.messages_moved(step.changed)
            self.claim, found, step = step.claim, step.next, Step(Ready())
            if isinstance(found, LeaseLost):
                return Driven(self.attempts)
            if isinstance(found, Idle):
                ended = self._wait(found)
                if ended is not None:
                    return ended
            elif isinstance(found, Unrendered):
                standing = self._standing(found.facts, found.message_id)
                hold = self._hold(found.facts, standing) or self._hold_cold_unrendered(found)
                if hold is None:
                    is_late = found.facts.age_seconds > LATE_AFTER_SECONDS
                    render_message(found.message_id, found.due_at, self.max_seconds_rendering, is_late=is_late)
                else:
                    store().put_off_unrendered(found, hold)
            elif isinstance(found, Claim):
                recorded = self._send(found)
                if recorded is None:
                    return self._stop(has_more=True)
                step = recorded.step
                announce.messages_moved(step.changed)

    def _is_over(self) -> bool:
        """True if no further message is to be claimed."""
        return self.has_broken or self.should_stop() or _elapsed() >= self.ends_at

    def _stop(self, *, has_more: bool) -> Driven:
        store().release_lease(self.lease)
        return Driven(self.attempts, has_more=has_more and not self.should_stop())

    def _wait(self, idle: Idle) -> Driven | None:
        """End the drive because of `idle`, or sleep if the wait is very short. Returns None after a sleep.

        For a short wait, the lease is passed on to the next drive, see `MAX_SECONDS_HELD`.
        """
        if idle.is_released:
            return Driven(self.attempts)
        began_at = _elapsed()
        self._look_ahead(idle)
        wait = None if idle.wait_seconds is None else max(0.0, idle.wait_seconds - (_elapsed() - began_at))
        if wait is None or wait > MAX_SECONDS_HELD:
            return self._stop(has_more=False)
        if wait > MAX_SECONDS_SLEPT:
            return Driven(self.attempts, lease_token=self.lease.token, wait_seconds=wait)
        time.sleep(wait)
        return None

    def _send(self, claim: Claim) -> Recorded | None:
        """Make one attempt and record its outcome. Returns None, without an attempt, if this process was frozen.

        A message that must not be sent now is not attempted either: it is put off, or cancelled because of a stop.
        """
        failpoints.after_claim()
        if claim.has_stops and self._withdraw_stopped(claim):
            return Recorded(None, Step(Ready()))
        standing = self._standing(claim.facts, claim.message_id)
        hold = self._hold(claim.facts, standing)
        if hold is None and claim.contact is not None:
            first = self._before_first(claim, claim.contact)
            if first is not None:
                return first
        hold = hold or self._hold_cold(claim) or self._hold_try(claim, standing)
        if hold is not None:
            return self._undone(claim, store().give_back(claim, hold))
        # Checked immediately before the call, because the queries since the claim may have taken long as well.
        if _elapsed() - self.began_at > self.max_seconds_before_call:
            status = store().give_back(claim)
            announce.messages_became(status, [claim.message_id])
            logger.warning(
                "Message %s was returned to the queue unsent: this process had stopped for too long.", claim.message_id
            )
            return None
        self.has_unrecorded_call = True
        outcome, session = self._call(claim)
        failpoints.after_post()
        known = Circumstances(
            claim.attempts_spent,
            self.failures,
            self.lane.license.api_key_version,
            self.lane.license.pace_seconds,
            session,
            self.lane.confirmed_number,
        )
        outcome, verdict, lane = judge(outcome, known, self.conf)
        listens = announce.has_listeners(verdict.status)
        # If a receiver is connected, the next message is claimed only after the signal was sent. A receiver may take
        # long, and a message that was claimed before it would exceed `max_seconds_before_call`.
        claims_next = not (listens or lane.pause or self._is_over())
        self.began_at = _elapsed()
        recorded = self._record(claim, outcome, verdict, lane, claims_next=claims_next)
        failpoints.after_record()
        self.claim = recorded.step.claim
        self.has_unrecorded_call = False
        self.attempts += 1
        self.failures = lane.failures
        if not isinstance(recorded.step.next, LeaseLost):
            self._tell_of_lane(lane, paused=recorded.paused)
        announce.messages_became(recorded.status, [claim.message_id])
        return recorded

    def _undone(self, claim: Claim, status: Status | None) -> Recorded:
        """Return the result for a claim that was undone; `status`: the status of its message now."""
        self.claim = None
        announce.messages_became(status, [claim.message_id])
        return Recorded(status, Step(Ready()))

    def _before_first(self, claim: Claim, contact: Contact) -> Recorded | None:
        """Check whether the number has WhatsApp before the first message to it. Returns None if it is to be sent now.

        The claim is given back before the gateway is asked, so that a worker that is lost meanwhile leaves no message
        in doubt. A due message that needs no check is sent first, so that it does not have to wait for this one.
        """
        step = first_step(contact) if self.conf.CHECK_NUMBERS else FirstStep.SEND
        if step is FirstStep.FAIL:
            return self._undone(claim, store().fail_unregistered(claim))
        if step is FirstStep.WAIT:
            hold = Hold(HoldReason.CHECKING, asks_again_at(contact))
            return self._undone(claim, store().give_back(claim, hold))
        ahead = Ahead(claim.message_id, claim.facts, contact)
        if step is FirstStep.SEND or not self._may_ask(ahead):
            return None
        undone = self._undone(claim, store().give_back(claim, forgets=True))
        warm_id = store().find_warm_due(self.lease.license_id, claim.facts.priority, self.conf.WARM_DAYS)
        if warm_id is None:
            self._ask_about(ahead)
            return undone
        self.began_at = _elapsed()
        step_to_warm = store().claim_next(self.lease, self.lease_seconds, warm_id)
        announce.messages_moved(step_to_warm.changed)
        self.claim = step_to_warm.claim
        return Recorded(None, step_to_warm)

    def _may_ask(self, ahead: Ahead) -> bool:
        """True if the limits allow a check of the number now, and the message can be sent right after it."""
        now = self._local(ahead.facts)
        if self.has_asked_enough or not has_room(self.lane, ahead.contact, now.date()):
            return False
        return self._hold_if_over_cold_limit(ahead.message_id, now) is None

    def _look_ahead(self, idle: Idle) -> None:
        """Use the wait for the pace to check the next message's number, if the message is the first to that number."""
        ahead = idle.ahead
        if ahead is None or idle.wait_seconds is None or idle.wait_seconds < MAX_CHECK_SECONDS:
            return
        if not self.conf.CHECK_NUMBERS or first_step(ahead.contact) is not FirstStep.ASK or self.should_stop():
            return
        standing = self._standing(ahead.facts, ahead.message_id)
        if self._hold(ahead.facts, standing) is None and self._may_ask(ahead):
            self._ask_about(ahead)

    def _ask_about(self, ahead: Ahead) -> None:
        """Ask the gateway whether the number of a queued message has WhatsApp, and store the answer."""
        # Read again, because the statement that found the message did not see what the same statement recorded.
        contact = store().find_contact(self.lease.license_id, ahead.contact.number, ahead.contact.now)
        if contact is None or first_step(contact) is not FirstStep.ASK:
            return
        limits = (MAX_CHECKS_PER_HOUR, MAX_CHECKS_PER_DAY)
        if not store().count_check(self.lease, contact.now, self._local(ahead.facts).date(), *limits):
            self.has_asked_enough = True
            return
        registered = registered_after(contact, self._is_registered(contact))
        failpoints.after_check()
        if not self.has_broken:
            store().note_checked(self.lease, self.lease_seconds, ahead.message_id, contact.number, registered)

    def _is_registered(self, contact: Contact) -> bool | None:
        """Return the gateway's answer; None if it gave no answer within `MAX_CHECK_SECONDS`."""
        gateway = self.open_gateway()
        gateway.ends_at = time.monotonic() + MAX_CHECK_SECONDS
        try:
            return gateway.check_number(contact.number).is_registered
        except GatewayError as error:
            logger.info("License %s could not ask about a number: %s", self.lane.license_id, words_of(error))
        except Exception as error:
            # As in `_call()`: a bug in a gateway class must not keep the message from being sent.
            trace = masked_traceback(error, gateway.api_key)
            logger.error("The gateway class raised %s while checking a number.\n%s", type(error).__name__, trace)
            self.has_broken = is_time_limit(error)
        finally:
            gateway.ends_at = None
        return None

    def _withdraw_stopped(self, claim: Claim) -> bool:
        """Take a claimed message back, and cancel it, if its recipient has asked to stop since it was queued.

        Returns True if the recipient has.
        """
        content = claim.content
        if content.recipient_type != RecipientType.NUMBER:
            return False
        reason = store().why_stopped(content.recipient, claim.message_id)
        if reason is None:
            return False
        status = store().give_back(claim)
        self.claim = None
        if status == Status.QUEUED:
            announce.messages_moved(store().cancel_stopped(content.recipient, reason))
        else:
            announce.messages_became(status, [claim.message_id])
        return True

    def _hold(self, facts: Facts, standing: Standing = UNRESTRICTED) -> Hold | None:
        return why_not_now(facts, self._local(facts), self.conf, standing)

    def _hold_cold(self, claim: Claim) -> Hold | None:
        """Return a hold if the daily limit of messages to new customers is reached. If not, count this message."""
        now, content = self._local(claim.facts), claim.content
        limit = self.lane.license.cold_limit_on(now.date())
        if limit is None or content.recipient_type != RecipientType.NUMBER:
            return None
        if store().has_written(self.lease.license_id, content.recipient, self.conf.WARM_DAYS):
            return None
        is_counted = store().count_cold(self.lease, claim.message_id, now.date(), limit)
        return None if is_counted else until_tomorrow(now, self.conf)

    def _hold_try(self, claim: Claim, standing: Standing) -> Hold | None:
        """During a restriction, let one message to a new customer through as a trial, and return a hold for others."""
        if standing.until is None or not standing.is_cold:
            return None
        until = store().begin_try(self.lease, claim)
        return None if until is None else Hold(HoldReason.RESTRICTED, until)

    def _hold_cold_unrendered(self, found: Unrendered) -> Hold | None:
        """Like `_hold_cold()`, but before the text is written, so that nothing is counted yet."""
        return self._hold_if_over_cold_limit(found.message_id, self._local(found.facts))

    def _hold_if_over_cold_limit(self, message_id: int, now: datetime) -> Hold | None:
        limit = self.lane.license.cold_limit_on(now.date())
        if limit is None:
            return None
        license_id, warm_days = self.lease.license_id, self.conf.WARM_DAYS
        is_over = store().is_over_cold_limit(license_id, message_id, now.date(), limit, warm_days)
        return until_tomorrow(now, self.conf) if is_over else None

    def _local(self, facts: Facts) -> datetime:
        return timezone.localtime(facts.now, self.lane.license.time_zone)

    def _standing(self, facts: Facts, message_id: int) -> Standing:
        # The facts say whether there is a restriction. This saves a query for each message of a lane without one.
        if not facts.is_restricted:
            return UNRESTRICTED
        return store().standing_of(self.lane.license_id, message_id, self.conf.WARM_DAYS)

    def _tell_of_lane(self, lane: LaneVerdict, *, paused: bool) -> None:
        """Send the signals for what this send revealed about the lane, and keep it for the next send."""
        if lane.pause is not None and paused:
            announce.lane_paused(self.lane.license, lane.pause, self.lane.confirmed_number, lane.linked_number)
        elif lane.pause is not None:
            # A person was faster: they paused the lane, or confirmed a number that this driver had not read yet.
            self.lane.refresh_from_db(fields=["confirmed_number"])
        if lane.confirms_number:
            self.lane.confirmed_number = lane.linked_number
        if lane.session_status is not None:
            announce.session_became(self.lane.license, lane.session_status, SessionStatus(self.lane.session_status))
            self.lane.session_status = lane.session_status.value

    def _call(self, claim: Claim) -> tuple[Outcome, ServiceStatus | None]:
        """Send the message. Returns the outcome, and the answer to a status check if the outcome calls for one.

        Any `Exception` of the gateway class becomes an outcome, because the attempt has to be recorded.
        """
        gateway, content = self.open_gateway(), claim.content
        send = gateway.send_message if content.recipient_type == RecipientType.NUMBER else gateway.send_group_message
        try:
            outcome = outcome_of_answer(send(*content.arguments))
        except GatewayError as error:
            outcome = outcome_of_error(error)
            if not error.said:
                # Only the gateway's own words are stored with the attempt. Network administrators need this line.
                logger.warning("A send of license %s failed: %s", self.lane.license_id, words_of(error))
        except Exception as error:
            # A task's soft time limit, or a bug in a gateway class: the outcome is recorded, then this drive ends.
            trace = masked_traceback(error, gateway.api_key)
            logger.error("The gateway class raised %s; the message is in doubt.\n%s", type(error).__name__, trace)
            self.has_broken = True
            if is_time_limit(error):
                # Recorded like a lost worker, because a time limit says nothing about the gateway.
                return Outcome(OutcomeKind.IN_DOUBT, Cause.WORKER_LOST), None
            return outcome_of_error(error), None
        return outcome, self._ask_status(gateway) if outcome.asks_for_status else None

    def _ask_status(self, gateway: Gateway) -> ServiceStatus | None:
        try:
            return gateway.get_status(deadline_seconds=self.conf.status_deadline_seconds)
        except GatewayError as error:
            logger.info(
                "The gateway's status could not be checked after a refused or failed send (%s).", type(error).__name__
            )
            return None
        except Exception as error:
            # As in `_call()`; the outcome of the send must be recorded in any case.
            logger.error(
                "The gateway class raised %s while checking the status.\n%s",
                type(error).__name__,
                masked_traceback(error, gateway.api_key),
            )
            self.has_broken = True
            return None

    def _record(
        self, claim: Claim, outcome: Outcome, verdict: MessageVerdict, lane: LaneVerdict, *, claims_next: bool
    ) -> Recorded:
        """Record the outcome. If the database fails, retry over a new connection for up to `Settings.record_seconds`.

        Only this process knows the outcome. If it is not recorded, the message will be in doubt.
        """
        gives_up_at = _elapsed() + self.conf.record_seconds
        is_retry = False
        while True:
            try:
                return store().record(
                    self.lease,
                    claim,
                    outcome,
                    verdict,
                    lane,
                    lease_seconds=self.lease_seconds,
                    claims_next=claims_next and not is_retry,
                    is_retry=is_retry,
                )
            except (DatabaseError, InterfaceError) as error:
                if _elapsed() >= gives_up_at:
                    logger.error(
                        "The outcome of message %s (%s) could not be recorded; it will be in doubt.\n%s",
                        claim.message_id,
                        outcome.kind.value,
                        masked_traceback(error),
                    )
                    raise
                logger.warning("Recording the outcome failed (%s); retrying.", type(error).__name__)
                with suppress(DatabaseError, InterfaceError):
                    store().connection.close()
                time.sleep(0.2)
                is_retry = True


def _elapsed() -> float:
    """Seconds on a clock that also runs while the machine is suspended, which `time.monotonic()` may not do."""
    return time.clock_gettime(_CLOCK)


_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
