"""Workers, a phone, webhooks and people act in any order, compared with a ledger of what the phone accepted.

The phone is the test's own. Workers are split into their transactions, so that anything can happen between two of
them. Time passes by moving the times in the database. A failing run prints the steps that led to the failure.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from django_kpwa import outbox, personal_data
from django_kpwa.conf import kpwa_settings
from django_kpwa.dispatch import drive, sweep
from django_kpwa.dispatch.verdict import Circumstances, judge
from django_kpwa.exceptions import (
    BadRequestError,
    GatewayTimeoutError,
    NotConnectedError,
    RateLimitedError,
    ServerError,
    UnauthorizedError,
)
from django_kpwa.gateway import SentMessage, ServiceStatus, SessionStatus, locmem
from django_kpwa.gateway.outcome import OutcomeKind, outcome_of_answer, outcome_of_error
from django_kpwa.models import (
    ARRIVED,
    EventKind,
    Lane,
    OutboundMessage,
    PauseReason,
    SendAttempt,
    Status,
    WebhookEvent,
)
from django_kpwa.store import store
from django_kpwa.store.results import Claim, Lease
from django_kpwa.webhooks.matching import act
from django_kpwa.webhooks.parsers import DeliveryState, ParsedEvent
from tests.stores import take_lane

NUMBER = "6281234567890"
MAX_ATTEMPTS = 3
CERTAINLY_NOT_SENT = [
    NotConnectedError("refused"),
    BadRequestError("no such number", status_code=400),
    RateLimitedError("slow", status_code=429),
    UnauthorizedError("no", status_code=401),
]
DOUBTS = [GatewayTimeoutError("late", status_code=504), ServerError("broken", status_code=500)]


NTH = st.integers(0, 5)


@dataclass
class Call:
    """An attempt of one worker. `accepted` is None before the call. `may_call`: its lease has not run out since."""

    lease: Lease
    claim: Claim
    accepted: bool | None = None
    may_call: bool = True


class Outbox(RuleBasedStateMachine):
    license_ = None

    messages = Bundle("messages")

    def __init__(self):
        super().__init__()
        SendAttempt.objects.all().delete()
        OutboundMessage.objects.all().delete()
        Lane.objects.all().delete()
        locmem.clear()
        self.accepted: dict[str, int] = {}
        self.allowed: dict[str, int] = {}
        self.vouched: set[str] = set()
        self.resent_after_report: set[str] = set()
        self.leases: list[Lease] = []
        self.out: list[Call] = []

    # --- the shop ---

    @rule(target=messages, expires=st.booleans())
    def send(self, expires):
        text = f"m{len(self.allowed)}"
        self.allowed[text], self.accepted[text] = 1, 0
        later = timezone.now() + timedelta(hours=1) if expires else None
        return outbox.send_message(NUMBER, text, license=self.license_, expires_at=later)

    # --- workers ---

    @rule()
    def take(self):
        lease, _ = take_lane(self.license_.pk, 600, MAX_ATTEMPTS)
        if lease is None:
            Lane.objects.get_or_create(license=self.license_)
        else:
            self.leases.append(lease)

    @precondition(lambda self: self.leases and all(call.lease is not self.leases[-1] for call in self.out))
    @rule()
    def claim(self):
        lease = self.leases[-1]
        self._called(lease, store().claim_next(lease, 600).next)

    @precondition(lambda self: any(call.accepted is None and call.may_call for call in self.out))
    @rule(accepted=st.booleans())
    def call_the_phone(self, accepted):
        call = next(call for call in self.out if call.accepted is None and call.may_call)
        call.accepted = accepted
        self.accepted[call.claim.content.text] += accepted

    @precondition(lambda self: any(call.accepted is not None for call in self.out))
    @rule(nth=NTH, error=st.sampled_from(CERTAINLY_NOT_SENT + DOUBTS), loses_answer=st.booleans(),
          session=st.sampled_from([None, *SessionStatus]), claims_next=st.booleans(),
          is_unanswered=st.booleans())  # fmt: skip
    def answer(self, nth, error, loses_answer, session, claims_next, is_unanswered):
        answerable = [call for call in self.out if call.accepted is not None]
        call = answerable[nth % len(answerable)]
        self.out.remove(call)
        if call.accepted and not loses_answer:
            outcome = outcome_of_answer(SentMessage(id=f"GW-{call.claim.attempt_id}", body=call.claim.content.text))
        else:
            outcome = outcome_of_error(DOUBTS[0] if call.accepted else error)
        if session == SessionStatus.QR and outcome.kind == OutcomeKind.IN_DOUBT:
            session = None  # by default, the policy sends these messages again
        known = Circumstances(
            call.claim.attempts_spent, 0, self.license_.api_key_version, (0.0, 0.0), session and ServiceStatus(session)
        )
        outcome, message_verdict, lane_verdict = judge(outcome, known, kpwa_settings())
        arguments = (call.lease, call.claim, outcome, message_verdict, lane_verdict)
        recorded = store().record(*arguments, lease_seconds=600, claims_next=claims_next)
        if is_unanswered:
            recorded = store().record(*arguments, lease_seconds=600, claims_next=False, is_retry=True)
        self._called(call.lease, recorded.step.next)

    def _called(self, lease, found):
        if isinstance(found, Claim):
            self.out.append(Call(lease, found))

    @precondition(lambda self: any(call.accepted is None for call in self.out))
    @rule()
    def stand_still_and_give_back(self):
        call = next(call for call in self.out if call.accepted is None)
        self.out.remove(call)
        store().give_back(call.claim)

    @precondition(lambda self: self.out)
    @rule(nth=NTH)
    def crash(self, nth):
        call = self.out.pop(nth % len(self.out))
        self.leases = [lease for lease in self.leases if lease is not call.lease]

    @precondition(lambda self: self.leases and all(call.lease is not self.leases[-1] for call in self.out))
    @rule()
    def release(self):
        store().release_lease(self.leases.pop())

    # --- time ---

    @rule()
    def the_lease_runs_out(self):
        Lane.objects.filter(lease_token__isnull=False).update(lease_expires_at=timezone.now() - timedelta(seconds=1))
        for call in self.out:
            call.may_call = False

    @rule()
    def waits_are_over(self):
        OutboundMessage.objects.filter(status=Status.QUEUED).update(due_at=timezone.now() - timedelta(minutes=1))
        Lane.objects.update(next_send_at=None)

    @rule()
    def the_sweep_runs(self):
        sweep()

    @rule(message=messages)
    def expires(self, message):
        OutboundMessage.objects.filter(pk=message.pk, expires_at__isnull=False).update(
            expires_at=timezone.now() - timedelta(seconds=1)
        )

    # --- people and webhooks ---

    @rule(message=messages)
    def cancel(self, message):
        outbox.cancel(message)

    @rule(message=messages)
    def resend(self, message):
        if OutboundMessage.objects.get(pk=message.pk).is_forgotten:
            assert not store().resend(message.pk)
            return
        was_reported = OutboundMessage.objects.undelivered().filter(pk=message.pk).exists()
        if outbox.resend(message):
            self.allowed[message.text] += 1
            if was_reported:
                self.resent_after_report.add(message.text)

    @rule(message=messages)
    def mark_sent(self, message):
        text = message.text
        if outbox.mark_sent(message):
            self.vouched.add(text)

    @rule(message=messages)
    def dismiss(self, message):
        outbox.dismiss(message)

    @rule(wants=st.integers(0, 3))
    def forget(self, wants):
        if not wants:
            told = personal_data.forget(NUMBER)
            assert OutboundMessage.objects.filter(recipient=NUMBER).count() == told.left_messages

    @rule()
    def resume(self):
        store().lift_pause(self.license_.pk, *(reason for reason in PauseReason if reason != PauseReason.NONE))

    @precondition(lambda self: any(self.accepted.values()))
    @rule(
        message=messages,
        state=st.sampled_from([DeliveryState.SENT, DeliveryState.DELIVERED, DeliveryState.READ, DeliveryState.FAILED]),
    )
    def a_webhook_tells(self, message, state):
        if self.accepted.get(message.text):
            echo = ParsedEvent(EventKind.OWN, recipient=NUMBER, text=message.text, is_own=True, state=state)
            event = WebhookEvent(license=self.license_, received_at=timezone.now() + timedelta(seconds=1))
            act(event, [echo])

    # --- invariants ---

    @invariant()
    def nothing_is_accepted_twice_unless_a_person_asked(self):
        assert all(count <= self.allowed[text] for text, count in self.accepted.items()), "accepted more than allowed"

    @invariant()
    def one_message_is_being_sent_and_under_a_lease(self):
        sending = OutboundMessage.objects.filter(status=Status.SENDING).count()
        assert sending <= 1
        assert not sending or Lane.objects.get().lease_token is not None, "a message is being sent without a lease"

    @invariant()
    def statuses_tell_what_the_phone_did(self):
        for message in OutboundMessage.objects.prefetch_related("attempts"):
            status = Status(message.status)
            if not message.recipient:
                assert status not in (Status.QUEUED, Status.SENDING), "a message without a recipient cannot be sent"
                assert status != Status.UNKNOWN or message.dismissed_at is not None, "nobody can decide"
                continue
            accepted = self.accepted[message.text]
            assert message.undelivered_at is None or status == Status.SENT, "a message on a phone is not undelivered"
            if message.text in self.resent_after_report:
                continue  # it was accepted once, and may still be cancelled, expire or fail
            if status in ARRIVED:
                assert accepted or message.text in self.vouched, "a message with this status was never accepted"
            elif accepted:
                on_its_way = status in (Status.QUEUED, Status.SENDING) and self.allowed[message.text] > 1
                assert on_its_way or status in (Status.UNKNOWN, Status.SENDING), "an accepted message does not say so"
            outcomes = {attempt.outcome for attempt in message.attempts.all()}
            if status not in ARRIVED and message.text not in self.vouched:
                assert OutcomeKind.ACCEPTED not in outcomes or status == Status.SENDING, "acceptance proves it was sent"
                assert message.in_doubt or OutcomeKind.IN_DOUBT not in outcomes, "doubt about an attempt is kept"

    def teardown(self):
        """All workers die. Then all that is left goes out by itself."""
        self.the_lease_runs_out()
        sweep()
        self.resume()
        self.waits_are_over()
        Lane.objects.update(session_status="connected")
        drive(self.license_.pk)
        for sent in locmem.outbox:
            self.accepted[sent.text] += 1
        left = OutboundMessage.objects.filter(status__in=[Status.QUEUED, Status.SENDING])
        assert not left.exists(), "a message was left behind"
        self.nothing_is_accepted_twice_unless_a_person_asked()
        self.statuses_tell_what_the_phone_did()


@pytest.fixture
def few_attempts(settings):
    settings.KPWA = {**settings.KPWA, "MAX_ATTEMPTS": MAX_ATTEMPTS}


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("form")
@pytest.mark.parametrize(
    ("examples", "steps"), [(12, 30), pytest.param(100, 60, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])]
)
def test_whatever_happens_in_whatever_order_the_outbox_keeps_its_promises(license_, few_attempts, examples, steps):
    machine = type("Outbox", (Outbox,), {"license_": license_})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
