"""A message that is put off shows why and until when on every page, and can be sent now."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import formats, timezone, translation

from django_kpwa import outbox
from django_kpwa.license_conditions import queues_of
from django_kpwa.models import Heartbeat, HoldReason, Lane, OutboundMessage, Priority, Status
from django_kpwa.words import reason_row, status_row
from tests.cli import kpwa, kpwa_json
from tests.shop.models import Sale

from .test_counter import a_person, chip, words

pytestmark = pytest.mark.django_db
NUMBER = "6281234567890"
LIST = "/admin/django_kpwa/outboundmessage/"


@pytest.fixture(autouse=True)
def linked(license_):
    for part in ("sweep", "worker", "beat"):
        Heartbeat.objects.note(part)
    Lane.objects.create(license=license_, session_status="connected", session_seen_at=timezone.now())
    return license_


@pytest.fixture
def morning():
    """A time within the next hours, in whole minutes."""
    return (timezone.localtime() + timedelta(hours=5)).replace(second=0, microsecond=0)


@pytest.fixture
def sale():
    return Sale.objects.create()


@pytest.fixture
def put_off(sale, morning):
    message = outbox.send_message(NUMBER, "Struk", source=sale, priority=Priority.BULK)
    OutboundMessage.objects.filter(pk=message.pk).update(due_at=morning, reason=HoldReason.QUIET_HOURS)
    message.refresh_from_db()
    return message


def told(morning, language="en"):
    with translation.override(language):
        at = formats.date_format(morning, "TIME_FORMAT")
    return f"ditunda s.d. {at}: jam tenang" if language == "id" else f"waits until {at}: quiet hours"


@pytest.mark.parametrize("language", ["en", "id"])
def test_its_status_says_why_and_until_when(put_off, morning, language):
    with translation.override(language):
        assert str(status_row(put_off).label) == told(morning, language)


def test_a_time_of_another_day_is_told_with_its_date(put_off):
    put_off.due_at = timezone.now() + timedelta(days=2)
    with translation.override("id"):
        assert f"{timezone.localtime(put_off.due_at):%d}" in status_row(put_off).label


def test_once_its_time_has_come_it_waits_for_its_turn_like_any_other(put_off):
    put_off.due_at = timezone.now() - timedelta(seconds=1)
    assert status_row(put_off).label == Status.QUEUED.label
    assert "waiting for its turn" in str(status_row(put_off).meaning)
    assert not reason_row(put_off).label


@pytest.mark.parametrize(
    ("status", "says_why"),
    [(Status.EXPIRED, True), (Status.UNKNOWN, True), (Status.CANCELLED, False), (Status.SENDING, False)],
)
def test_of_what_waited_in_vain_alone_it_is_told_later(put_off, status, says_why):
    put_off.status = status
    assert bool(reason_row(put_off).label) == says_why


def test_the_chip_says_it_and_offers_to_send_it_now(client, sale, put_off, morning):
    cashier = a_person("view_outboundmessage", "decide_outboundmessage")
    shown = chip(sale, cashier)
    assert told(morning) in words(shown)
    assert "Send now" not in chip(sale)
    address = f"/kpwa/messages/{put_off.uuid}/send-now/"
    assert address in shown
    client.force_login(cashier)
    client.post(address)
    put_off.refresh_from_db()
    assert not put_off.is_put_off
    assert LogEntry.objects.get().get_change_message() == "Sent from the counter without waiting."
    assert "Send now" not in chip(sale, cashier)
    client.post(address)
    assert LogEntry.objects.count() == 1


def test_list_and_page_say_it_and_have_the_button(operator, put_off, morning):
    assert told(morning) in operator.get(LIST).content.decode()
    page = operator.get(f"{LIST}{put_off.pk}/change/").content.decode()
    assert told(morning) in page
    assert "neither bulk messages nor late ones are sent" in page
    assert f"{LIST}{put_off.pk}/send_now/" in page
    operator.post(f"{LIST}{put_off.pk}/send_now/")
    put_off.refresh_from_db()
    assert (put_off.is_put_off, put_off.priority) == (False, Priority.NORMAL)
    assert f"{LIST}{put_off.pk}/send_now/" not in operator.get(f"{LIST}{put_off.pk}/change/").content.decode()


def test_many_are_sent_now_by_an_action(operator, put_off):
    fields = {"action": "send_now", "_selected_action": [put_off.pk], "confirmed": "yes"}
    operator.post(LIST, fields)
    put_off.refresh_from_db()
    assert not put_off.is_put_off


def test_the_dashboard_counts_what_is_put_off(operator, put_off, morning):
    outbox.send_message(NUMBER, "live")
    page = words(operator.get("/admin/django_kpwa/dashboard/").content.decode())
    assert f"1 {told(morning).removeprefix('waits ')}" in page


def test_of_a_long_backlog_the_next_message_tells_it(put_off, linked, morning):
    outbox.send_message(NUMBER, "bulk", priority=Priority.BULK, send_after=morning + timedelta(hours=1))
    [told_of] = queues_of([linked.pk], 1)[linked.pk].put_off
    assert (told_of.reason, told_of.until, told_of.count) == (HoldReason.QUIET_HOURS, morning, None)
    assert queues_of([linked.pk], 2)[linked.pk].put_off[0].count.number == 1


def test_the_command_line_says_it_and_sends_it_now(put_off, morning):
    line = kpwa("messages")[1].splitlines()[1]
    assert f"quiet_hours: until {morning:%Y-%m-%d %H:%M}" in line
    _, [listed] = kpwa_json("messages")
    assert listed["put_off_until"] is not None
    assert "put off: quiet hours; due in" in kpwa("dispatch")[1]
    assert kpwa("messages", "send-now", str(put_off.pk)) == (0, f"{put_off.pk}: due now.\n")
    assert kpwa("messages", "send-now", str(put_off.pk))[0] == 1
    assert kpwa_json("messages")[1][0]["put_off_until"] is None
