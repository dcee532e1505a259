"""What a gateway reports after it accepted a message: it was not delivered, or no phone ever confirms it."""

from __future__ import annotations

import csv
import io
import itertools
import json
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_kpwa import outbox, signals, ticks
from django_kpwa.dispatch import drive
from django_kpwa.health import look
from django_kpwa.models import HourlyStatistic, OutboundMessage, Status, StopReason
from django_kpwa.outbox import send_message
from django_kpwa.shop_counter.chips import Person, chip
from django_kpwa.statistics import roll_up
from django_kpwa.testing import deliver
from django_kpwa.webhooks import process_event
from django_kpwa.webhooks.arrivals import store_event
from django_kpwa.words import Problem, Tone, status_row
from tests.cli import kpwa, kpwa_json
from tests.integration.times import pass_time
from tests.shop.models import Sale

pytestmark = pytest.mark.django_db(transaction=True)

MESSAGES = "/admin/django_kpwa/outboundmessage/"
NUMBER = "6281234567890"
WORDS = "reach-out time-lock\u202efor 081234567890"
STATES = {"sent": 1, "delivered": 2, "read": 3, "failed": -1}


def tick(license_, message, state, **more):
    """Make the gateway post that the last attempt of `message` has reached `state`."""
    gateway_id = message.attempts.order_by("-number").exclude(gateway_id="").first().gateway_id
    return post(license_, {"event": "message.ack", "id": gateway_id, "ack": STATES[state], **more})


def post(license_, payload):
    event_id = store_event(license_.pk, json.dumps(payload).encode(), "application/json")
    assert event_id is None or process_event(event_id)


def sent_message(license_, text="struk", **arguments):
    message = send_message(NUMBER, text, license=license_, **arguments)
    drive(license_.pk)
    return fresh(message)


def fresh(message):
    return OutboundMessage.objects.get(pk=message.pk)


def test_a_negative_tick_is_kept_with_the_gateways_words_and_told_once(license_):
    message = sent_message(license_)
    told = []
    signals.message_undelivered.connect(receiver := lambda **named: told.append(named), weak=False)
    try:
        for _ in range(2):
            tick(license_, message, "failed", error={"code": 463, "message": f"{WORDS}\x1b"})
    finally:
        signals.message_undelivered.disconnect(receiver)
    after = fresh(message)
    assert (after.status, after.is_undelivered, after.may_have_arrived) == (Status.SENT, True, True)
    assert after.undelivered_words == "reach-out time-lock for 0812•••••890 , 463"
    assert [(named["message"], named["event"].message_id) for named in told] == [(message, message.pk)]
    row = status_row(after)
    assert (row.tone, str(row.label)) == (Tone.ATTENTION, "sent, but reported as not delivered")


@pytest.mark.parametrize("lengths", [(1, 2, 3), pytest.param((4,), marks=pytest.mark.slow)], ids=["few", "four"])
@pytest.mark.parametrize("first", STATES)
def test_whatever_the_order_a_phone_that_has_it_is_right(license_, first, lengths):
    for rest in itertools.chain(*(itertools.product(STATES, repeat=length - 1) for length in lengths)):
        order = (first, *rest)
        message = sent_message(license_, text=" ".join(order))
        for number, state in enumerate(order):
            tick(license_, message, state, timestamp=number)  # each body is different
        after = fresh(message)
        if "read" in order or "delivered" in order:
            expected = (Status.READ if "read" in order else Status.DELIVERED, False, "")
        else:
            expected = (Status.SENT, "failed" in order, "")
        assert (after.status, after.undelivered_at is not None, after.undelivered_words) == expected, order


def test_both_in_one_event_end_as_either_order_does(license_):
    message = sent_message(license_)
    gateway_id = message.attempts.get().gateway_id
    acks = [{"id": gateway_id, "ack": -1}, {"id": gateway_id, "ack": 2}]
    post(license_, {"event": "message.ack", "data": acks})
    assert (fresh(message).status, fresh(message).undelivered_at) == (Status.DELIVERED, None)


def test_it_is_sent_again_by_a_person_alone_and_counts_anew(license_):
    message = sent_message(license_)
    tick(license_, message, "failed")
    drive(license_.pk)
    assert fresh(message).attempts_made == 1
    assert outbox.resend(fresh(message))
    queued = fresh(message)
    assert (queued.status, queued.undelivered_at, queued.undelivered_words) == (Status.QUEUED, None, "")
    drive(license_.pk)
    assert (fresh(message).status, fresh(message).attempts_made) == (Status.SENT, 2)
    first = message.attempts.get(number=1).gateway_id
    post(license_, {"event": "message.ack", "id": first, "ack": -1, "timestamp": 9})
    assert not fresh(message).is_undelivered, "the report is about the attempt before"


def test_a_sent_that_is_posted_again_does_not_withdraw_what_a_person_sends_again(license_):
    message = sent_message(license_)
    tick(license_, message, "failed")
    assert outbox.resend(fresh(message))
    tick(license_, message, "sent")
    assert fresh(message).status == Status.QUEUED
    tick(license_, message, "delivered")
    assert (fresh(message).status, fresh(message).attempts_made) == (Status.DELIVERED, 1)


def test_a_message_that_arrived_or_is_waiting_cannot_be_sent_again(license_):
    message = sent_message(license_)
    assert not outbox.resend(message)
    tick(license_, message, "failed")
    tick(license_, message, "read")
    assert not outbox.resend(fresh(message))


def test_what_people_see_of_it(license_, operator):
    sale = Sale.objects.create(status=Sale.Status.PAID, customer_phone=NUMBER)
    deliver()
    message = OutboundMessage.objects.get()
    tick(license_, message, "failed", reason="blocked")
    page = operator.get(f"/admin/django_kpwa/outboundmessage/{message.pk}/change/").content.decode()
    assert page.count("reported as not delivered") >= 2  # its status, and the step on its timeline
    assert "blocked" in page
    assert "send_again" in page
    listed = operator.get("/admin/django_kpwa/outboundmessage/?undelivered=yes").content.decode()
    assert "sent, but reported as not delivered" in listed
    user = operator.get("/admin/").wsgi_request.user
    [shown] = chip(sale, Person(user))
    assert (str(shown.mark.label), shown.why) == ("sent, but reported as not delivered", "the gateway said: blocked")
    assert shown.resend_url
    assert shown.asks_first
    assert kpwa_json("messages", "--undelivered")[1][0]["undelivered_words"] == "blocked"
    assert "reported as not delivered: blocked" in kpwa("messages")[1]


def test_the_export_says_what_the_list_says(license_, operator):
    messages = [sent_message(license_, text) for text in ("a", "b")]
    tick(license_, messages[0], "failed", reason="blocked")
    OutboundMessage.objects.filter(pk=messages[1].pk).update(reason=StopReason.WRONG_NUMBER)
    answer = operator.post(MESSAGES, {"action": "export", "_selected_action": [m.pk for m in messages]})
    rows = csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode().removeprefix("\ufeff")))
    assert {row["text"]: (row["status"], row["reason"]) for row in rows} == {
        "a": ("sent, but reported as not delivered", "blocked"),
        "b": (str(StopReason.WRONG_NUMBER.label), ""),
    }


def test_a_resend_is_confirmed_first(license_, operator):
    message = sent_message(license_)
    tick(license_, message, "failed")
    address = f"/kpwa/messages/{message.uuid}/resend/"
    assert "gets it twice" in operator.post(address).content.decode()
    assert fresh(message).status == Status.SENT
    operator.post(address, {"confirmed": "yes"})
    assert fresh(message).status == Status.QUEUED


# --- one tick only ---


def send_many(license_, ticked, single, minutes=45):
    for number in range(ticked + single):
        message = sent_message(license_, text=f"struk {number}")
        if number < ticked:
            tick(license_, message, "delivered")
    pass_time(minutes=minutes)


def single_ticks():
    messages = list(OutboundMessage.objects.filter(status=Status.SENT))
    ticks.mark_lacking(messages)
    return sum(message.lacks_tick for message in messages)


@pytest.mark.parametrize(
    ("ticked", "single", "minutes", "lacking"),
    [(45, 5, 45, 5), (44, 6, 45, 0), (45, 4, 45, 4), (45, 5, 20, 0), (0, 3, 45, 0), (44, 0, 45, 0)],
)
def test_one_tick_is_said_where_messages_usually_get_two(license_, ticked, single, minutes, lacking):
    send_many(license_, ticked, single, minutes)
    assert single_ticks() == lacking


def test_one_tick_is_shown_in_list_page_and_chip_with_a_query_for_each_license(license_, operator):
    send_many(license_, 46, 0)
    sale = Sale.objects.create(status=Sale.Status.PAID, customer_phone=NUMBER)
    deliver()
    OutboundMessage.objects.filter(status=Status.SENT).update(sent_at=timezone.now() - timedelta(minutes=40))
    message = OutboundMessage.objects.get(status=Status.SENT)
    assert "one tick only" in operator.get("/admin/django_kpwa/outboundmessage/").content.decode()
    assert "one tick only" in operator.get(f"/admin/django_kpwa/outboundmessage/{message.pk}/change/").content.decode()
    [shown] = chip(sale, Person(operator.get("/admin/").wsgi_request.user))
    assert str(shown.mark.label) == "one tick only"
    with CaptureQueriesContext(connection) as captured:
        assert single_ticks() == 1
    assert len(captured) == 2  # one for the messages, one for what is usual for their license


# --- figures ---


def test_hours_count_what_was_delivered_read_and_reported(license_):
    messages = [sent_message(license_, text=f"struk {number}") for number in range(5)]
    for message, state in zip(messages, ["delivered", "read", "failed", "sent"], strict=False):
        tick(license_, message, state)
    roll_up()
    row = HourlyStatistic.objects.get()
    assert (row.sent, row.delivered, row.read, row.undelivered) == (5, 2, 1, 1)


def test_what_is_read_the_next_day_is_counted_in_the_first_minutes_of_an_hour(license_):
    message = sent_message(license_)
    roll_up()
    tick(license_, message, "read")
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    HourlyStatistic.objects.create(license=license_, hour=hour + timedelta(hours=20))
    roll_up(hour + timedelta(hours=20, minutes=30))
    first = HourlyStatistic.objects.order_by("hour")[:1]
    assert first.get().read == 0
    roll_up(hour + timedelta(hours=21, minutes=1))
    assert first.get().read == 1


@pytest.mark.parametrize(
    ("usually", "sent", "delivered", "is_told"),
    [(0.96, 40, 10, True), (0.96, 40, 30, False), (0.96, 19, 0, False), (0.3, 40, 2, False), (None, 40, 0, False)],
)
def test_a_share_far_below_the_usual_one_is_told(license_, admin_client, usually, sent, delivered, is_told):
    now = timezone.now()
    this = now.replace(minute=0, second=0, microsecond=0)
    for day in range(1, 10):
        counted = None if usually is None else int(100 * usually)
        HourlyStatistic.objects.create(license=license_, hour=this - timedelta(days=day), sent=100, delivered=counted)
    HourlyStatistic.objects.create(license=license_, hour=this - timedelta(hours=1), sent=sent, delivered=delivered)
    found = look().find(Problem.FEW_DELIVERED)
    assert bool(found) is is_told
    if is_told:
        words = f"Of the 40 messages that “{license_.name}” sent in the last hour, 25% reached a phone; usually 96% do."
        assert found.say("meaning") == words
        assert words in admin_client.get("/admin/django_kpwa/dashboard/").content.decode()


def test_the_dashboard_shows_shares_by_day_and_what_was_not_delivered(license_, admin_client):
    this = timezone.now().replace(minute=0, second=0, microsecond=0)
    figures = {"sent": 200, "delivered": 190, "read": 80, "undelivered": 3}
    HourlyStatistic.objects.create(license=license_, hour=this - timedelta(hours=5), **figures)
    HourlyStatistic.objects.create(license=license_, hour=this - timedelta(days=3), sent=100)  # from an older release
    page = admin_client.get("/admin/django_kpwa/dashboard/").content.decode()
    assert "Of those sent, 95% reached a phone and 40% were read." in page
    assert "<td>95%</td><td>40%</td>" in page
    assert "reported as not delivered: 3" in page
    assert look().find(Problem.UNDELIVERED).say("meaning").endswith("not delivered: 3.")
