"""How stored events find the messages of their own license, and move them forward."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from django_kpwa.dispatch import drive
from django_kpwa.exceptions import GatewayTimeoutError
from django_kpwa.gateway import locmem
from django_kpwa.models import EventKind, SendAttempt, Status
from django_kpwa.outbox import resend, send_group_message, send_message
from django_kpwa.webhooks import process_due_events, process_event
from django_kpwa.webhooks.matching import MAX_CANDIDATES

from .webhook_events import (
    NUMBER,
    age,
    event_of,
    fresh,
    in_doubt_message,
    listening,
    make_due,
    other_license,
    processed,
    sent_message,
)

pytestmark = pytest.mark.django_db


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
