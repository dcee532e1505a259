"""Before the first message to a number, the gateway is asked once if the number has WhatsApp (over a real socket)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection, connections
from django.utils import timezone

from django_kpwa import outbox, personal_data
from django_kpwa.dispatch import drive, driver, failpoints
from django_kpwa.gateway import Gateway
from django_kpwa.gateway.locmem import LocmemGateway
from django_kpwa.models import HoldReason, Lane, License, OutboundMessage, Priority, Recipient, Registration, Status
from django_kpwa.outbox import send_group_message, send_message
from django_kpwa.store import store
from django_kpwa.words import reason_row, status_row
from tests.integration.test_stops import hear
from tests.integration.times import pass_time
from tests.sandbox import SandboxProcess
from tests.shop.models import Sale
from tests.stores import take_lane

from .lanes import fresh, set_lane

pytestmark = pytest.mark.django_db(transaction=True)

NEW, OTHER, THIRD = "6281234567890", "6281234567891", "6281234567892"
MESSAGES = "/admin/django_kpwa/outboundmessage/"


@pytest.fixture(scope="module")
def process():
    with SandboxProcess("--linked", "--group", "Dapur", "--license", "toko:key-1", "--license", "cabang:key-2") as it:
        yield it


@pytest.fixture
def sandbox(process):
    process.reset()
    process.scan("toko")
    process.scan("cabang")
    return process


@pytest.fixture
def shop(sandbox, kpwa, form):
    """A license of the sandbox that is known to be linked."""
    kpwa(GATEWAY="django_kpwa.gateway.http.HttpGateway")
    return add_license(sandbox, "Toko", "key-1")


def add_license(sandbox, name, key):
    license_ = License(name=name, base_url=sandbox.base_url)
    license_.set_api_key(key)
    license_.save()
    Lane.objects.update_or_create(license=license_, defaults={"session_status": "connected"})
    return license_


def calls(sandbox):
    """Return the operations that the gateway was asked for, in order."""
    names = {"check-number": "check", "message": "send", "message-group": "group"}
    return [names[call["operation"]] for call in sandbox.log() if call.get("operation") in names]


def sent_to(sandbox):
    return [delivery["recipient"] or delivery["group"] for delivery in sandbox.ledger()]


def send(license_, *numbers, **options):
    """Queue a message to each number, drive the license, and return the messages."""
    messages = [send_message(number, f"struk {number}", license=license_, **options) for number in numbers]
    drive(license_.pk)
    return [fresh(message) for message in messages]


def known():
    return dict(Recipient.objects.values_list("number", "registered"))


def pass_ten_minutes():
    pass_time(minutes=10, seconds=1)
    Lane.objects.update(check_hour=None)  # this is an hour of the clock, not a moment


def test_a_number_is_asked_about_once_and_then_written_to(shop, sandbox):
    (message,) = send(shop, NEW)
    assert (message.status, message.attempts_made, message.attempts.count()) == (Status.SENT, 1, 1)
    send(shop, NEW, NEW)
    send(shop, NEW)
    assert calls(sandbox) == ["check", "send", "send", "send", "send"]
    assert known() == {NEW: Registration.YES}
    assert Lane.objects.values_list("checked_today", "checked_in_hour").get() == (1, 1)


def test_groups_and_whoever_was_written_to_or_wrote_are_not_asked_about(shop, sandbox):
    hear(shop, "halo", sender=NEW)
    Recipient.objects.create(license=shop, number=OTHER, first_sent_at=timezone.now() - timedelta(days=900))
    send_group_message("Dapur", "pesanan", license=shop)
    send(shop, NEW, OTHER)
    assert calls(sandbox) == ["group", "send", "send"]


def test_a_wrong_no_costs_ten_minutes_and_no_attempt(shop, sandbox, operator):
    sandbox.set_faults(check_no_once=1)
    (message,) = send(shop, NEW)
    assert (message.status, message.reason, message.attempts_made) == (Status.QUEUED, HoldReason.CHECKING, 0)
    assert 9 * 60 < (message.due_at - timezone.now()).total_seconds() <= 600
    assert "may have no WhatsApp" in str(status_row(message).label)
    assert not outbox.send_now(message)
    shown = operator.get(f"{MESSAGES}{message.pk}/change/").content.decode()
    assert "That is sometimes wrong: it is asked once more." in shown
    assert "Send now" not in shown
    drive(shop.pk)
    assert calls(sandbox) == ["check"]
    pass_ten_minutes()
    drive(shop.pk)
    assert (fresh(message).status, fresh(message).reason) == (Status.SENT, "")
    assert calls(sandbox) == ["check", "check", "send"]


def test_two_times_no_is_told_and_another_number_is_offered(shop, sandbox, operator, client):
    sandbox.set_registered(NEW, False)
    sale = Sale.objects.create(status=Sale.Status.PAID, customer_phone=NEW)
    message = OutboundMessage.objects.for_source(sale).get()
    OutboundMessage.objects.update(due_at=timezone.now(), license=shop)
    drive(shop.pk)
    assert fresh(message).reason == HoldReason.CHECKING
    pass_ten_minutes()
    drive(shop.pk)
    message = fresh(message)
    assert (message.status, message.reason, message.attempts_made) == (Status.FAILED, "not_registered", 0)
    assert reason_row(message).label == "this number has no WhatsApp"
    assert calls(sandbox) == ["check", "check"]
    shown = operator.get(f"{MESSAGES}{message.pk}/change/").content.decode()
    assert "his number has no WhatsApp" in shown
    assert 'kpwa-button kpwa-primary" href' in shown
    assert "Send to another number" in shown
    outbox.send_to_another_number(message, OTHER)
    drive(shop.pk)
    assert sent_to(sandbox) == [OTHER]


def test_a_no_is_good_for_a_day_and_stops_nobody(shop, sandbox):
    sandbox.set_registered(NEW, False)
    send(shop, NEW)
    pass_ten_minutes()
    drive(shop.pk)
    pass_time(hours=23)
    (again,) = send(shop, NEW)
    assert (again.status, calls(sandbox)) == (Status.FAILED, ["check", "check"])
    assert store().why_stopped(NEW) is None
    pass_time(hours=1)
    sandbox.set_registered(NEW, True)
    (later,) = send(shop, NEW)
    assert (later.status, calls(sandbox)) == (Status.SENT, ["check", "check", "check", "send"])


def test_who_sends_again_may_know_better(shop, sandbox):
    sandbox.set_faults(check_no=1)
    (message,) = send(shop, NEW)
    pass_ten_minutes()
    drive(shop.pk)
    assert fresh(message).status == Status.FAILED
    assert outbox.resend(fresh(message))
    drive(shop.pk)
    assert fresh(message).status == Status.SENT
    assert calls(sandbox) == ["check", "check", "send"]


@pytest.mark.parametrize("fault", ["error_500", "html_200", "rate_limited_429", "revoked_key", "reset_before"])
def test_where_asking_fails_the_message_is_sent_as_ever(shop, sandbox, fault):
    sandbox.set_faults(**{fault: {"probability": 1, "operation": "check-number"}})
    (message,) = send(shop, NEW)
    assert (message.status, known()) == (Status.SENT, {NEW: Registration.NOT_SAID})
    assert Lane.objects.get().pause_reason == ""


def test_an_answer_that_takes_too_long_is_not_waited_for(shop, sandbox, monkeypatch):
    monkeypatch.setattr(driver, "MAX_CHECK_SECONDS", 0.3)
    sandbox.set_faults(check_slow={"amount": 60})
    (message,) = send(shop, NEW)
    assert (message.status, known()) == (Status.SENT, {NEW: Registration.NOT_SAID})


class BrokenGateway(LocmemGateway):
    def check_number(self, phone_number):
        raise NotImplementedError


def test_a_gateway_class_that_cannot_be_asked_sends_all_the_same(license_, kpwa, caplog):
    kpwa(GATEWAY=f"{__name__}.BrokenGateway")
    assert issubclass(BrokenGateway, Gateway)
    Lane.objects.update_or_create(license=license_, defaults={"session_status": "connected"})
    messages = send(license_, NEW, OTHER)
    assert {message.status for message in messages} == {Status.SENT}
    assert "while checking a number" in caplog.text
    assert NEW not in caplog.text


def test_a_site_may_do_without(shop, sandbox, kpwa):
    kpwa(CHECK_NUMBERS=False)
    send(shop, NEW)
    assert calls(sandbox) == ["send"]


def test_above_sixty_in_an_hour_and_two_hundred_a_day_messages_are_sent_unasked(shop, sandbox):
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    set_lane(shop, check_hour=hour, checked_in_hour=59, check_day=timezone.localdate(), checked_today=198)
    assert {message.status for message in send(shop, NEW, OTHER)} == {Status.SENT}
    assert calls(sandbox) == ["check", "send", "send"]
    set_lane(shop, check_hour=hour - timedelta(hours=1))
    assert {message.status for message in send(shop, THIRD, "6281200000009")} == {Status.SENT}
    assert calls(sandbox)[3:] == ["check", "send", "send"]
    assert Lane.objects.values_list("checked_today", "checked_in_hour").get() == (200, 1)
    set_lane(shop, check_day=timezone.localdate() - timedelta(days=1))
    send(shop, "6281200000010")
    assert calls(sandbox)[6:] == ["check", "send"]


def test_a_number_that_waits_for_the_second_look_is_sent_to_where_nobody_may_ask_any_more(shop, sandbox):
    sandbox.set_faults(check_no=1)
    (message,) = send(shop, NEW)
    pass_time(minutes=11)
    set_lane(shop, check_day=timezone.localdate(), checked_today=200)
    drive(shop.pk)
    assert (fresh(message).status, calls(sandbox)) == (Status.SENT, ["check", "send"])


def test_what_goes_to_somebody_who_wrote_or_to_a_group_goes_before_a_check(shop, sandbox):
    hear(shop, "halo", sender=THIRD)
    send_message(NEW, "cold", license=shop)
    send_message(OTHER, "cold", license=shop)
    send_message(THIRD, "warm", license=shop)
    send_group_message("Dapur", "pesanan", license=shop)
    send_message(THIRD, "bulk", license=shop, priority=Priority.BULK)
    drive(shop.pk)
    assert sent_to(sandbox) == [THIRD, "Dapur", NEW, OTHER, THIRD], "a less urgent message must not go first"
    assert calls(sandbox) == ["send", "group", "check", "send", "check", "send", "send"]


def test_while_the_pace_makes_the_lane_wait_the_next_number_is_asked_about(shop, sandbox):
    License.objects.update(pace_min_seconds=8, pace_max_seconds=8)
    for number in (NEW, OTHER):
        send_message(number, "struk", license=shop)
    driven = drive(shop.pk)
    assert calls(sandbox) == ["check", "send", "check"], "the next number must be checked during the wait"
    assert 0 < driven.wait_seconds <= 8
    set_lane(shop, next_send_at=None)
    drive(shop.pk, driven.lease_token)
    assert calls(sandbox) == ["check", "send", "check", "send"]


def test_the_wait_of_the_pace_is_not_made_longer_by_asking(shop, sandbox):
    License.objects.update(pace_min_seconds=8, pace_max_seconds=8)
    sandbox.set_faults(check_slow={"amount": 1})
    send(shop, NEW, OTHER)
    lane = Lane.objects.get()
    last = Recipient.objects.get(number=NEW).last_sent_at
    assert abs((lane.next_send_at - last).total_seconds() - 8) < 0.5
    assert calls(sandbox) == ["check", "send", "check"]


def test_what_may_not_go_out_today_is_not_asked_about(shop, sandbox):
    License.objects.update(in_use_since=timezone.localdate(), cold_limit=1)
    send(shop, NEW, OTHER)
    assert calls(sandbox) == ["check", "send"]
    assert OutboundMessage.objects.get(recipient=OTHER).reason == HoldReason.COLD_LIMIT
    assert Lane.objects.get().cold_sent == 1


def test_a_number_without_whatsapp_costs_nothing_of_the_days_limit(shop, sandbox):
    sandbox.set_registered(NEW, False)
    License.objects.update(in_use_since=timezone.localdate(), cold_limit=1)
    send(shop, NEW, OTHER)
    assert sent_to(sandbox) == [OTHER]
    assert Lane.objects.get().cold_sent == 1


def test_who_writes_while_their_number_is_in_question_gets_it_at_once(shop, sandbox):
    sandbox.set_faults(check_no=1)
    (message,) = send(shop, NEW)
    assert message.is_put_off
    hear(shop, "struknya mana?", sender=NEW)
    drive(shop.pk)
    assert (fresh(message).status, calls(sandbox)) == (Status.SENT, ["check", "send"])


class Killed(BaseException):
    pass


def die_at(monkeypatch, moment):
    def die():
        raise Killed

    monkeypatch.setattr(failpoints, moment, die)
    # A process that is killed gives nothing back.
    monkeypatch.setattr(driver._Driver, "_let_go", lambda self: None)


@pytest.mark.parametrize(("moment", "asked"), [("after_check", 2), ("before_claim", 1)])
def test_a_worker_killed_around_a_check_leaves_no_doubt(shop, sandbox, monkeypatch, moment, asked):
    send_message(NEW, "struk", license=shop)
    with monkeypatch.context() as patch:
        if moment == "before_claim":
            # Die at the claim after the check. The first claim is part of taking the lane, or comes before the check.
            ask = driver._Driver._ask_about
            patch.setattr(driver._Driver, "_ask_about", lambda *a: (ask(*a), die_at(patch, "before_claim")))
        else:
            die_at(patch, moment)
        with pytest.raises(Killed):
            drive(shop.pk)
    message = OutboundMessage.objects.get()
    assert (message.status, message.attempts_made, message.attempts.count()) == (Status.QUEUED, 0, 0)
    set_lane(shop, lease_expires_at=timezone.now() - timedelta(seconds=1))
    drive(shop.pk)
    assert (fresh(message).status, fresh(message).in_doubt) == (Status.SENT, False)
    assert calls(sandbox) == ["check"] * asked + ["send"], "only a number without a stored answer is checked again"
    assert Lane.objects.get().checked_today == asked


def test_who_has_lost_the_lease_counts_and_keeps_nothing(license_, form):
    message = send_message(NEW, "struk", license=license_)
    store().ensure_lane(license_.pk)
    lease, _ = take_lane(license_.pk)
    now, today = timezone.now(), timezone.localdate()
    assert store().count_check(lease, now, today, 1, 9)
    assert not store().count_check(lease, now, today, 1, 9)
    assert store().note_checked(lease, 60, message.pk, NEW, Registration.YES)
    store().release_lease(lease)
    assert not store().count_check(lease, now, today, 9, 9)
    assert not store().note_checked(lease, 60, message.pk, NEW, Registration.NO)
    assert (known(), Lane.objects.get().checked_today) == ({NEW: Registration.YES}, 1)


def test_workers_at_once_ask_no_more_often_than_they_may(license_, form):
    set_lane_hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    Lane.objects.update_or_create(
        license=license_,
        defaults={
            "session_status": "connected",
            "check_hour": set_lane_hour,
            "checked_in_hour": 57,
            "check_day": timezone.localdate(),
            "checked_today": 57,
        },
    )
    for n in range(12):
        send_message(f"62812345{n:05}", "struk", license=license_)

    def work(_):
        try:
            drive(license_.pk)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1 if connection.vendor == "sqlite" else 4) as pool:
        list(pool.map(work, range(8)))
    assert Lane.objects.get().checked_in_hour <= 60
    assert Recipient.objects.filter(registered=Registration.YES).count() <= 3
    assert OutboundMessage.objects.filter(status=Status.SENT).count() == 12


def test_two_licenses_ask_each_for_itself(shop, sandbox):
    branch = add_license(sandbox, "Cabang", "key-2")
    set_lane(shop, check_day=timezone.localdate(), checked_today=200)
    send(shop, NEW)
    send(branch, NEW, OTHER)
    assert calls(sandbox) == ["send", "check", "send", "check", "send"]
    assert set(Recipient.objects.filter(registered=Registration.YES).values_list("license_id", flat=True)) == {
        branch.pk
    }


def test_what_is_known_of_a_number_is_told_and_forgotten(shop, sandbox):
    sandbox.set_faults(check_no=1)
    (message,) = send(shop, NEW)
    held = personal_data.held_about(NEW)["stops"]
    assert [(row["registered"], row["checked_at"] is not None) for row in held] == [(Registration.NO_ONCE, True)]
    personal_data.forget(NEW)
    assert not Recipient.objects.exists()
    lease, _ = take_lane(shop.pk)
    assert not store().note_checked(lease, 60, message.pk, NEW, Registration.NO), "a forgotten number was stored again"
    assert not Recipient.objects.exists()


def test_what_is_known_of_a_stopped_number_is_forgotten_too(shop, sandbox):
    send(shop, NEW)
    hear(shop, "stop", sender=NEW)
    personal_data.forget(NEW)
    assert {(row.registered, row.checked_at) for row in Recipient.objects.all()} == {("", None)}
