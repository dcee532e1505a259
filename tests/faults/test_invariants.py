"""Tests of the checker: each violation is planted once, and must be found by its letter and its message."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.utils import timezone

from django_kpwa.models import (
    DatabaseNow,
    Lane,
    License,
    OutboundMessage,
    PauseReason,
    Recipient,
    SendAttempt,
    WebhookEvent,
    body_digest,
)

from . import invariants

pytestmark = pytest.mark.django_db

NUMBER = "6281234567890"
BODY = json.dumps({"id": "A1"}).encode()


@pytest.fixture
def stored(license_):
    """Stores a message in any state, even one that is false."""
    Lane.objects.create(license=license_)

    def store(status="sent", **columns):
        row = OutboundMessage(license=license_, recipient=NUMBER, text="Struk 1", status=status, **columns)
        row.created_at = row.due_at = DatabaseNow()
        row.save()
        return row

    return store


def delivery(sequence=1, **columns):
    entry = {"recipient": NUMBER, "group": "", "text": "Struk 1", "image_url": "", "accepted_at": "now"}
    return {"sequence": sequence, "id": f"ID{sequence}", **entry, **columns}


def letters(found):
    return [violation.invariant for violation in found]


@pytest.mark.parametrize("status", ["sent", "delivered", "read", "unknown"])
def test_what_arrived_once_is_in_order(stored, status):
    stored(status)
    assert invariants.check_deliveries([delivery()]) == []


def test_what_arrived_twice_is_found_with_its_message_and_both_deliveries(stored):
    message = stored()
    [violation] = invariants.check_deliveries([delivery(1), delivery(2)])
    assert violation.invariant == "A"
    assert f"message {message.pk} " in violation.words
    assert "#1 ID1" in violation.words
    assert "#2 ID2" in violation.words


def test_a_second_copy_is_in_order_where_somebody_asked_for_it_and_a_third_is_not(stored):
    message = stored()
    assert invariants.check_deliveries([delivery(1), delivery(2)], resends={message.pk: 1}) == []
    found = invariants.check_deliveries([delivery(1), delivery(2), delivery(3)], resends={message.pk: 1})
    assert letters(found) == ["A"]


def test_sent_without_a_delivery_is_found_unless_a_person_said_so(stored):
    message = stored()
    assert letters(invariants.check_deliveries([])) == ["C"]
    assert invariants.check_deliveries([], marked={message.pk}) == []


def test_an_accepted_attempt_without_a_delivery_is_found(stored):
    message = stored("unknown")
    SendAttempt.objects.create(message=message, number=1, started_at=DatabaseNow(), outcome="accepted")
    assert letters(invariants.check_deliveries([])) == ["C"]


def test_an_attempt_with_the_id_of_another_delivery_is_found(stored):
    message = stored()
    SendAttempt.objects.create(message=message, number=1, started_at=DatabaseNow(), gateway_id="ID9")
    assert letters(invariants.check_deliveries([delivery()])) == ["C"]


def test_a_delivery_that_no_message_says_is_found(stored):
    stored()
    assert letters(invariants.check_deliveries([delivery(), delivery(2, text="Struk 2")])) == ["C"]


@pytest.mark.parametrize("status", ["failed", "cancelled", "expired", "queued", "sending"])
def test_accepted_and_yet_not_sent_is_found(stored, status):
    stored(status)
    assert letters(invariants.check_deliveries([delivery()])) == ["D"]


def test_on_its_way_again_is_in_order_where_somebody_asked_for_it(stored):
    message = stored("queued")
    assert invariants.check_deliveries([delivery()], resends={message.pk: 1}) == []


@pytest.mark.parametrize("status", ["queued", "sending"])
def test_what_stays_on_its_way_is_found(stored, status):
    stored(status)
    assert letters(invariants.check_settled()) == ["B"]


def test_what_waits_behind_a_pause_that_a_person_ends_is_in_order_and_what_is_sending_there_is_not(stored):
    stored("queued")
    Lane.objects.update(pause_reason=PauseReason.LOGGED_OUT)
    assert invariants.check_settled() == []
    Lane.objects.update(pause_reason=PauseReason.FAILING)
    assert letters(invariants.check_settled()) == ["B"]
    Lane.objects.update(pause_reason=PauseReason.LOGGED_OUT)
    OutboundMessage.objects.update(status="sending")
    assert letters(invariants.check_settled()) == ["B"]


def test_what_an_inactive_license_holds_is_in_order(stored):
    stored("queued")
    License.objects.update(is_active=False)
    assert invariants.check_settled() == []


def test_a_sale_without_a_message_and_one_with_two_are_lost_and_doubled(stored):
    stored(source_id="2")
    stored(source_id="2")
    stored(source_id="3")
    assert letters(invariants.check_sales([1, 2, 3])) == ["L", "L"]


def test_a_withdrawn_sale_with_a_message_is_found(stored):
    stored(source_id="7")
    assert letters(invariants.check_sales([], [7, 8])) == ["L"]


def test_a_sale_that_the_till_was_told_of_and_that_is_not_there_is_found():
    [violation] = invariants.check_told([1, 2], {1, 3})
    assert (violation.invariant, "sale 2 " in violation.words) == ("T", True)


def test_a_slow_sale_is_found():
    assert letters(invariants.check_requests([0.1, 3.1], 3.0)) == ["E"]


def test_a_webhook_that_was_taken_and_is_not_stored_or_not_counted_is_found(license_):
    answered = {BODY: [503, 200, 200]}
    assert letters(invariants.check_webhooks(license_.pk, answered, [])) == ["F", "F"]
    event = WebhookEvent(license=license_, body=BODY, digest=body_digest(license_.pk, BODY))
    event.received_at = event.last_received_at = DatabaseNow()
    event.save()
    assert letters(invariants.check_webhooks(license_.pk, answered, [])) == ["F"]
    WebhookEvent.objects.update(times_received=2)
    assert invariants.check_webhooks(license_.pk, answered, []) == []


def test_a_webhook_that_was_refused_need_not_be_stored(license_):
    assert invariants.check_webhooks(license_.pk, {BODY: [404, 503]}, []) == []


def test_an_effect_that_happens_twice_is_found():
    heard = [{"signal": "message_received", "about": "a"}, {"signal": "message_received", "about": "a"}]
    assert letters(invariants.check_webhooks(1, {}, heard)) == ["F"]
    heard[1]["about"] = "b"
    assert invariants.check_webhooks(1, {}, heard) == []


def test_a_secret_in_an_output_is_found_with_what_stands_around_it_and_a_number_too():
    found = invariants.check_secrets(["kunci-1"], [NUMBER], {"worker": f"kunci-1 for {NUMBER}"}, tables=False)
    assert letters(found) == ["G", "G"]
    assert "in worker" in found[0].words


@pytest.mark.parametrize("column", ["words", "gateway_id", "read_as"])
def test_a_secret_in_any_text_of_a_table_is_found(stored, column):
    message = stored()
    SendAttempt.objects.create(message=message, number=1, started_at=DatabaseNow(), **{column: "key kunci-1"})
    [violation] = invariants.check_secrets(["kunci-1"], [], {})
    assert f"SendAttempt.{column}" in violation.words


def test_a_number_is_found_where_it_has_no_business_and_nowhere_else(stored, license_, django_user_model):
    message = stored(recipient_typed=NUMBER)
    assert invariants.check_secrets([], [NUMBER], {}) == []
    SendAttempt.objects.create(message=message, number=1, started_at=DatabaseNow(), words=f"no {NUMBER}")
    Lane.objects.update(last_error=f"no {NUMBER}")
    WebhookEvent.objects.create(
        license=license_, body=NUMBER.encode(), error=NUMBER, received_at=DatabaseNow(), last_received_at=DatabaseNow()
    )
    person = django_user_model.objects.create(username="kasir")
    LogEntry.objects.create(user=person, action_flag=CHANGE, object_repr=NUMBER, change_message="")
    found = sorted(violation.words for violation in invariants.check_secrets([], [NUMBER], {}))
    assert [words.split(" stands in ")[1].split(" ")[0] for words in found] == [
        "admin.LogEntry.object_repr",
        "django_kpwa.Lane.last_error",
        "django_kpwa.SendAttempt.words",
        "django_kpwa.WebhookEvent.error",
    ]


def test_a_secret_in_a_webhooks_bytes_is_found(license_):
    WebhookEvent.objects.create(
        license=license_, body=b"kunci-1", received_at=DatabaseNow(), last_received_at=DatabaseNow()
    )
    [violation] = invariants.check_secrets(["kunci-1"], [], {})
    assert "WebhookEvent.body" in violation.words


@pytest.mark.parametrize(("seconds", "found"), [(-1, []), (1, ["S"])])
def test_what_was_begun_after_a_stop_is_found(stored, license_, seconds, found):
    at = timezone.now()
    message = stored()
    SendAttempt.objects.create(message=message, number=1, started_at=at + timedelta(seconds=seconds))
    times = dict.fromkeys(("received_at", "last_received_at", "processed_at"), at)
    WebhookEvent.objects.create(license=license_, body=BODY, digest="1", sender_number=NUMBER, **times)
    Recipient.objects.create(license=license_, number=NUMBER, stopped_at=at, decided_at=at)
    assert letters(invariants.check_stops([delivery()])) == found
    assert invariants.check_stops([delivery(text="another")]) == []


def test_more_new_customers_in_a_day_than_the_limit_are_found():
    def cold(number, day, **columns):
        row = {
            "license": "Toko",
            "is_cold": True,
            "text": f"Struk {number}",
            "accepted_at": f"2026-11-{day}T12:00:00+07:00",
        }
        return delivery(number, **row | columns)

    ledger = [cold(1, 27), cold(2, 28), cold(3, 28), cold(3, 28), cold(4, 28, is_cold=False), cold(5, 28, license="B")]
    assert invariants.check_new_customers(ledger, "Toko", 2) == []
    assert letters(invariants.check_new_customers([*ledger, cold(6, 28)], "Toko", 2)) == ["N"]


@pytest.mark.parametrize(
    ("key", "reason", "found"),
    [("known-1", "restricted", ["N"]), ("known-1", "cold_limit", ["N"]), ("known-1", "", []), ("1", "restricted", [])],
)
def test_a_known_customer_who_waits_as_a_new_one_is_found(stored, key, reason, found):
    stored("queued", idempotency_key=key, reason=reason)
    assert letters(invariants.check_known_wait_for_nothing()) == found


@pytest.mark.parametrize(
    ("outcome", "words", "code", "found"),
    [
        ("not_sent", "Error 463", "", []),
        ("in_doubt", "reach-out time-lock", "", ["N"]),
        ("in_doubt", "", "463", ["N"]),
        ("in_doubt", "Internal error", "500", []),
    ],
)
def test_doubt_about_what_a_restriction_turned_down_is_found(stored, outcome, words, code, found):
    attempt = {"outcome": outcome, "cause": "server_error", "words": words, "code": code, "started_at": DatabaseNow()}
    SendAttempt.objects.create(message=stored(), number=1, **attempt)
    assert letters(invariants.check_restrictions(0)) == found


def test_more_tries_of_a_license_than_a_restriction_may_cost_are_found(stored):
    message = stored()
    for number in range(3):
        SendAttempt.objects.create(message=message, number=number, started_at=DatabaseNow(), cause="restricted")
    assert invariants.check_restrictions(3) == []
    assert letters(invariants.check_restrictions(2)) == ["N"]
