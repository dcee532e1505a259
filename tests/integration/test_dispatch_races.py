"""Races: workers, webhooks and people that meet in the middle of a statement, a transaction or a call."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import OperationalError, connection
from django.utils import timezone

from django_kpwa import license_actions, outbox, signals
from django_kpwa.dispatch import drive, failpoints, render, sweep
from django_kpwa.exceptions import (
    BadRequestError,
    GatewayTimeoutError,
    InvalidMessageError,
    NotConnectedError,
    RateLimitedError,
)
from django_kpwa.gateway import ServiceStatus, SessionStatus, locmem
from django_kpwa.gateway.outcome import Cause, Outcome, OutcomeKind
from django_kpwa.models import Lane, OutboundMessage, PauseReason, Status
from django_kpwa.outbox import Message, send_group_message, send_message, send_messages
from django_kpwa.receipts.render import Rendered
from django_kpwa.store import store
from django_kpwa.store.engine import Store
from django_kpwa.store.results import Claim, LaneVerdict, MessageVerdict, Pause
from tests.shop.models import Sale
from tests.stores import take_lane

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("form")]

NUMBER = "081234567890"
IN_DOUBT = Outcome(OutcomeKind.IN_DOUBT, Cause.TIMEOUT)


def fresh(message):
    return OutboundMessage.objects.get(pk=message.pk)


def connected(license_):
    Lane.objects.update_or_create(license=license_, defaults={"session_status": "connected"})


def take(license_):
    lease, _ = take_lane(license_.pk)
    assert lease is not None
    return lease


def claimed_under(lease):
    claim = store().claim_next(lease, 60).next
    assert isinstance(claim, Claim)
    return claim


def lose_the_lease(license_):
    Lane.objects.filter(pk=license_.pk).update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    return sweep()


def recorded_in_doubt(lease, claim):
    return store().record(
        lease,
        claim,
        IN_DOUBT,
        MessageVerdict(Status.UNKNOWN, "timeout"),
        LaneVerdict(),
        lease_seconds=60,
        claims_next=False,
    )


class Elsewhere:
    """Runs a function over another connection, and raises its exception at the end."""

    def __init__(self, function):
        self._function = function
        self._error = None
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            self._function()
        except Exception as error:
            self._error = error
        finally:
            connection.close()

    def start(self, wait_seconds=0.5):
        """Start the function, and give it this long to end or to wait for one of our locks."""
        self._thread.start()
        self._thread.join(wait_seconds)

    def ended(self):
        self._thread.join()
        if self._error is not None:
            raise self._error


@contextmanager
def after_statement(begins, table, then):
    """Call `then` once, after this connection's first statement that begins with `begins` and names `table`."""
    waiting = [then]

    def wrapper(execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        if waiting and sql.lstrip().startswith(begins) and table in sql:
            waiting.pop()()
        return result

    with connection.execute_wrapper(wrapper):
        yield


MESSAGES, ATTEMPTS = "kpwa_outboundmessage", "kpwa_sendattempt"


# --- locks and looks --------------------------------------------------------------------------------------------------


def test_a_webhooks_proof_and_the_record_of_the_same_attempt_never_lock_each_other_out(license_, hooks, caplog):
    connected(license_)
    message = send_message(NUMBER, "x")
    has_locked = threading.Event()
    pause = threading.Event()

    def prove():
        def hold():
            has_locked.set()
            pause.wait(0.5)

        with after_statement("UPDATE", MESSAGES, hold):
            store().prove_accepted(message.pk, 1, "GW-1")

    proof = Elsewhere(prove)

    def meet_the_webhook(_):
        proof.start(0)
        has_locked.wait()
        raise GatewayTimeoutError("late")

    hooks.before_send = meet_the_webhook
    drive(license_.pk)
    proof.ended()
    assert fresh(message).status == Status.SENT
    assert "Recording the outcome failed" not in caplog.text


def test_a_message_cancelled_between_the_look_and_the_claim_does_not_hold_the_lane_for_ever(license_, form):
    if connection.vendor == "mysql":
        # This is not Django's default, but a site may choose it: every query of a transaction sees the same rows.
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    connected(license_)
    message, other = send_message(NUMBER, "x"), send_message(NUMBER, "y")
    lease = take(license_)
    looks = []

    def count(execute, sql, params, many, context):
        looks.append(sql)
        assert len(looks) < 50, "the claim searches again and again"
        return execute(sql, params, many, context)

    if connection.vendor == "sqlite" or form == "postgresql":
        # Either writers wait for each other, or one statement searches and claims. Nobody gets in between.
        outbox.cancel(message)
        claim = claimed_under(lease)
    else:
        cancel = Elsewhere(lambda: outbox.cancel(message))
        try:
            with after_statement("SELECT", MESSAGES, cancel.start), connection.execute_wrapper(count):
                claim = claimed_under(lease)
        finally:
            cancel.ended()
            connection.close()
    assert claim.message_id == other.pk
    assert fresh(message).status == Status.CANCELLED


def test_a_message_stored_after_the_lane_was_given_back_is_seen_by_the_look_that_follows(license_, monkeypatch):
    connected(license_)
    first, later = send_message(NUMBER, "x"), []

    def store_once():
        if not later:
            assert Lane.objects.get(pk=license_.pk).lease_token is None
            later.append(send_message(NUMBER, "y"))

    monkeypatch.setattr(failpoints, "after_record", store_once)
    drive(license_.pk)
    assert [fresh(message).status for message in (first, *later)] == [Status.SENT, Status.SENT]


def test_a_backlog_that_went_stale_expires_in_short_transactions(license_):
    connected(license_)
    stale = timezone.now() - timedelta(minutes=1)
    send_messages(
        [Message(NUMBER, str(n), license=license_, expires_at=stale) for n in range(Store.MAX_SKIPPED + 5)]
        + [Message(NUMBER, "good", license=license_)]
    )
    lease = take(license_)
    assert len(store().claim_next(lease, 60).changed) == Store.MAX_SKIPPED
    store().release_lease(lease)
    drive(license_.pk)
    assert [sent.text for sent in locmem.outbox] == ["good"]
    assert OutboundMessage.objects.filter(status=Status.EXPIRED).count() == Store.MAX_SKIPPED + 5


# --- proof and late answers -------------------------------------------------------------------------------------------


def test_proof_that_comes_just_as_doubt_is_recorded_is_not_lost(license_):
    connected(license_)
    message = send_message(NUMBER, "x")
    lease = take(license_)
    claim = claimed_under(lease)
    doubt = Elsewhere(lambda: recorded_in_doubt(lease, claim))
    with after_statement("UPDATE", MESSAGES, doubt.start):
        store().prove_accepted(message.pk)
    doubt.ended()
    assert fresh(message).status == Status.SENT


def test_a_late_acceptance_that_comes_just_as_the_resend_is_recorded_is_not_lost(license_):
    connected(license_)
    message = send_message(NUMBER, "x")
    lost_lease = take(license_)
    first = claimed_under(lost_lease)
    lose_the_lease(license_)
    outbox.resend(fresh(message))
    lease = take(license_)
    second = claimed_under(lease)
    doubt = Elsewhere(lambda: recorded_in_doubt(lease, second))
    with after_statement("UPDATE", MESSAGES, doubt.start):
        store().record(
            lost_lease,
            first,
            Outcome(OutcomeKind.ACCEPTED),
            MessageVerdict(Status.SENT),
            LaneVerdict(),
            lease_seconds=60,
            claims_next=False,
        )
    doubt.ended()
    assert fresh(message).status == Status.SENT


def test_a_late_certainty_does_not_wipe_out_the_doubt_of_a_resend_that_began_meanwhile(license_):
    connected(license_)
    message = send_message(NUMBER, "x")
    lost_lease = take(license_)
    first = claimed_under(lost_lease)
    lose_the_lease(license_)
    outbox.resend(fresh(message))

    def send_again_in_doubt():
        lease = take(license_)
        recorded_in_doubt(lease, claimed_under(lease))

    again = Elsewhere(send_again_in_doubt)
    with after_statement("SELECT", ATTEMPTS, again.start):
        store().record(
            lost_lease,
            first,
            Outcome(OutcomeKind.REFUSED, Cause.REFUSED),
            MessageVerdict(Status.FAILED, "refused"),
            LaneVerdict(),
            lease_seconds=60,
            claims_next=False,
        )
    again.ended()
    assert (fresh(message).status, fresh(message).in_doubt) == (Status.UNKNOWN, True)


@pytest.mark.parametrize("error", [NotConnectedError("refused"), RateLimitedError("slow")])
def test_what_a_person_withdrew_is_not_sent_again_because_of_a_late_certainty(license_, hooks, error):
    connected(license_)
    message = send_message(NUMBER, "x")

    def lose_it_resend_and_cancel(_):
        hooks.before_send = None
        lose_the_lease(license_)
        outbox.resend(fresh(message))
        assert outbox.cancel(fresh(message))
        raise error

    hooks.before_send = lose_it_resend_and_cancel
    drive(license_.pk)
    assert (fresh(message).status, fresh(message).in_doubt) == (Status.UNKNOWN, False)
    assert locmem.outbox == []


def test_what_a_person_withdrew_after_the_policy_queued_it_is_not_sent_by_a_late_certainty(license_, hooks, settings):
    settings.KPWA = {**settings.KPWA, "RESEND_UNKNOWN": ["worker_lost"]}
    connected(license_)
    message = send_message(NUMBER, "x")

    def lose_it_and_cancel(_):
        hooks.before_send = None
        lose_the_lease(license_)
        assert fresh(message).status == Status.QUEUED
        assert outbox.cancel(fresh(message))
        raise NotConnectedError("refused")

    hooks.before_send = lose_it_and_cancel
    drive(license_.pk)
    assert fresh(message).status == Status.UNKNOWN
    assert locmem.outbox == []


def test_a_claim_that_is_given_back_after_proof_came_is_sent_not_queued(license_):
    connected(license_)
    message = send_message(NUMBER, "x")
    locmem.fail_next(GatewayTimeoutError("late"))
    drive(license_.pk)
    outbox.resend(fresh(message))
    lease = take(license_)
    claim = claimed_under(lease)
    store().prove_accepted(message.pk, 1, "GW-1")
    assert store().give_back(claim) == Status.SENT
    store().release_lease(lease)
    drive(license_.pk)
    assert locmem.outbox == []
    assert [attempt.outcome for attempt in message.attempts.all()] == ["accepted", "not_sent"]


def test_a_lost_workers_message_that_was_proven_meanwhile_is_announced_as_sent(license_):
    connected(license_)
    message = send_message(NUMBER, "x")
    claimed_under(take(license_))
    store().prove_accepted(message.pk, 1, "GW-1")
    heard = []

    def hear(message, **_):
        heard.append(message.status)

    signals.message_sent.connect(hear)
    try:
        lose_the_lease(license_)
    finally:
        signals.message_sent.disconnect(hear)
    assert heard == [Status.SENT]


def test_a_lost_workers_attempt_keeps_its_cause_in_the_words_that_the_admin_knows(license_):
    connected(license_)
    message = send_message(NUMBER, "x")
    claimed_under(take(license_))
    lose_the_lease(license_)
    assert message.attempts.get().cause == "worker_lost"


# --- answers that never come ------------------------------------------------------------------------------------------


@pytest.fixture
def unanswered(monkeypatch):
    """The first outcome is committed, but the answer to its COMMIT is lost."""
    recorded = []
    record = type(store()).record

    def record_without_an_answer(*arguments, **options):
        result = record(*arguments, **options)
        if not recorded:
            recorded.append(result)
            raise OperationalError("the server closed the connection unexpectedly")
        return result

    monkeypatch.setattr(type(store()), "record", record_without_an_answer)
    return recorded


def test_an_outcome_whose_commit_went_unanswered_is_announced(license_, unanswered):
    heard = []

    def hear(message, **_):
        heard.append(message.status)

    signals.message_sent.connect(hear)
    try:
        send_message(NUMBER, "a")
        drive(license_.pk)
    finally:
        signals.message_sent.disconnect(hear)
    assert heard == [Status.SENT]


def test_a_message_that_an_unanswered_commit_claimed_anew_is_given_back(license_, unanswered, settings):
    settings.KPWA = {**settings.KPWA, "RETRY_SECONDS": 0}
    connected(license_)
    message = send_message(NUMBER, "a")
    locmem.fail_next(NotConnectedError("refused"))
    drive(license_.pk)
    assert unanswered[0].step.next.message_id == message.pk
    assert fresh(message).status == Status.SENT
    assert [attempt.outcome for attempt in message.attempts.all()] == ["not_sent", "not_sent", "accepted"]
    assert fresh(message).attempts_spent == 2


def test_a_gateway_class_that_breaks_when_asked_for_the_status_leaves_the_sends_outcome_recorded(license_, hooks):
    connected(license_)
    message = send_message(NUMBER, "x")
    locmem.fail_next(BadRequestError("no", status_code=400))

    def break_down():
        raise RuntimeError("a bug")

    hooks.on_status = break_down
    drive(license_.pk)
    assert (fresh(message).status, fresh(message).reason) == (Status.QUEUED, "refused")
    assert Lane.objects.get().lease_token is None


# --- people -----------------------------------------------------------------------------------------------------------


def test_a_person_who_pauses_during_a_status_check_that_fails_is_not_overruled(license_, hooks):
    send_message(NUMBER, "x")

    def pause_and_fail():
        store().pause_license(license_.pk, Pause(PauseReason.BY_PERSON, None))
        raise NotConnectedError("refused")

    hooks.on_status = pause_and_fail
    drive(license_.pk)
    assert Lane.objects.get().pause_reason == PauseReason.BY_PERSON


def test_a_status_that_somebody_asked_for_does_not_overrule_a_persons_pause(license_):
    store().pause_license(license_.pk, Pause(PauseReason.BY_PERSON, None))
    license_actions.note_status(license_, ServiceStatus(SessionStatus.QR))
    license_actions.note_status(license_, ServiceStatus(SessionStatus.CONNECTED))
    assert Lane.objects.get().pause_reason == PauseReason.BY_PERSON


class Confirming(logging.Handler):
    """A person who confirms the number as soon as the alert arrives, while the driver holds the lane."""

    def __init__(self, license_):
        super().__init__()
        self.license, self.alerts = license_, []

    def emit(self, record):
        self.alerts.append(record.getMessage())
        assert license_actions.confirm_number(self.license)


@pytest.fixture
def another_phone(license_, monkeypatch):
    """The license has sent from one phone, and now another one is linked."""
    monkeypatch.setattr(locmem, "LINKED_NUMBER", "6280000000000")
    send_message(NUMBER, "first")
    drive(license_.pk)
    monkeypatch.setattr(locmem, "LINKED_NUMBER", "6281222222222")


def test_a_number_confirmed_under_the_drivers_hands_does_not_stop_the_lane_again(license_, another_phone):
    for text in "abcd":
        send_message(NUMBER, text)
    handler = Confirming(license_)
    logger = logging.getLogger("django_kpwa.alerts")
    logger.addHandler(handler)
    try:
        drive(license_.pk)
    finally:
        logger.removeHandler(handler)
    lane = Lane.objects.get()
    assert (len(handler.alerts), lane.pause_reason, lane.confirmed_number) == (1, "", "6281222222222")
    assert [sent.text for sent in locmem.outbox] == ["first", *"abcd"]


def test_a_changed_number_whose_record_went_unanswered_stops_the_lane_and_alerts_once(
    license_, another_phone, unanswered, caplog
):
    for text in "ab":
        send_message(NUMBER, text)
    drive(license_.pk)
    assert unanswered[0].paused
    assert Lane.objects.get().pause_reason == PauseReason.NUMBER_CHANGED
    assert len([record for record in caplog.records if record.name == "django_kpwa.alerts"]) == 1
    assert [sent.text for sent in locmem.outbox] == ["first", "a"]


def test_a_changed_number_goes_before_a_pause_that_ends_by_itself(license_, hooks, another_phone):
    send_message(NUMBER, "a")
    hooks.before_send = lambda _: license_actions.note_status(license_, ServiceStatus(SessionStatus.QR))
    drive(license_.pk)
    license_actions.note_status(license_, ServiceStatus(SessionStatus.CONNECTED))
    assert Lane.objects.get().pause_reason == PauseReason.NUMBER_CHANGED


def test_a_worker_that_lost_its_lease_says_nothing_of_the_number(license_, hooks, another_phone):
    message = send_message(NUMBER, "a")
    hooks.after_send = lambda _: lose_the_lease(license_)
    drive(license_.pk)
    lane = Lane.objects.get()
    assert (fresh(message).status, lane.pause_reason) == (Status.SENT, "")
    assert lane.linked_number == lane.confirmed_number != "6281222222222"


# --- what is rendered, and where it is read ---------------------------------------------------------------------------


def test_each_text_of_a_backlog_is_written_just_before_its_own_send(license_, hooks, monkeypatch):
    happened = []

    def renderer(message):
        label = message.renderer.removeprefix("test/")
        happened.append(f"render {label}")
        return Rendered(label)

    monkeypatch.setattr(render, "render_receipt", renderer)
    sale = Sale.objects.create()
    for label in "abc":
        outbox.send_rendered_later(NUMBER, f"test/{label}", idempotency_key=label, source=sale, license=license_)
    hooks.before_send = lambda text: happened.append(f"send {text}")
    drive(license_.pk)
    assert happened == ["render a", "send a", "render b", "send b", "render c", "send c"]


class ReadsElsewhere:
    """A site with a replica that must not be queried: it lags, and here it does not even exist."""

    def db_for_read(self, model, **hints):
        return "replica"

    def db_for_write(self, model, **hints):
        return "default"


def test_nothing_is_read_from_a_replica(license_, settings):
    settings.DATABASE_ROUTERS = [ReadsElsewhere()]
    ContentType.objects.clear_cache()
    sale = Sale.objects.create()
    message = send_message(NUMBER, "x", source=sale)
    send_messages([Message(NUMBER, "y")])
    assert drive(license_.pk).attempts == 2
    sweep()
    outbox.cancel(message)
    license_actions.note_status(license_, ServiceStatus(SessionStatus.QR))
    assert OutboundMessage.objects.using("default").for_source(sale).get().status == Status.SENT


def test_what_is_read_through_an_instance_is_not_read_from_a_replica(license_, settings):
    drive(license_.pk)
    stored = send_message(NUMBER, "x").pk
    settings.DATABASE_ROUTERS = [ReadsElsewhere()]
    message = OutboundMessage.objects.get(pk=stored)
    assert message.license.lane.license_id == license_.pk
    OutboundMessage.objects.filter(pk=stored).update(text="y")
    message.refresh_from_db()
    assert message.text == "y"


def test_a_groups_name_that_no_database_takes_is_refused(license_):
    with pytest.raises(InvalidMessageError, match="NUL"):
        send_group_message("Dapur\x00", "halo")
