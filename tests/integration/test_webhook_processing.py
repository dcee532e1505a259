"""What stored events do: they move messages of their own license forward, and notify the site once."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import OperationalError, connection, connections
from django.utils import timezone

from django_kpwa import signals
from django_kpwa.dispatch import drive
from django_kpwa.exceptions import GatewayTimeoutError
from django_kpwa.gateway import locmem
from django_kpwa.models import (
    EventKind,
    EventStatus,
    Lane,
    License,
    OutboundMessage,
    SendAttempt,
    Status,
    WebhookEvent,
)
from django_kpwa.outbox import resend, send_group_message, send_message
from django_kpwa.store import store
from django_kpwa.webhooks import ParsedEvent, Parser, process_due_events, process_event, reprocess
from django_kpwa.webhooks.arrivals import store_event
from django_kpwa.webhooks.matching import MAX_CANDIDATES

pytestmark = pytest.mark.django_db

NUMBER = "6281234567890"
ALL_SIGNALS = [
    "webhook_received", "message_received", "message_sent", "message_delivered", "message_read",
    "message_failed", "message_unknown", "message_undelivered", "license_status_changed",
]  # fmt: skip


@contextmanager
def listening():
    """Collect the signals that are sent, in order: the name and the arguments of each."""
    heard = []
    receivers = []
    for name in ALL_SIGNALS:

        def receiver(sender, signal, name=name, **arguments):
            heard.append((name, arguments))

        getattr(signals, name).connect(receiver, weak=False)
        receivers.append((getattr(signals, name), receiver))
    try:
        yield heard
    finally:
        for signal, receiver in receivers:
            signal.disconnect(receiver)


def event_of(license_, payload):
    event_id = store_event(license_.pk, json.dumps(payload).encode(), "application/json")
    return WebhookEvent.objects.get(pk=event_id)


def processed(license_, payload):
    event = event_of(license_, payload)
    assert process_event(event.pk)
    event.refresh_from_db()
    return event


def fresh(message):
    return OutboundMessage.objects.get(pk=message.pk)


def sent_message(license_, text="struk"):
    message = send_message(NUMBER, text, license=license_)
    drive(license_.pk)
    message = fresh(message)
    assert message.status == Status.SENT
    return message, message.attempts.get().gateway_id


def in_doubt_message(license_, hooks, text="struk", send=send_message, to=NUMBER):
    def time_out(_):
        raise GatewayTimeoutError("no answer in time")

    hooks.after_send = time_out
    message = send(to, text, license=license_)
    drive(license_.pk)
    hooks.after_send = None
    message = fresh(message)
    assert message.status == Status.UNKNOWN
    return message


def age(event, minutes):
    WebhookEvent.objects.filter(pk=event.pk).update(received_at=timezone.now() - timedelta(minutes=minutes))


def make_due(event):
    WebhookEvent.objects.filter(pk=event.pk).update(next_try_at=timezone.now() - timedelta(seconds=1))


def other_license():
    row = License(name="Toko Kedua")
    row.set_api_key("test-api-key-0002")
    row.save()
    return row


# --- states


def test_a_message_moves_from_sent_to_delivered_to_read(license_):
    message, gateway_id = sent_message(license_)
    with listening() as heard:
        event = processed(license_, {"id": gateway_id, "status": "Delivered"})
        assert (fresh(message).status, event.status, event.message_id) == (Status.DELIVERED, "processed", message.pk)
        processed(license_, {"id": gateway_id, "status": "Read"})
    message = fresh(message)
    assert message.status == Status.READ
    assert message.sent_at <= message.delivered_at <= message.read_at
    assert [name for name, _ in heard] == ["message_delivered", "webhook_received", "message_read", "webhook_received"]
    assert heard[0][1]["message"].status == Status.DELIVERED
    assert (heard[0][1]["event"], heard[1][1]["event"]) == (event, event)
    assert (event.kind, event.gateway_id, event.understood["state"]) == (EventKind.STATE, gateway_id, "delivered")
    assert (event.processed_at is not None, event.next_try_at) == (True, None)


@pytest.mark.django_db(transaction=True)  # inside a transaction, a savepoint adds two statements
def test_where_nobody_listens_a_tick_of_an_accepted_message_takes_six_statements(
    license_, django_assert_max_num_queries
):
    processed(license_, {"id": sent_message(license_)[1], "status": "Delivered"})  # this PREPAREs what can be prepared
    message, gateway_id = sent_message(license_)
    event = event_of(license_, {"id": gateway_id, "status": "Delivered"})
    with django_assert_max_num_queries(6):
        process_event(event.pk)
    event.refresh_from_db()
    assert (fresh(message).status, event.status, event.message_id) == (Status.DELIVERED, "processed", message.pk)
    assert (event.processed_at is not None, event.next_try_at) == (True, None)


def test_a_message_never_moves_back(license_):
    message, gateway_id = sent_message(license_)
    processed(license_, {"id": gateway_id, "ack": 3})
    with listening() as heard:
        for number, word in enumerate(["Delivered", "Sent", "Pending", "Failed", "PLAYED"]):
            processed(license_, {"id": gateway_id, "status": word, "timestamp": number})
    assert fresh(message).status == Status.READ
    assert {name for name, _ in heard} == {"webhook_received"}


def test_a_failed_state_is_recorded_and_moves_nothing(license_):
    message, gateway_id = sent_message(license_)
    event = processed(license_, {"id": gateway_id, "status": "Failed"})
    assert (fresh(message).status, event.status, event.message_id) == (Status.SENT, "processed", message.pk)


def test_an_event_moves_messages_of_its_own_license_alone(license_):
    message, gateway_id = sent_message(license_)
    event = processed(other_license(), {"id": gateway_id, "status": "Read"})
    assert (fresh(message).status, event.status, event.message_id) == (Status.SENT, "unmatched", None)


def test_an_id_that_differs_in_case_is_another(license_):
    message, _ = sent_message(license_)
    SendAttempt.objects.update(gateway_id="AbC1")
    assert processed(license_, {"id": "aBc1", "status": "Read"}).status == "unmatched"
    assert processed(license_, {"id": "AbC1", "status": "Read"}).status == "processed"
    assert fresh(message).status == Status.READ


def test_an_id_that_two_messages_have_moves_neither(license_):
    first, _ = sent_message(license_, "satu")
    second, _ = sent_message(license_, "dua")
    SendAttempt.objects.update(gateway_id="1")
    assert processed(license_, {"id": "1", "status": "Read"}).status == "unmatched"
    assert (fresh(first).status, fresh(second).status) == (Status.SENT, Status.SENT)


def test_a_state_that_overtakes_the_sends_own_answer_is_matched_later(license_, hooks):
    early = []

    def gateway_posts_first(text):
        early.append(processed(license_, {"id": locmem.outbox[-1].id, "status": "Delivered"}))

    hooks.after_send = gateway_posts_first
    message = send_message(NUMBER, "struk", license=license_)
    drive(license_.pk)
    (event,) = early
    assert (event.status, fresh(message).status) == ("unmatched", Status.SENT)
    assert event.next_try_at > timezone.now()
    assert process_due_events() == 0, "the event is not due yet"
    make_due(event)
    with listening() as heard:
        assert process_due_events() == 1
    event.refresh_from_db()
    assert (event.status, event.next_try_at, fresh(message).status) == ("processed", None, Status.DELIVERED)
    assert [name for name, _ in heard] == ["message_delivered"]


def test_an_event_without_its_message_is_tried_for_an_hour(license_):
    event = processed(license_, {"id": "nobody's", "status": "Read"})
    waits = []
    for minutes in (1, 5, 30, 59):
        age(event, minutes)
        make_due(event)
        assert process_event(event.pk)
        event.refresh_from_db()
        assert event.status == "unmatched"
        waits.append((event.next_try_at - timezone.now()).total_seconds())
    assert waits == sorted(waits)
    assert waits[-1] <= 300
    age(event, 61)
    make_due(event)
    assert process_event(event.pk)
    event.refresh_from_db()
    assert (event.status, event.next_try_at) == ("unmatched", None)


def test_a_state_for_a_message_that_is_being_sent_again_waits_for_that(license_, hooks):
    message = in_doubt_message(license_, hooks)
    SendAttempt.objects.update(gateway_id="first")
    resend(message)
    early = []
    hooks.before_send = lambda _: early.append(processed(license_, {"id": "first", "status": "Delivered"}))
    drive(license_.pk)
    message = fresh(message)
    assert (message.status, message.proven_at is not None) == (Status.SENT, True)
    assert early[0].status == "unmatched"
    make_due(early[0])
    process_due_events()
    assert fresh(message).status == Status.DELIVERED


# --- the site's own messages coming back


def own(text="struk", **fields):
    return {"isFromMe": True, "phone": NUMBER, "message": text, **fields}


def test_the_shops_own_message_coming_back_proves_that_one_in_doubt_was_sent(license_, hooks):
    message = in_doubt_message(license_, hooks)
    with listening() as heard:
        event = processed(license_, own(id="W1"))
    message = fresh(message)
    assert (message.status, message.in_doubt, event.status) == (Status.SENT, False, "processed")
    attempt = message.attempts.get()
    assert (attempt.outcome, attempt.gateway_id) == ("accepted", "W1")
    assert [name for name, _ in heard] == ["message_sent", "webhook_received"]
    processed(license_, {"id": "W1", "ack": 3})
    assert fresh(message).status == Status.READ


def test_a_state_with_the_own_messages_text_proves_and_moves_at_once(license_, hooks):
    message = in_doubt_message(license_, hooks)
    with listening() as heard:
        processed(license_, own(id="W1", ack=2))
    assert fresh(message).status == Status.DELIVERED
    assert [name for name, _ in heard] == ["message_sent", "message_delivered", "webhook_received"]


def test_proof_withdraws_a_resend_that_waits(license_, hooks):
    message = in_doubt_message(license_, hooks)
    resend(message)
    processed(license_, own(id="W1"))
    assert fresh(message).status == Status.SENT
    assert drive(license_.pk).attempts == 0


def test_proof_during_a_send_is_recorded_with_it_and_its_id_is_learnt(license_, hooks):
    def comes_back_then_breaks(text):
        processed(license_, own(text, id="W1"))
        raise GatewayTimeoutError("no answer in time")

    hooks.after_send = comes_back_then_breaks
    message = send_message(NUMBER, "struk", license=license_)
    drive(license_.pk)
    assert fresh(message).status == Status.SENT
    processed(license_, {"id": "W1", "status": "Read"})
    assert fresh(message).status == Status.READ


def test_two_messages_that_both_fit_are_left_in_doubt(license_, hooks):
    first = in_doubt_message(license_, hooks)
    second = in_doubt_message(license_, hooks)
    event = processed(license_, own(id="W1"))
    assert (fresh(first).status, fresh(second).status, event.status) == (Status.UNKNOWN, Status.UNKNOWN, "unmatched")


def test_an_accepted_message_of_the_same_text_competes_until_its_own_echo_came(license_, hooks):
    accepted, gateway_id = sent_message(license_)
    doubtful = in_doubt_message(license_, hooks)
    assert processed(license_, own(id="W1")).status == "unmatched"
    assert fresh(doubtful).status == Status.UNKNOWN
    processed(license_, own(id=gateway_id))
    assert processed(license_, own(id="W2")).message_id == doubtful.pk
    assert (fresh(accepted).status, fresh(doubtful).status) == (Status.SENT, Status.SENT)


def test_an_accepted_message_of_the_same_text_competes_for_a_day_at_most(license_, hooks):
    sent_message(license_)
    SendAttempt.objects.update(started_at=timezone.now() - timedelta(hours=25))
    doubtful = in_doubt_message(license_, hooks)
    processed(license_, own(id="W1"))
    assert fresh(doubtful).status == Status.SENT


def test_a_recipient_that_differs_in_case_alone_is_another(license_, hooks):
    message = in_doubt_message(license_, hooks, send=send_group_message, to="Dapur")
    event = processed(license_, {"isFromMe": True, "from": "1@g.us", "group": "dapur", "message": "struk", "id": "W1"})
    assert (event.status, fresh(message).status) == ("unmatched", Status.UNKNOWN)


@pytest.mark.parametrize(
    "payload",
    [own("lain", id="W1"), own(id="W1") | {"phone": "6281299999999"}, own("STRUK", id="W1"), own("", id="W1", ack=1)],
)
def test_what_does_not_fit_proves_nothing(license_, hooks, payload):
    message = in_doubt_message(license_, hooks)
    assert processed(license_, payload).status == "unmatched"
    assert fresh(message).status == Status.UNKNOWN


def test_an_echo_from_before_the_attempt_proves_nothing(license_, hooks):
    event = event_of(license_, own(id="W1"))
    age(event, 5)
    message = in_doubt_message(license_, hooks)
    assert process_event(event.pk)
    assert fresh(message).status == Status.UNKNOWN


def test_an_echo_proves_nothing_about_another_license(license_, hooks):
    message = in_doubt_message(license_, hooks)
    assert processed(other_license(), own(id="W1")).status == "unmatched"
    assert fresh(message).status == Status.UNKNOWN


def test_a_groups_message_coming_back_is_matched_by_the_groups_name(license_, hooks):
    message = in_doubt_message(license_, hooks, send=send_group_message, to="Dapur")
    processed(license_, {"isFromMe": True, "from": "1@g.us", "group": "Dapur", "message": "struk", "id": "W2"})
    assert fresh(message).status == Status.SENT


def test_an_echo_that_comes_again_moves_no_other_message_of_the_same_text(license_, hooks):
    first = in_doubt_message(license_, hooks)
    assert processed(license_, own(id="W1")).message_id == first.pk
    SendAttempt.objects.update(gateway_id="A1")  # as if the gateway's answer had named it
    second = in_doubt_message(license_, hooks)
    for again in ({"event": "message.any"}, {"retry": 2}, {"timestamp": 4000000000}):
        assert processed(license_, own(id="W1") | again).message_id == first.pk
    assert fresh(second).status == Status.UNKNOWN
    assert processed(license_, own(id="W2")).message_id == second.pk


def test_an_echo_is_remembered_whichever_part_of_an_event_it_was(license_, hooks):
    first = in_doubt_message(license_, hooks)
    processed(license_, [{"from": NUMBER, "message": "halo", "id": "C1"}, own(id="W1")])
    assert fresh(first).status == Status.SENT
    SendAttempt.objects.update(gateway_id="A1")
    second = in_doubt_message(license_, hooks)
    assert processed(license_, own(id="W1")).message_id == first.pk
    assert fresh(second).status == Status.UNKNOWN


def test_an_id_that_two_messages_have_is_never_matched_by_its_text_instead(license_, hooks):
    for text in ("satu", "dua"):
        sent_message(license_, text)
    SendAttempt.objects.update(gateway_id="1")
    doubtful = in_doubt_message(license_, hooks)
    assert processed(license_, own(id="1")).status == "unmatched"
    assert fresh(doubtful).status == Status.UNKNOWN


@pytest.mark.parametrize("seconds", [-3600, -60])
@pytest.mark.parametrize("write", [lambda at: int(at.timestamp()), lambda at: int(at.timestamp() * 1000), str])
def test_an_echo_that_left_before_the_attempt_by_the_gateways_own_time_proves_nothing(license_, hooks, seconds, write):
    message = in_doubt_message(license_, hooks)
    left_at = timezone.now() + timedelta(seconds=seconds)
    assert processed(license_, own(id="W1", timestamp=write(left_at))).status == "unmatched"
    assert fresh(message).status == Status.UNKNOWN
    assert processed(license_, own(id="W2", timestamp=write(timezone.now()))).message_id == message.pk


def test_where_more_messages_may_be_meant_than_are_looked_at_none_is(license_, hooks):
    other = SendAttempt.objects.get(message=in_doubt_message(license_, hooks, "lain"))
    numbers = range(2, MAX_CANDIDATES + 1)
    SendAttempt.objects.bulk_create(
        SendAttempt(message=other.message, number=number, started_at=other.started_at, outcome=other.outcome)
        for number in numbers
    )
    message = in_doubt_message(license_, hooks)
    assert processed(license_, own(id="W1")).status == "unmatched"
    assert fresh(message).status == Status.UNKNOWN


@pytest.mark.parametrize("names", [{"keyId": "W9", "messageId": "ID"}, {"messageId": "ID", "inboxid": "77"}])
def test_each_id_of_a_state_is_tried(license_, names):
    message, gateway_id = sent_message(license_)
    named = {name: gateway_id if value == "ID" else value for name, value in names.items()}
    assert processed(license_, {"event": "messages.update", "data": {**named, "status": "READ"}}).status == "processed"
    assert fresh(message).status == Status.READ


def test_one_receipt_moves_every_message_that_it_names(license_):
    sent = [sent_message(license_, f"struk {number}") for number in range(5)]
    with listening() as heard:
        event = processed(
            license_, {"event": "message.ack", "payload": {"ids": [id_ for _, id_ in sent], "receipt_type": "read"}}
        )
    assert [fresh(message).status for message, _ in sent] == [Status.READ] * 5
    assert [name for name, _ in heard] == ["message_read"] * 5 + ["webhook_received"]
    assert event.status == "processed"


def test_of_several_states_in_one_payload_the_farthest_is_the_messages(license_):
    message, gateway_id = sent_message(license_)
    with listening() as heard:
        processed(license_, [{"id": gateway_id, "ack": number} for number in (1, 3, 2)])
    assert fresh(message).status == Status.READ
    assert [name for name, _ in heard] == ["message_read", "webhook_received"]


# --- customers, sessions, and events that nobody understands


ENVELOPES = [{"event": "message"}, {"event": "message.any"}, {"event": "message", "retry": 2, "timestamp": 1764200000}]


def test_a_message_that_comes_in_another_envelope_is_told_once(license_):
    with listening() as heard:
        events = [
            processed(license_, {**envelope, "data": {"id": "C1", "from": NUMBER, "message": "ok"}})
            for envelope in ENVELOPES
        ]
        assert not any(process_event(event.pk) for event in events)
        assert reprocess(events[2])
    for event in events:
        event.refresh_from_db()
    assert "already delivered" in events[2].understood["notes"], "the note stays after reprocessing"
    assert [name for name, _ in heard].count("message_received") == 1
    assert [name for name, _ in heard].count("webhook_received") == 3
    assert {event.status for event in events} == {"processed"}
    assert "already delivered" in events[1].understood["notes"]
    assert [event.sender_number for event in events] == [NUMBER, "", ""]


@pytest.mark.parametrize(
    "other",
    [
        {"id": "C2", "from": NUMBER, "message": "ok"},
        {"id": "C1", "from": "6281299999999", "message": "ok"},
        {"id": "C1", "from": NUMBER, "message": "ok lagi"},
        {"id": "0", "from": NUMBER, "message": "ok"},
    ],
)
def test_another_message_is_told_whatever_its_gateway_calls_it(license_, other):
    """A gateway that gives one id to everything must not silence its customers."""
    with listening() as heard:
        processed(license_, {"id": "C1" if other["id"] != "0" else "0", "from": NUMBER, "message": "ok"})
        processed(license_, other | {"event": "message"})
    assert [name for name, _ in heard].count("message_received") == 2


def test_the_same_id_of_another_license_is_another_message(license_):
    with listening() as heard:
        for each in (license_, other_license()):
            processed(each, {"id": "C1", "from": NUMBER, "message": "ok"})
    assert [name for name, _ in heard].count("message_received") == 2


@pytest.mark.django_db(transaction=True)
def test_a_message_in_many_envelopes_at_once_is_told_once(license_):
    events = [
        event_of(license_, {"n": number, "data": {"id": "C1", "from": NUMBER, "message": "ok"}}) for number in range(8)
    ]

    def work(event):
        try:
            for _ in range(20):
                try:
                    return process_event(event.pk)
                except OperationalError:  # MySQL aborts some of many that claim one id at once
                    make_due(event)
        finally:
            connections.close_all()

    with listening() as heard, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, events)) == [True] * 8
    assert [name for name, _ in heard].count("message_received") == 1


def test_a_customers_message_whose_worker_was_lost_is_told_by_the_next(license_):
    event = event_of(license_, {"id": "C1", "from": NUMBER, "message": "halo"})
    heard = []

    def dies_once(sender, incoming, **arguments):
        heard.append(incoming.text)
        if len(heard) == 1:
            raise CutOff

    signals.message_received.connect(dies_once)
    try:
        with pytest.raises(CutOff):
            process_event(event.pk)
        processed(license_, {"event": "again", "data": {"id": "C1", "from": NUMBER, "message": "halo"}})
        make_due(event)
        assert process_event(event.pk)
    finally:
        signals.message_received.disconnect(dies_once)
    assert heard == ["halo", "halo"]


def test_what_became_of_a_customers_own_message_is_not_looked_for(license_):
    event = processed(
        license_, {"event": "message.ack", "payload": {"id": "C1", "fromMe": False, "from": NUMBER, "ack": 3}}
    )
    assert (event.kind, event.status, event.next_try_at) == ("state", "processed", None)


def test_a_customers_answer_is_told_once(license_):
    with listening() as heard:
        event = processed(license_, {"id": "C1", "from": NUMBER, "message": "terima kasih 🙏"})
        assert not process_event(event.pk)
        assert reprocess(event)
    assert [name for name, _ in heard] == ["webhook_received", "message_received"]
    incoming = heard[1][1]["incoming"]
    assert (incoming.sender, incoming.text, heard[1][1]["event"]) == (NUMBER, "terima kasih 🙏", event)
    assert (event.status, event.kind, event.understood["text"]) == ("processed", "incoming", "terima kasih 🙏")


def test_the_licenses_own_number_decides_who_the_sender_is(license_):
    Lane.objects.create(license=license_, linked_number="6281100000001")
    event = processed(license_, {"sender": "6281100000001", "phone": NUMBER, "message": "halo"})
    assert (event.kind, event.understood["sender"]) == ("incoming", NUMBER)
    event = processed(license_, {"from": "6281100000001", "to": NUMBER, "message": "halo", "id": "W9"})
    assert event.kind == "own"


def test_an_event_about_the_session_is_recorded_and_changes_nothing(license_):
    Lane.objects.create(license=license_, session_status="connected")
    with listening() as heard:
        event = processed(license_, {"device": "6281100000001", "status": "disconnected"})
    assert (event.kind, event.status, event.understood["session_status"]) == ("session", "processed", "disconnected")
    assert Lane.objects.get().session_status == "connected"
    assert [name for name, _ in heard] == ["webhook_received"]


@pytest.mark.parametrize("body", [b"", b"\x00\xff", b"[" * 100_000, b'{"a": 1}', b"%PDF-1.4"])
def test_what_nobody_understands_is_kept(license_, body):
    event = WebhookEvent.objects.get(pk=store_event(license_.pk, body, "application/x-\x00odd\ud800"))
    assert process_event(event.pk)
    event.refresh_from_db()
    assert (event.status, event.kind, event.next_try_at, bytes(event.body)) == ("unrecognised", "", None, body)


def test_what_databases_refuse_is_stored_in_a_form_they_take(license_):
    event = processed(license_, {"id": "a\x00b", "from": NUMBER, "message": "x\ud800y\x00z"})
    assert (event.gateway_id, event.understood["text"]) == ("a\ufffdb", "x\ufffdy\ufffdz")


def test_each_part_of_a_payload_is_acted_on(license_):
    first, first_id = sent_message(license_, "satu")
    second, second_id = sent_message(license_, "dua")
    with listening() as heard:
        event = processed(
            license_, [{"id": first_id, "ack": 2}, {"id": second_id, "ack": 3}, {"from": NUMBER, "message": "ok"}]
        )
    assert (fresh(first).status, fresh(second).status) == (Status.DELIVERED, Status.READ)
    assert [name for name, _ in heard] == ["message_delivered", "message_read", "webhook_received", "message_received"]
    assert [part["kind"] for part in event.understood["more"]] == ["state", "incoming"]


# --- parsers of the site


class HalfKnowing(Parser):
    """Understands the word in `KNOWS` alone. Tests change what it understands by setting it."""

    KNOWS = b"halo"

    def parse(self, body, content_type, *, linked_number):
        if body == b"raise":
            raise ValueError(f"cannot read {NUMBER}")
        if body == b"nonsense":
            return [{"kind": "incoming"}]
        if body == b"none":
            return None
        if body == b"recurse":
            return self.parse(body, content_type, linked_number=linked_number)
        return [ParsedEvent(EventKind.INCOMING, sender=NUMBER, text="halo")] if body == self.KNOWS else []


@pytest.fixture
def half_knowing(settings):
    settings.KPWA = {**settings.KPWA, "WEBHOOK_PARSER": f"{__name__}.HalfKnowing"}


@pytest.mark.parametrize("body", [b"raise", b"nonsense", b"none", b"recurse"])
def test_a_parser_that_fails_leaves_the_event_with_its_error(license_, half_knowing, body, settings, caplog):
    event = WebhookEvent.objects.get(pk=store_event(license_.pk, body, ""))
    assert process_event(event.pk)
    event.refresh_from_db()
    assert (event.status, event.next_try_at, event.processed_at) == ("failed", None, None)
    assert "Error" in event.error
    assert NUMBER not in event.error + caplog.text
    settings.KPWA = {**settings.KPWA, "WEBHOOK_PARSER": "django_kpwa.webhooks.parsers.DefaultParser"}
    assert reprocess(event)
    event.refresh_from_db()
    assert (event.status, event.error) == ("unrecognised", "")


@pytest.mark.parametrize("path", ["nothing.there", "django_kpwa.webhooks.parsers.ParsedEvent"])
def test_a_parser_that_is_none_is_shown_on_the_event(license_, settings, path):
    settings.KPWA = {**settings.KPWA, "WEBHOOK_PARSER": path}
    event = processed(license_, {"from": NUMBER, "message": "x"})
    assert event.status == "failed"
    assert path in event.error


def test_an_event_that_was_not_understood_is_told_anew_once_it_is(license_, half_knowing, monkeypatch):
    event = WebhookEvent.objects.get(pk=store_event(license_.pk, b"hai", ""))
    process_event(event.pk)
    monkeypatch.setattr(HalfKnowing, "KNOWS", b"hai")
    with listening() as heard:
        assert reprocess(event)
        assert reprocess(event)
    assert [name for name, _ in heard] == ["webhook_received", "message_received"]
    event.refresh_from_db()
    assert (event.status, event.kind) == ("processed", "incoming")


def test_reprocessing_finds_a_message_that_is_there_by_now(license_):
    event = processed(license_, {"id": "late", "status": "Read"})
    age(event, 120)
    message, _ = sent_message(license_)
    SendAttempt.objects.update(gateway_id="late")
    with listening() as heard:
        assert reprocess(event)
    assert fresh(message).status == Status.READ
    assert [name for name, _ in heard] == ["message_read"]


# --- workers


@pytest.mark.django_db(transaction=True)
def test_an_event_is_processed_by_one_of_many_workers(license_):
    event = event_of(license_, {"id": "C1", "from": NUMBER, "message": "halo"})

    def work(_):
        try:
            return process_event(event.pk)
        finally:
            connections.close_all()

    with listening() as heard, ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(work, range(16))) == [False] * 15 + [True]
    assert [name for name, _ in heard] == ["webhook_received", "message_received"]


@pytest.mark.skipif(connection.vendor == "postgresql", reason="it has a statement of its own, which no claim deadlocks")
@pytest.mark.django_db(transaction=True)
def test_a_record_that_mysql_ends_as_deadlocked_is_written_again_and_told(license_):
    event = event_of(license_, {"id": "C1", "from": NUMBER, "message": "halo"})
    ended = []

    def end_once(execute, sql, *arguments):
        if sql.startswith("UPDATE") and "processed_at" in sql.partition("WHERE")[0] and not ended:
            ended.append(sql)
            raise OperationalError(1213, "Deadlock found when trying to get lock; try restarting transaction")
        return execute(sql, *arguments)

    with listening() as heard, connection.execute_wrapper(end_once):
        assert process_event(event.pk)
    assert ended
    event.refresh_from_db()
    assert event.processed_at is not None
    assert [name for name, _ in heard] == ["webhook_received", "message_received"]


class Slow(Parser):
    """Returns so late that another worker has taken over and finished."""

    def parse(self, body, content_type, *, linked_number):
        event = WebhookEvent.objects.get()
        if event.tries == 1:
            make_due(event)
            assert process_event(event.pk)
        return [ParsedEvent(EventKind.INCOMING, sender=NUMBER, text=f"read by worker {event.tries}")]


def test_a_worker_that_was_too_slow_records_and_tells_nothing(license_, settings):
    settings.KPWA = {**settings.KPWA, "WEBHOOK_PARSER": f"{__name__}.Slow"}
    event = event_of(license_, {})
    with listening() as heard:
        assert not process_event(event.pk)
    event.refresh_from_db()
    assert event.understood["text"] == "read by worker 2"
    assert [name for name, _ in heard] == ["webhook_received", "message_received"]


class CutOff(BaseException):
    """A worker that dies. Nothing catches this exception."""


def test_a_worker_lost_in_the_middle_is_made_good_by_the_beat(license_, monkeypatch):
    message, gateway_id = sent_message(license_)
    event = event_of(license_, {"id": gateway_id, "status": "Read"})
    with monkeypatch.context() as patched:
        patched.setattr(type(store()), "record_event", cut_off)
        with pytest.raises(CutOff):
            process_event(event.pk)
    assert fresh(message).status == Status.READ
    assert not process_event(event.pk), "the lost worker keeps the event for a minute"
    make_due(event)
    with listening() as heard:
        assert process_due_events() == 1
    event.refresh_from_db()
    assert (event.status, event.tries) == ("processed", 2)
    assert [name for name, _ in heard] == ["webhook_received"]


def cut_off(*arguments, **columns):
    raise CutOff


def test_a_worker_lost_while_the_site_listens_tells_it_again(license_):
    event = event_of(license_, {"id": "C1", "from": NUMBER, "message": "halo"})
    heard = []

    def dies_once(sender, incoming, **arguments):
        heard.append(incoming.text)
        if len(heard) == 1:
            raise CutOff

    signals.message_received.connect(dies_once)
    try:
        with pytest.raises(CutOff):
            process_event(event.pk)
        event.refresh_from_db()
        assert (event.status, event.processed_at) == ("processed", None)
        assert event.next_try_at > timezone.now() + timedelta(minutes=10), "a slow receiver never runs twice at once"
        assert not reprocess(event)
        make_due(event)
        assert process_due_events() == 1
        assert process_due_events() == 0
    finally:
        signals.message_received.disconnect(dies_once)
    assert heard == ["halo", "halo"]


def test_an_event_that_keeps_killing_its_workers_is_given_up(license_, monkeypatch):
    event = event_of(license_, {"id": "C1", "from": NUMBER, "message": "halo"})
    with monkeypatch.context() as patched:
        patched.setattr("django_kpwa.webhooks.processing._parse", cut_off)
        for _ in range(10):
            make_due(event)
            with pytest.raises(CutOff):
                process_event(event.pk)
        make_due(event)
        assert process_event(event.pk)
    event.refresh_from_db()
    assert (event.status, event.next_try_at) == ("failed", None)
    assert "10 times" in event.error
    assert reprocess(event)
    event.refresh_from_db()
    assert event.status == "processed"


@pytest.mark.parametrize(
    "payload", [{"id": "nobody's", "status": "Read"}, {"id": "C1", "from": NUMBER, "message": "halo"}]
)
def test_an_event_that_was_processed_before_ends_after_ten_tries_too(license_, monkeypatch, payload):
    event = processed(license_, payload)
    before = event.status
    with monkeypatch.context() as patched:
        patched.setattr("django_kpwa.webhooks.processing._parse", cut_off)
        for _ in range(9):
            make_due(event)
            with pytest.raises(CutOff):
                process_event(event.pk)
        make_due(event)
        assert process_event(event.pk)
    event.refresh_from_db()
    assert (event.status, event.next_try_at) == (before, None)
    assert "10 times" in event.error
    assert reprocess(event)
    event.refresh_from_db()
    assert event.error == ""


def test_an_event_without_its_message_is_looked_for_ten_times_within_the_hour(license_):
    event = processed(license_, {"id": "nobody's", "status": "Read"})
    seconds = 0.0
    while event.next_try_at is not None:
        wait = (event.next_try_at - timezone.now()).total_seconds()
        seconds += wait
        WebhookEvent.objects.filter(pk=event.pk).update(received_at=timezone.now() - timedelta(seconds=seconds))
        make_due(event)
        assert process_event(event.pk)
        event.refresh_from_db()
    assert (event.status, event.tries, event.error) == ("unmatched", 10, "")
    assert 3300 < seconds < 3700


def test_a_receiver_that_raises_changes_nothing_else(license_, caplog):
    def breaks(sender, **arguments):
        raise RuntimeError("the site's own mistake")

    signals.message_received.connect(breaks)
    try:
        with listening() as heard:
            event = processed(license_, {"id": "C1", "from": NUMBER, "message": "halo"})
    finally:
        signals.message_received.disconnect(breaks)
    assert event.status == "processed"
    assert "message_received" in [name for name, _ in heard]
    assert "the site's own mistake" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_receivers_run_outside_any_transaction(license_):
    seen = []

    def look(sender, **arguments):
        seen.append(connections["default"].in_atomic_block)

    signals.webhook_received.connect(look)
    try:
        processed(license_, {"id": "C1", "from": NUMBER, "message": "halo"})
    finally:
        signals.webhook_received.disconnect(look)
    assert seen == [False]


def test_one_event_that_fails_does_not_hold_up_the_others(license_, monkeypatch, caplog):
    first = event_of(license_, {"id": "C0", "from": NUMBER, "message": "halo"})
    for number in (1, 2):
        event_of(license_, {"id": f"C{number}", "from": NUMBER, "message": "halo"})
    record = type(store()).record_event

    def record_others(self, event, *arguments, **columns):
        if event.pk == first.pk:
            raise OperationalError("the connection dropped")
        return record(self, event, *arguments, **columns)

    monkeypatch.setattr(type(store()), "record_event", record_others)
    assert process_due_events() == 2
    assert [event.status for event in WebhookEvent.objects.order_by("pk")] == ["pending", "processed", "processed"]
    assert "it will be retried" in caplog.text


def test_process_due_events_stops_when_told(license_):
    for number in range(3):
        event_of(license_, {"id": f"C{number}", "from": NUMBER, "message": "halo"})
    answers = iter([False, True])
    assert process_due_events(should_stop=lambda: next(answers)) == 1
    assert WebhookEvent.objects.filter(status=EventStatus.PENDING).count() == 2


def test_logs_hold_no_whole_number(license_, caplog, half_knowing):
    caplog.set_level(logging.DEBUG)
    for body in (b"halo", b"raise", b"hai"):
        process_event(store_event(license_.pk, body, ""))
    assert NUMBER not in caplog.text
