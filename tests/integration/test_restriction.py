"""WhatsApp restricts the number: messages to new customers wait, and all other messages go out."""

from __future__ import annotations

import itertools
import json
from datetime import timedelta

import pytest
import time_machine
from django.db.models import F
from django.utils import timezone, translation

from django_kpwa import license_actions, outbox, personal_data, signals
from django_kpwa.dispatch import drive
from django_kpwa.exceptions import BadRequestError, GatewayTimeoutError, NotConnectedError, ServerError
from django_kpwa.formatting import coming_day
from django_kpwa.gateway import locmem
from django_kpwa.models import OutboundMessage, Recipient, SendAttempt, Status, WebhookEvent
from django_kpwa.outbox import send_group_message, send_message
from django_kpwa.store import store
from django_kpwa.webhooks import process_event, reprocess
from django_kpwa.webhooks.arrivals import store_event
from django_kpwa.words import status_row
from tests.cli import kpwa, kpwa_json
from tests.shop.models import Sale

from .lanes import drive_once_connected, fresh, lane_of, set_lane, texts

pytestmark = pytest.mark.django_db(transaction=True)

NEW, OTHER, KNOWN = "6281234567890", "6281234567891", "6281234567892"
NUMBERS = [f"62813{n:08}" for n in range(6)]
DAY = 86_400
TURNED_DOWN = [
    BadRequestError("no", status_code=400, words="463: reach-out time-lock"),
    ServerError("no", status_code=500, words="Failed", errors=("RESTRICT_ALL_COMPANIONS",)),
]
LICENSES = "/admin/django_kpwa/license/"


@pytest.fixture
def shop(license_, form):
    """A license that sends, with two customers: one wrote a week ago, the other too long ago."""
    drive_once_connected(license_)
    for number, days in ((KNOWN, 7), (OTHER, 29)):
        Recipient.objects.create(license=license_, number=number, last_inbound_at=timezone.now() - timedelta(days=days))
    return license_


def turn_down(license_, error=TURNED_DOWN[0], to=NEW):
    locmem.fail_next(error)
    message = send_message(to, "turned down", license=license_)
    drive(license_.pk)
    return fresh(message)


def seconds_to(moment):
    return (moment - timezone.now()).total_seconds()


def let_its_time_pass(license_):
    """Pretend that `restricted_until` has passed, also for the messages that wait for it."""
    past = timezone.now() - timedelta(seconds=1)
    set_lane(license_, restricted_until=past)
    OutboundMessage.objects.filter(status=Status.QUEUED).update(due_at=past)
    SendAttempt.objects.update(started_at=F("started_at") - timedelta(days=1))


def fail(license_, number, error):
    """Send a message to `number` that the gateway does not accept, without saying why."""
    message = turn_down(license_, error, to=number)
    set_lane(license_, next_send_at=None)
    return message


def undelivered(license_, message, words="no"):
    post(license_, {"event": "message.ack", "id": fresh(message).attempts.last().gateway_id, "ack": -1, "error": words})


def send(license_, number, text="a"):
    message = send_message(number, text, license=license_)
    drive(license_.pk)
    return fresh(message)


def delivered(license_, message):
    post(license_, {"event": "message.ack", "id": fresh(message).attempts.last().gateway_id, "ack": 2})


def post(license_, payload):
    assert process_event(store_event(license_.pk, json.dumps(payload).encode(), "application/json"))


@pytest.mark.parametrize("error", TURNED_DOWN)
def test_a_message_that_is_turned_down_restricts_the_lane_and_is_no_doubt(shop, error):
    message = turn_down(shop, error)
    assert (message.status, message.reason, message.attempts_spent) == (Status.QUEUED, "restricted", 0)
    assert not message.in_doubt
    assert message.is_put_off
    lane = lane_of(shop)
    assert (lane.restriction_step, lane.pause_reason) == (1, "")
    assert lane.restriction_words == message.reason_words
    assert 0.99 * DAY < seconds_to(lane.restricted_until) <= DAY
    assert abs((message.due_at - lane.restricted_until).total_seconds()) < 5


def test_new_customers_wait_and_known_ones_and_groups_do_not(shop):
    turn_down(shop)
    messages = [send_message(number, number, license=shop) for number in (NEW, OTHER, KNOWN)]
    messages.append(send_group_message("Dapur", "dapur", license=shop))
    drive(shop.pk)
    assert texts() == [KNOWN, "dapur"]
    new, other, known, group = map(fresh, messages)
    assert (known.status, group.status) == (Status.SENT, Status.SENT)
    for waiting in (new, other):
        assert (waiting.status, waiting.reason, waiting.attempts_made) == (Status.QUEUED, "restricted", 0)
        assert waiting.due_at == lane_of(shop).restricted_until
    assert lane_of(shop).restriction_step == 1


def test_the_text_of_what_waits_is_not_written(shop):
    turn_down(shop)
    sale = Sale.objects.create(status=Sale.Status.PAID, customer_phone=OTHER)
    message = OutboundMessage.objects.for_source(sale).get()
    OutboundMessage.objects.filter(pk=message.pk).update(due_at=timezone.now() - timedelta(seconds=1))
    drive(shop.pk)
    message = fresh(message)
    assert (message.reason, message.renderings_begun, message.rendered_at) == ("restricted", 0, None)


def test_of_many_new_customers_one_is_tried_and_the_others_wait(shop):
    locmem.fail_next(TURNED_DOWN[1])
    messages = [send_message(f"62812345678{n:02}", "a", license=shop) for n in range(8)]
    drive(shop.pk)
    assert sum(fresh(message).attempts_made for message in messages) == 1
    assert not texts()


def test_a_try_that_gets_through_ends_it_for_all(shop):
    turned_down = turn_down(shop)
    send_message(OTHER, "other", license=shop)
    drive(shop.pk)
    let_its_time_pass(shop)
    drive(shop.pk)
    lane = lane_of(shop)
    assert (lane.restricted_until, lane.restricted_at, lane.restriction_words) == (None, None, "")
    assert sorted(texts()) == ["other", "turned down"]
    assert fresh(turned_down).status == Status.SENT
    other = OutboundMessage.objects.get(text="other")
    assert (lane.restriction_step, lane.cold_trail) == (1, f"{turned_down.pk},{other.pk}")
    delivered(shop, turned_down)
    send(shop, NEW)
    assert (lane_of(shop).restriction_step, lane_of(shop).cold_trail) == (0, "")


def test_a_try_that_is_turned_down_makes_it_longer_and_no_other_follows(shop):
    turn_down(shop)
    send_message(OTHER, "other", license=shop)
    drive(shop.pk)
    for step, days in ((2, 2), (3, 7), (3, 7)):
        let_its_time_pass(shop)
        # Pretend that known customers have received their messages meanwhile.
        set_lane(shop, failures=0)
        locmem.fail_next(TURNED_DOWN[0])
        drive(shop.pk)
        lane = lane_of(shop)
        assert lane.restriction_step == step
        assert 0.99 * days * DAY < seconds_to(lane.restricted_until) <= days * DAY
        waiting = OutboundMessage.objects.filter(status=Status.QUEUED, reason="restricted")
        assert waiting.filter(due_at__gt=timezone.now()).count() == 2
    assert not texts()


def test_a_try_that_is_in_doubt_is_followed_by_none_for_as_long(shop):
    turn_down(shop)
    send_message(OTHER, "other", license=shop)
    drive(shop.pk)
    let_its_time_pass(shop)
    locmem.fail_next(GatewayTimeoutError("no answer"))
    drive(shop.pk)
    lane = lane_of(shop)
    assert (lane.restriction_step, lane.restriction_words) == (1, "463: reach-out time-lock")
    assert seconds_to(lane.restricted_until) > 0.99 * DAY
    assert sorted(OutboundMessage.objects.values_list("status", flat=True)) == [Status.QUEUED, Status.UNKNOWN]


def test_a_customer_who_writes_gets_what_waits_for_them(shop):
    turn_down(shop, to=OTHER)
    message = send_message(NEW, "new", license=shop)
    drive(shop.pk)
    post(shop, {"id": "A1", "from": f"{NEW}@s.whatsapp.net", "message": "Halo", "isFromMe": False})
    drive(shop.pk)
    assert fresh(message).status == Status.SENT
    assert (texts(), lane_of(shop).restriction_step) == (["new"], 1)


@pytest.mark.parametrize(("words", "step"), [("Error 463", 1), ("The phone is off.", 0)])
def test_a_tick_that_says_so_restricts_the_lane_from_the_next_message_on(shop, words, step):
    message = send_message(NEW, "new", license=shop)
    drive(shop.pk)
    gateway_id = fresh(message).attempts.get().gateway_id
    tick = {"event": "message.ack", "id": gateway_id, "ack": -1, "error": words}
    post(shop, tick)
    lane = lane_of(shop)
    assert (lane.restriction_step, lane.restriction_words) == (step, words if step else "")
    waiting = send_message(OTHER, "other", license=shop)
    drive(shop.pk)
    assert fresh(waiting).status == (Status.QUEUED if step else Status.SENT)
    assert (fresh(message).status, fresh(message).is_undelivered) == (Status.SENT, True)
    license_actions.end_restriction(shop)
    post(shop, {**tick, "timestamp": 1})
    assert lane_of(shop).restriction_step == 0, "the same tick again changes nothing"


@pytest.mark.parametrize("reports", [*itertools.permutations(["", "no route", "463"])], ids=str)
def test_one_failure_that_is_reported_several_times_is_read_in_any_order(shop, reports):
    message = send_message(NEW, "new", license=shop)
    drive(shop.pk)
    gateway_id = fresh(message).attempts.get().gateway_id
    told = []
    signals.message_undelivered.connect(receiver := lambda **named: told.append(named), weak=False)
    for number, said in enumerate(reports):
        post(shop, {"id": gateway_id, "status": -1, "timestamp": number, **({"error": said} if said else {})})
    signals.message_undelivered.disconnect(receiver)
    lane = lane_of(shop)
    assert (fresh(message).undelivered_words, lane.restriction_step, lane.restriction_words) == ("463", 1, "463")
    assert len(told) == 1


def test_words_that_come_later_are_kept_but_not_about_a_number_that_was_forgotten(shop):
    messages = [send_message(number, "new", license=shop) for number in NUMBERS[:2]]
    drive(shop.pk)
    reports = [{"id": fresh(message).attempts.get().gateway_id, "status": "failed"} for message in messages]
    for report in reports:
        post(shop, report)
    personal_data.forget(NUMBERS[0])
    for report in reports:
        post(shop, {**report, "reason": "no route"})
    assert [fresh(message).undelivered_words for message in messages] == ["", "no route"]


def test_a_driver_notices_a_restriction_that_begins_while_it_drives(shop, hooks):
    hooks.after_send = lambda text: store().begin_restriction(shop.pk, "463")
    send_message(OTHER, "first", license=shop)
    waiting = send_message(NEW, "second", license=shop)
    drive(shop.pk)
    assert (texts(), fresh(waiting).reason) == (["first"], "restricted")


def test_a_person_ends_it_and_what_waits_goes_out(shop, operator):
    turn_down(shop)
    message = send_message(OTHER, "other", license=shop)
    drive(shop.pk)
    page = operator.get(f"{LICENSES}{shop.pk}/change/").content.decode()
    assert "End the restriction" in page
    assert "463: reach-out time-lock" in page
    assert "makes it longer" in operator.post(f"{LICENSES}{shop.pk}/end_restriction/").content.decode()
    assert lane_of(shop).restriction_step == 1
    operator.post(f"{LICENSES}{shop.pk}/end_restriction/", {"confirmed": "yes"})
    assert lane_of(shop).restriction_step == 0
    drive(shop.pk)
    assert fresh(message).status == Status.SENT
    assert "End the restriction" not in operator.get(f"{LICENSES}{shop.pk}/change/").content.decode()


def test_the_command_line_ends_it(shop):
    turn_down(shop)
    assert kpwa_json("licenses")[1][0]["restricted_until"]
    assert kpwa("licenses", "end-restriction", shop.name) == (0, f"{shop.name} sends to new customers again.\n")
    assert kpwa("licenses", "end-restriction", shop.name) == (0, f"{shop.name} was not restricted.\n")
    assert OutboundMessage.objects.due().count() == 1


def test_what_a_killed_process_left_waiting_is_freed_by_the_next_press(shop):
    turn_down(shop)
    set_lane(shop, restriction_step=0, restricted_until=None)
    assert license_actions.end_restriction(shop)
    assert OutboundMessage.objects.due().count() == 1


def test_nobody_hurries_a_message_that_whatsapp_would_turn_down(shop, operator):
    message = turn_down(shop)
    assert not outbox.send_now(message)
    assert message.is_put_off
    page = operator.get(f"/admin/django_kpwa/outboundmessage/{message.pk}/change/").content.decode()
    assert "WhatsApp restricts the number" in page
    assert "Trying sooner makes the restriction longer" in page
    assert "writes to the shop" in status_row(message).explained
    assert "Send now" not in page


@pytest.mark.parametrize(
    ("hours", "english", "indonesian"),
    [
        (3, "1 p.m.", "13.00"),
        (24, "Sunday 10 a.m.", "Minggu 10.00"),
        (48, "Monday 10 a.m.", "Senin 10.00"),
        (168, "12/05/2026 10 a.m.", "05-12-2026 10.00"),
    ],
)
@time_machine.travel("2026-11-28 10:00 +0700", tick=False)
def test_until_when_it_lasts_is_said_by_the_day_of_the_week(settings, hours, english, indonesian):
    settings.TIME_ZONE = "Asia/Jakarta"
    until = timezone.now() + timedelta(hours=hours)
    for language, expected in (("en", english), ("id", indonesian)):
        with translation.override(language):
            assert coming_day(until) == expected


def test_no_restriction_outlasts_a_clock_that_was_ahead(shop):
    turn_down(shop)
    assert not store().bring_back_times_ahead([shop.pk])
    set_lane(shop, restricted_until=timezone.now() + timedelta(days=300))
    assert store().bring_back_times_ahead([shop.pk]) == [shop.pk]
    assert 6 * DAY < seconds_to(lane_of(shop).restricted_until) <= 7 * DAY


def test_three_in_a_row_pause_the_lane_as_ever(shop):
    for number in (KNOWN, KNOWN, KNOWN):
        turn_down(shop, to=number)
        set_lane(shop, next_send_at=None)
    assert lane_of(shop).pause_reason == "failing"


def test_a_lane_without_a_restriction_is_not_asked_for_one(shop, monkeypatch):
    monkeypatch.setattr(type(store()), "standing_of", None)
    send_message(NEW, "a", license=shop)
    drive(shop.pk)
    assert texts() == ["a"]


REFUSED, FAILS = BadRequestError("no", status_code=400, words="no"), ServerError("no", status_code=500, words="no")


@pytest.mark.parametrize("error", [REFUSED, FAILS, GatewayTimeoutError("no answer")])
def test_three_new_customers_that_fail_while_a_known_one_does_not_are_a_restriction(shop, error):
    fail(shop, NUMBERS[0], error)
    assert send(shop, KNOWN).status == Status.SENT
    fail(shop, NUMBERS[0], error)
    assert send(shop, KNOWN).status == Status.SENT
    fail(shop, NUMBERS[1], error)
    assert lane_of(shop).restricted_until is None
    fail(shop, NUMBERS[2], error)
    lane = lane_of(shop)
    assert (lane.restriction_step, lane.restriction_words, lane.cold_trail) == (1, "", "")
    assert 0.99 * DAY < seconds_to(lane.restricted_until) <= DAY
    assert send(shop, NUMBERS[3]).reason == "restricted"
    assert send(shop, KNOWN).status == Status.SENT


def test_three_that_are_reported_afterwards_are_one_as_well(shop, form):
    for number in NUMBERS[:3]:
        undelivered(shop, send(shop, number))
        assert send(shop, KNOWN).status == Status.SENT
    lane = lane_of(shop)
    assert (lane.restriction_step, lane.restriction_words) == (1, "")
    assert send(shop, NUMBERS[3]).reason == "restricted"


def test_reports_that_come_late_and_together_count_as_well(shop):
    messages = [send(shop, number) for number in NUMBERS[:3]]
    undelivered(shop, messages[0])
    send(shop, KNOWN)
    for message in messages[1:]:
        undelivered(shop, message)
    assert lane_of(shop).restriction_step == 1


@pytest.mark.parametrize("error", [FAILS, NotConnectedError("no route"), GatewayTimeoutError("no answer")])
def test_a_gateway_that_fails_for_everybody_is_none(shop, error):
    send(shop, KNOWN)
    for number in (*NUMBERS[:3], KNOWN, *NUMBERS[3:]):
        set_lane(shop, pause_reason="", paused_until=None, failures=0)
        fail(shop, number, error)
    set_lane(shop, pause_reason="", paused_until=None, failures=0)
    OutboundMessage.objects.filter(status=Status.QUEUED).delete()
    send(shop, KNOWN)
    assert lane_of(shop).restricted_until is None
    assert send(shop, NEW).status == Status.SENT
    assert (lane_of(shop).restriction_step, lane_of(shop).cold_trail) == (0, "")


def test_numbers_without_whatsapp_are_none(shop):
    for number in NUMBERS[:4]:
        fail(shop, number, BadRequestError("no", status_code=400, words="The number is not registered on WhatsApp."))
        send(shop, KNOWN)
    assert (lane_of(shop).restricted_until, lane_of(shop).cold_trail) == (None, "")


def test_what_goes_well_writes_nothing_and_asks_nothing(shop, form, monkeypatch):
    monkeypatch.setattr(type(store()), "_weigh", None)
    for number in (NEW, KNOWN, OTHER):
        assert send(shop, number).status == Status.SENT
    send_group_message("Dapur", "dapur", license=shop)
    drive(shop.pk)
    assert texts()[-1] == "dapur"


def test_nobody_is_tried_twice_in_a_day(shop):
    first, second = fail(shop, NUMBERS[0], TURNED_DOWN[0]), send(shop, NUMBERS[1])
    assert second.reason == "restricted"
    past = timezone.now() - timedelta(seconds=1)
    set_lane(shop, restricted_until=past, failures=0, next_send_at=None)
    OutboundMessage.objects.update(due_at=past)
    locmem.fail_next(REFUSED)
    drive(shop.pk)
    assert fresh(second).attempts.count() == 1
    assert lane_of(shop).restriction_step == 2
    tried_at = first.attempts.get().started_at
    assert fresh(first).attempts.count() == 1
    assert tried_at < fresh(first).due_at


def test_whoever_was_tried_today_waits_for_tomorrow_if_nobody_else_does(shop):
    message = fail(shop, NUMBERS[0], TURNED_DOWN[0])
    past = timezone.now() - timedelta(seconds=1)
    set_lane(shop, restricted_until=past)
    OutboundMessage.objects.update(due_at=past)
    drive(shop.pk)
    message = fresh(message)
    assert message.attempts.count() == 1
    assert message.is_put_off
    assert message.due_at == message.attempts.get().started_at + timedelta(days=1)
    assert not texts()


def test_a_try_that_never_reached_whatsapp_is_none(shop):
    turn_down(shop)
    other = send_message(OTHER, "other", license=shop)
    drive(shop.pk)
    let_its_time_pass(shop)
    set_lane(shop, failures=0)
    OutboundMessage.objects.exclude(pk=other.pk).update(due_at=timezone.now() + timedelta(days=1))
    locmem.fail_next(NotConnectedError("no route"))
    drive(shop.pk)
    lane = lane_of(shop)
    assert (lane.restriction_step, lane.cold_trail) == (1, "")
    assert seconds_to(lane.restricted_until) <= 0
    OutboundMessage.objects.filter(pk=other.pk).update(due_at=timezone.now() - timedelta(seconds=1))
    set_lane(shop, next_send_at=None)
    drive(shop.pk)
    assert (texts(), lane_of(shop).restricted_until) == (["other"], None)


def test_a_worker_that_dies_in_a_try_has_no_other_made(shop, monkeypatch):
    turn_down(shop)
    send_message(OTHER, "other", license=shop)
    drive(shop.pk)
    let_its_time_pass(shop)

    class Killed(BaseException):
        pass

    def kill(*_):
        raise Killed

    monkeypatch.setattr("django_kpwa.dispatch.driver._Driver._call", kill)
    with pytest.raises(Killed):
        drive(shop.pk)
    monkeypatch.undo()
    set_lane(shop, lease_expires_at=timezone.now() - timedelta(seconds=1))
    drive(shop.pk)
    assert not texts()
    assert seconds_to(lane_of(shop).restricted_until) > 0.99 * DAY
    assert sorted(OutboundMessage.objects.values_list("status", flat=True)) == [Status.QUEUED, Status.UNKNOWN]


@pytest.mark.parametrize("words", ["no", "463"])
def test_an_accepted_try_that_is_reported_afterwards_goes_on_with_the_next_step(shop, words):
    turn_down(shop)
    for step, days in ((2, 2), (3, 7), (3, 7)):
        let_its_time_pass(shop)
        OutboundMessage.objects.filter(status=Status.QUEUED).delete()
        tried = send(shop, OTHER)
        assert (tried.status, lane_of(shop).restricted_until) == (Status.SENT, None)
        undelivered(shop, tried, words)
        lane = lane_of(shop)
        assert lane.restriction_step == step
        assert 0.99 * days * DAY < seconds_to(lane.restricted_until) <= days * DAY


def test_an_accepted_try_that_has_arrived_is_the_end_of_it(shop):
    turn_down(shop)
    let_its_time_pass(shop)
    tried = send(shop, OTHER)
    delivered(shop, tried)
    assert turn_down(shop, to=NUMBERS[0]).reason == "restricted"
    assert lane_of(shop).restriction_step == 1


SAY_SO = [
    {"event": "account.restricted"},
    {"event": "session.status", "payload": {"name": "default", "status": "RESTRICTED"}},
    {"event": "connection.update", "data": {"reachoutTimeLock": {"isActive": True, "timeEnforcementEnds": 1764400000}}},
    {"typeWebhook": "stateInstanceChanged", "stateInstance": "reachout-timelock"},
    {"event": "restriction.update", "status": "active"},
    {"session": "default", "status": "connected", "isRestricted": True},
    {"session": "default", "status": "connected", "isRestricted": "true"},
    {"session": "default", "status": "nomor dibatasi"},
]
SAY_THAT_IT_IS_OVER = [
    {"event": "account.unrestricted"},
    {"event": "account.restriction_lifted"},
    {"event": "session.status", "payload": {"name": "default", "status": "restriction ended"}},
    {"event": "session.status", "payload": {"name": "default", "status": "no longer restricted"}},
    {"event": "connection.update", "data": {"reachoutTimeLock": {"isActive": False}}},
    {"event": "connection.update", "data": {"reachoutTimeLock": {"isActive": "False"}}},
    {"session": "default", "status": "unRestricted"},
    {"event": "reachoutTimelockExpired"},
    {"event": "restriction.update", "status": "removed"},
    {"session": "default", "status": "tidak dibatasi lagi"},
]
SAY_NEITHER = [
    {"event": "restriction.update"},
    {"event": "session.status", "payload": {"name": "default", "status": "connected", "isRestricted": False}},
    {"event": "session.status", "payload": {"name": "default", "status": "the restriction will be lifted tomorrow"}},
    {"event": "session.status", "payload": {"name": "default", "status": "WORKING"}},
    # About a customer, and in a customer's words.
    {"event": "contact.restricted", "from": f"{KNOWN}@s.whatsapp.net", "status": "restricted"},
    {"id": "A9", "from": f"{KNOWN}@s.whatsapp.net", "message": "restriction lifted", "isFromMe": False},
    {"id": "A8", "from": f"{KNOWN}@s.whatsapp.net", "message": "restricted", "isFromMe": False},
]


@pytest.mark.parametrize("payload", SAY_SO)
def test_an_event_that_says_so_has_new_customers_wait(shop, payload):
    post(shop, payload)
    lane = lane_of(shop)
    assert (lane.restriction_step, lane.restricted_until is None) == (1, False)
    set_lane(shop, session_status="connected")
    assert send(shop, NEW).reason == "restricted"
    assert send(shop, KNOWN).status == Status.SENT


@pytest.mark.parametrize("payload", SAY_THAT_IT_IS_OVER)
def test_an_event_that_says_that_it_is_over_lets_them_go(shop, payload):
    waiting = [turn_down(shop), send(shop, OTHER)]
    post(shop, payload)
    lane = lane_of(shop)
    assert (lane.restriction_step, lane.restricted_until, lane.cold_trail) == (0, None, "")
    set_lane(shop, session_status="connected", next_send_at=None)
    drive(shop.pk)
    assert [fresh(message).status for message in waiting] == [Status.SENT] * 2


@pytest.mark.parametrize("payload", SAY_NEITHER)
def test_an_event_that_says_neither_changes_nothing(shop, payload):
    post(shop, payload)
    assert lane_of(shop).restricted_until is None
    turn_down(shop)
    post(shop, {**payload, "timestamp": 2})
    assert lane_of(shop).restricted_until is not None


def test_an_event_that_is_processed_again_says_nothing_new(shop):
    event_id = store_event(shop.pk, json.dumps(SAY_SO[1]).encode(), "application/json")
    assert process_event(event_id)
    license_actions.end_restriction(shop)
    assert reprocess(WebhookEvent.objects.get(pk=event_id))
    assert lane_of(shop).restricted_until is None
