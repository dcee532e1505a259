"""The whole way back over real sockets: the sandbox's phone posts to this site, which updates its outbox."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.db.models import F, Q
from django.utils import timezone

from django_kpwa import license_actions
from django_kpwa.dispatch import drive
from django_kpwa.models import (
    DatabaseNow,
    EventKind,
    EventStatus,
    Lane,
    OutboundMessage,
    SendAttempt,
    Status,
    WebhookEvent,
    WebhookToken,
)
from django_kpwa.outbox import send_message
from django_kpwa.webhooks import process_due_events, process_event
from tests.processes import wait_until
from tests.sandbox import SandboxProcess

pytestmark = pytest.mark.django_db(transaction=True)

CUSTOMER = "6281234567890"


@pytest.fixture(scope="module")
def sandbox():
    with SandboxProcess("--linked") as process:
        yield process


@pytest.fixture
def linked(sandbox, license_, live_server, settings):
    """The license, with the sandbox as its gateway and its webhook registered."""
    settings.KPWA = {
        **settings.KPWA,
        "GATEWAY": "django_kpwa.gateway.http.HttpGateway",
        "PUBLIC_URL": live_server.url,
    }
    license_.base_url = sandbox.base_url
    license_.set_api_key(sandbox.key)
    license_.save()
    license_actions.set_webhook(license_)
    yield license_
    sandbox.reset()
    sandbox.clear_faults()


def process_until(condition, what):
    until = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < until, f"Waited in vain for {what}."
        WebhookEvent.objects.filter(status=EventStatus.UNMATCHED).update(next_try_at=DatabaseNow())
        process_due_events()
        time.sleep(0.05)


def status_of(message):
    return OutboundMessage.objects.get(pk=message.pk).status


def test_ticks_and_the_customers_answer_come_back(sandbox, linked):
    message = send_message(CUSTOMER, "Struk Anda")
    drive(linked.pk)
    process_until(lambda: status_of(message) == Status.DELIVERED, "the delivered tick")
    sandbox.read(chat=CUSTOMER)
    process_until(lambda: status_of(message) == Status.READ, "the read tick")
    sandbox.answer("terima kasih", chat=CUSTOMER)
    incoming = WebhookEvent.objects.filter(kind=EventKind.INCOMING)
    process_until(incoming.exists, "the answer")
    understood = incoming.get().understood
    assert (understood["text"], understood["sender"], understood["sender_is_certain"]) == (
        "terima kasih",
        CUSTOMER,
        True,
    )
    assert WebhookToken.objects.get().first_used_at is not None


def test_repeated_and_disordered_webhooks_leave_a_message_where_it_got_to(sandbox, linked):
    with sandbox.having_faults(webhook_repeated=1.0, webhook_out_of_order={"probability": 0.5, "amount": 0.3}):
        message = send_message(CUSTOMER, "Struk Anda")
        drive(linked.pk)
        sandbox.read(chat=CUSTOMER)
        process_until(lambda: status_of(message) == Status.READ, "the read tick")
        process_until(lambda: WebhookEvent.objects.filter(times_received__gt=1).exists(), "a repeat")
    assert status_of(message) == Status.READ


def test_an_answer_in_a_group_names_the_group_and_its_member(sandbox, linked):
    sandbox.add_group("Dapur")
    sandbox.answer("siap", group="Dapur", sender=CUSTOMER)
    process_until(WebhookEvent.objects.filter(kind=EventKind.INCOMING).exists, "the answer")
    understood = WebhookEvent.objects.get().understood
    assert (understood["is_group"], understood["group"], understood["sender"]) == (True, "Dapur", CUSTOMER)


def test_what_is_reported_as_not_delivered_and_gets_there_ends_delivered(sandbox, linked):
    with sandbox.having_faults(undelivered_wrongly={"count": 1, "amount": 1}):
        message = send_message(CUSTOMER, "Struk Anda")
        drive(linked.pk)
        undelivered = OutboundMessage.objects.undelivered().filter(pk=message.pk)
        # Process this event alone: on a busy machine, the other one may also have arrived by now.
        negative = wait_until(WebhookEvent.objects.order_by("pk").first, what="the negative tick")
        process_event(negative.pk)
        assert undelivered.get().undelivered_words == "The message could not be delivered."
        process_until(lambda: status_of(message) == Status.DELIVERED, "the delivered tick")
    assert not undelivered.exists()


@pytest.mark.parametrize(
    ("fault", "is_reported"), [("undelivered", True), ("restricted_tick", True), ("no_ticks", False)]
)
def test_what_gets_to_no_phone_stays_sent(sandbox, linked, fault, is_reported):
    with sandbox.having_faults(**{fault: {"count": 1, "amount": 1}}):
        message = send_message(CUSTOMER, "Struk Anda")
        drive(linked.pk)
        other = send_message(CUSTOMER, "Struk lain")
        drive(linked.pk)
        process_until(lambda: status_of(other) == Status.DELIVERED, "the tick of the next")
    assert status_of(message) == Status.SENT
    assert OutboundMessage.objects.get(pk=message.pk).is_undelivered is is_reported


@pytest.mark.parametrize("fault", ["restricted_400", "restricted_500", "restricted_tick"])
def test_a_number_that_is_restricted_at_its_twelfth_new_customer_tries_no_other_and_known_ones_get_theirs(
    sandbox, linked, fault
):
    sandbox.answer("Halo", chat=CUSTOMER)
    process_until(WebhookEvent.objects.filter(kind=EventKind.INCOMING).exists, "the customer's message")
    with sandbox.having_faults(**{fault: {"amount": 12}}):
        messages = [send_and_hear(linked, f"62812000000{n:02}") for n in range(16)]
        assert send_and_hear(linked, CUSTOMER).status == Status.DELIVERED
        lane = Lane.objects.get()
        assert (lane.restriction_step, lane.pause_reason) == (1, "")
        assert [message.status for message in messages[:11]] == [Status.DELIVERED] * 11
        assert [message.attempts_made for message in messages] == [1] * 12 + [0] * 4
        assert {message.reason for message in messages[12:]} == {"restricted"}
        assert not OutboundMessage.objects.filter(in_doubt=True).exists()
    # The restriction is over, and the next attempt shows it.
    a_day_passes()
    drive(linked.pk)
    assert not OutboundMessage.objects.filter(status=Status.QUEUED).exists()
    assert Lane.objects.get().restricted_until is None
    recipients = [delivery["recipient"] for delivery in sandbox.ledger()]
    assert sorted(recipients) == sorted({*recipients}), "nobody received two messages"
    assert len(recipients) == 17


@pytest.mark.parametrize(
    ("fault", "status"), [("cold_refused_400", Status.FAILED), ("cold_failed_500", Status.UNKNOWN)]
)
def test_a_restriction_that_nobody_speaks_of_costs_three_new_customers(sandbox, linked, fault, status):
    sandbox.answer("Halo", chat=CUSTOMER)
    process_until(WebhookEvent.objects.filter(kind=EventKind.INCOMING).exists, "the customer's message")
    with sandbox.having_faults(**{fault: {"amount": 3}}):
        messages = []
        for n in range(8):
            messages.append(send_and_hear(linked, f"62812000000{n:02}"))
            assert send_and_hear(linked, CUSTOMER).status == Status.DELIVERED
        assert [message.status for message in messages] == [Status.DELIVERED] * 2 + [status] * 3 + [Status.QUEUED] * 3
        a_day_passes()
        tried = send_and_hear(linked, f"62812000000{8:02}")
        lane = Lane.objects.get()
        assert (lane.restriction_step, lane.pause_reason) == (2, "")
        assert OutboundMessage.objects.exclude(attempts_made=0).filter(status=status).count() == 4
        assert (tried.status, tried.attempts_made) == (Status.QUEUED, 0)
    a_day_passes()
    drive(linked.pk)
    assert not OutboundMessage.objects.filter(status=Status.QUEUED).exists()
    assert Lane.objects.get().restricted_until is None
    assert [entry["recipient"] for entry in sandbox.ledger()].count(CUSTOMER) == 8


def a_day_passes():
    """Pretend that the time has come for which messages to new customers wait."""
    past = timezone.now() - timedelta(seconds=1)
    Lane.objects.update(restricted_until=past, next_send_at=None)
    OutboundMessage.objects.filter(status=Status.QUEUED).update(due_at=past)
    SendAttempt.objects.update(started_at=F("started_at") - timedelta(days=1))


def send_and_hear(license_, number):
    """Send a message and process what the gateway reports about it, unless the message waits."""
    message = send_message(number, "Struk", license=license_)
    drive(license_.pk)
    heard = OutboundMessage.objects.filter(pk=message.pk).filter(
        ~Q(status__in=(Status.SENDING, Status.SENT)) | Q(undelivered_at__isnull=False)
    )
    process_until(heard.exists, "what became of the message")
    return heard.get()
