"""The hand-written statements and the portable form leave the same rows, whatever state they find.

Each example is stored twice, for a license each. Each form handles one of the two.
"""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from django_kpwa.gateway import SentMessage, SessionStatus
from django_kpwa.gateway.outcome import outcome_of_answer
from django_kpwa.models import Lane, License, OutboundMessage, PauseReason, SendAttempt, Status
from django_kpwa.store import store
from django_kpwa.store.results import (
    Claim,
    Content,
    Facts,
    Idle,
    LaneVerdict,
    Lease,
    LeaseLost,
    MessageVerdict,
    Unrendered,
)
from tests.stores import stored_by

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="only PostgreSQL has a form of its own"),
]

ANSWER = SentMessage("GW-1", "x", "6281234567890", "62812", "", "2026-11-24", "sent", 200)
# Seconds from now, with room for the time a test takes: nothing may become due between the two forms.
MOMENTS = st.sampled_from([None, -3600, -60, 600, 3600])
REQUIRED_MOMENTS = st.sampled_from([-3600, -60, 600])

LANES = st.fixed_dictionaries(
    {
        "pause_reason": st.sampled_from(["", "", "", PauseReason.BY_PERSON, PauseReason.FAILING]),
        "session_status": st.sampled_from(["unknown", "qr", "connected"]),
        "linked_number": st.sampled_from(["", "6281234567890", "628999"]),
        "confirmed_number": st.sampled_from(["", "6281234567890"]),
        "failures": st.integers(0, 3),
        "next_send_at": MOMENTS,
        "is_held": st.sampled_from([True, True, True, False]),
    }
)
WAITING = st.fixed_dictionaries(
    {
        "status": st.sampled_from([Status.QUEUED, Status.QUEUED, Status.SENT, Status.CANCELLED]),
        "due_at": REQUIRED_MOMENTS,
        "expires_at": MOMENTS,
        "priority": st.sampled_from([10, 50]),
        "first_due_at": MOMENTS,
        "renderer": st.sampled_from(["", "", "tests.renderer"]),
        "rendered_at": MOMENTS,
        "attempts_made": st.integers(0, 2),
    }
)
RUNNING = st.fixed_dictionaries(
    {
        "status": st.sampled_from([Status.SENDING, Status.SENDING, Status.SENDING, Status.UNKNOWN, Status.QUEUED]),
        "attempts_made": st.integers(1, 2),
        "in_doubt": st.booleans(),
        "proven_at": MOMENTS,
        "outcome": st.sampled_from(["running", "running", "running", "in_doubt"]),
        "due_at": REQUIRED_MOMENTS,
    }
)
VERDICTS = st.builds(
    LaneVerdict,
    next_send_in_seconds=st.sampled_from([0.0, 900.0]),
    session_status=st.just(SessionStatus.CONNECTED),
    linked_number=st.sampled_from(["", "6281234567890"]),
    confirms_number=st.booleans(),
)
EXAMPLES = settings(
    max_examples=50,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)


def by_form(function, written, portable):
    """Call the function for the license of PostgreSQL's form, then for the license of the portable one."""
    by_written = function(written)
    with stored_by("portable"):
        return by_written, function(portable)


@EXAMPLES
@given(lane=LANES, waiting=st.lists(WAITING, max_size=4), is_active=st.sampled_from([True, True, True, False]))
def test_both_forms_claim_the_same(lane, waiting, is_active):
    written, portable = (Stored(lane, waiting, None, is_active) for _ in range(2))
    found = by_form(lambda stored: store().claim_next(stored.lease, 60), written, portable)
    _agree(*found, written, portable)


@EXAMPLES
@given(
    lane=LANES,
    holder=st.sampled_from([None, None, "another", "lost"]),
    waiting=st.lists(WAITING, max_size=4),
    running=st.none() | RUNNING,
    is_active=st.sampled_from([True, True, True, False]),
)
def test_both_forms_take_the_same(lane, holder, waiting, running, is_active):
    written, portable = (Stored(lane, waiting, running, is_active) for _ in range(2))

    def take(stored):
        stored.is_held_by(holder)
        lease = Lease(stored.license_id)
        step = store().take_lease(lease, 60, resend_lost=False, max_attempts=6, claims=True)
        if isinstance(step.next, LeaseLost):
            return None, None
        stored.lease = lease
        # The hand-written form may have claimed together with the lease. After this, both forms have claimed.
        return stored.positions(step), step if step.claim else store().claim_next(lease, 60)

    (lost_to_written, by_written), (lost_to_portable, by_portable) = by_form(take, written, portable)
    assert lost_to_written == lost_to_portable
    assert (by_written is None) == (by_portable is None)
    if by_written is not None:
        _agree(by_written, by_portable, written, portable)
    assert written.rows() == portable.rows()


@EXAMPLES
@given(
    lane=LANES,
    waiting=st.lists(WAITING, max_size=4),
    running=RUNNING,
    verdict=VERDICTS,
    claims_next=st.booleans(),
    is_active=st.sampled_from([True, True, True, False]),
)
def test_both_forms_record_the_same(lane, waiting, running, verdict, claims_next, is_active):
    written, portable = (Stored(lane, waiting, running, is_active) for _ in range(2))

    def record(stored):
        return store().record(
            stored.lease,
            stored.claim,
            outcome_of_answer(ANSWER),
            MessageVerdict(Status.SENT),
            verdict,
            lease_seconds=60,
            claims_next=claims_next,
        )

    by_written, by_portable = by_form(record, written, portable)
    assert by_written.status == by_portable.status
    _agree(by_written.step, by_portable.step, written, portable)


class Stored:
    """One example in the database, with a license of its own."""

    def __init__(self, lane, waiting, running, is_active):
        self.began_at = timezone.now()
        license_ = License(name=str(uuid.uuid4()), is_active=is_active)
        license_.set_api_key("a-key-of-this-test")
        license_.save()
        self.license_id = license_.pk
        self.lease = Lease(self.license_id, uuid.uuid4())
        columns = self._at(lane)
        holder = self.lease.token if columns.pop("is_held") else uuid.uuid4()
        Lane.objects.create(
            license=license_, lease_token=holder, lease_expires_at=self.began_at + timedelta(seconds=30), **columns
        )
        self.claim = None
        self.ids = []
        if running is not None:
            outcome = running["outcome"]
            message = self._message({name: value for name, value in running.items() if name != "outcome"}, text="x")
            number = message.attempts_made
            attempt = SendAttempt.objects.create(
                message=message, number=number, started_at=self.began_at, outcome=outcome
            )
            self.claim = Claim(
                message.pk,
                attempt.pk,
                number,
                1,
                Content("number", "62812", "x", ""),
                Facts(self.began_at, 50, self.began_at, None),
            )
        for columns in waiting:
            self._message(columns, text="" if columns["renderer"] else "x")

    def is_held_by(self, holder):
        """Give the lease to nobody, to another worker, or to a worker that was lost."""
        expires_at = self.began_at + timedelta(seconds=-60 if holder == "lost" else 60)
        Lane.objects.filter(pk=self.license_id).update(
            lease_token=uuid.uuid4() if holder else None, lease_expires_at=expires_at if holder else None
        )

    def positions(self, step):
        """The messages that changed on the way, with positions instead of ids."""
        return [(self.ids.index(message_id), status) for message_id, status in step.changed]

    def _message(self, columns, **more):
        message = OutboundMessage.objects.create(
            license_id=self.license_id, recipient="62812", created_at=self.began_at, **self._at(columns), **more
        )
        self.ids.append(message.pk)
        return message

    def _at(self, columns):
        return {
            name: self.began_at + timedelta(seconds=value) if name.endswith("_at") and value is not None else value
            for name, value in columns.items()
        }

    def rows(self):
        """All columns that a transition may write: times in seconds from the start, positions instead of ids."""
        lane = Lane.objects.filter(pk=self.license_id).values().get()
        lane["lease_token"] = {None: None, self.lease.token: "ours"}.get(lane["lease_token"], "another's")
        del lane["license_id"]
        messages = list(OutboundMessage.objects.filter(pk__in=self.ids).order_by("pk").values())
        attempts = list(SendAttempt.objects.filter(message__in=self.ids).order_by("message_id", "number").values())
        for row in (*messages, *attempts):
            for name in ("id", "uuid", "license_id"):
                row.pop(name, None)
        for row in attempts:
            row["message_id"] = self.ids.index(row["message_id"])
        return [self._relative(row) for row in (lane, *messages, *attempts)]

    def _relative(self, row):
        def relative(value):
            # Rounded to ten seconds, because "now" differs between the two forms.
            return round((value - self.began_at).total_seconds() / 10) if hasattr(value, "utcoffset") else value

        return {name: relative(value) for name, value in row.items()}

    def _facts(self, found):
        return self._relative(found.facts._asdict())

    def seen(self, step):
        """What the step found, with positions instead of ids."""
        found = step.next
        if isinstance(found, Claim):
            position = self.ids.index(found.message_id)
            found = (Claim, position, found.attempt_number, found.attempts_spent, found.content, self._facts(found))
        elif isinstance(found, Unrendered):
            found = (
                Unrendered,
                self.ids.index(found.message_id),
                round((found.due_at - self.began_at).total_seconds()),
                self._facts(found),
            )
        elif isinstance(found, Idle) and found.wait_seconds is not None:
            found = (Idle, round(found.wait_seconds / 10))
        else:
            found = (type(found), getattr(found, "is_released", False))
        return found, self.positions(step)


def _agree(by_written, by_portable, written, portable):
    assert written.seen(by_written) == portable.seen(by_portable)
    assert written.rows() == portable.rows()
