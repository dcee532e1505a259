"""A number that is new to WhatsApp writes to few new customers a day, and to everyone who has written to it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, connections
from django.utils import timezone

from django_kpwa.dispatch import drive, driver
from django_kpwa.exceptions import NotConnectedError
from django_kpwa.gateway import locmem
from django_kpwa.license_conditions import new_customers
from django_kpwa.models import HoldReason, Lane, License, OutboundMessage, Status
from django_kpwa.outbox import send_group_message, send_message
from django_kpwa.store import store
from django_kpwa.words import status_row
from tests.cli import kpwa, kpwa_json
from tests.integration.test_stops import hear
from tests.integration.times import pass_time
from tests.stores import take_lane

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def new(license_):
    """The license, with a limit of three new customers a day."""
    License.objects.update(in_use_since=timezone.localdate(), cold_limit=3)
    license_.refresh_from_db()
    return license_


def number(n):
    return f"62812345{n:05}"


def send(license_, *numbers):
    """Queue a message for each number, drive the license, and return the numbers that it wrote to."""
    before = len(locmem.outbox)
    for n in numbers:
        send_message(number(n), "struk", license=license_)
    drive(license_.pk)
    return [message.to for message in locmem.outbox[before:]]


def held():
    return OutboundMessage.objects.filter(status=Status.QUEUED, reason=HoldReason.COLD_LIMIT)


@pytest.mark.parametrize(
    ("age", "limit"),
    [(0, 20), (3, 20), (4, 50), (7, 50), (8, 100), (14, 100), (15, 200), (30, 200), (31, None), (4000, None)],
)
def test_the_limit_grows_with_the_age_of_the_number(age, limit):
    today = date(2026, 11, 28)
    assert License(in_use_since=today - timedelta(days=age)).cold_limit_on(today) == limit


def test_a_site_and_a_license_have_limits_of_their_own(kpwa):
    today = date(2026, 11, 28)
    assert License().cold_limit_on(today) is None
    assert License(in_use_since=today, cold_limit=7).cold_limit_on(today) == 7
    assert License(cold_limit=7).cold_limit_on(today) == 7
    assert License(in_use_since=today, cold_limit=0).cold_limit_on(today) is None
    kpwa(COLD_RAMP=[(10, 5)])
    assert License(in_use_since=today).cold_limit_on(today + timedelta(days=9)) == 5
    assert License(in_use_since=today).cold_limit_on(today + timedelta(days=10)) is None
    kpwa(COLD_RAMP=[])
    assert License(in_use_since=today).cold_limit_on(today) is None


def test_a_day_that_is_still_to_come_is_refused(license_):
    license_.in_use_since = timezone.localdate() + timedelta(days=2)
    with pytest.raises(ValidationError, match="still to come"):
        license_.full_clean()


def test_above_the_limit_new_customers_wait_for_tomorrow_and_others_do_not(new, form):
    hear(new, "halo", sender=number(90))
    assert send(new, 1, 2, 3, 4, 90, 5, 90) == [number(n) for n in (90, 90, 1, 2, 3)], "those who wrote go first"
    send_group_message("Kasir", "laporan", license=new)
    drive(new.pk)
    assert locmem.outbox[-1].group_name == "Kasir"
    tomorrow = timezone.localdate() + timedelta(days=1)
    assert [timezone.localtime(message.due_at).date() for message in held()] == [tomorrow] * 2
    assert {message.attempts_made for message in held()} == {0}
    assert "limit for new customers" in str(status_row(held().first()).label)
    lane = Lane.objects.get()
    assert (lane.cold_sent, lane.cold_day) == (3, timezone.localdate())
    a_day_passes()
    let_evening_come()
    drive(new.pk)
    assert [message.to for message in locmem.outbox[-2:]] == [number(4), number(5)]


def a_day_passes():
    """Start a new day: the lane has counted nothing yet, and all held messages are due this evening."""
    pass_time(days=1)
    yesterday = timezone.localdate() - timedelta(days=1)
    Lane.objects.update(cold_day=yesterday)
    OutboundMessage.objects.exclude(cold_on=None).update(cold_on=yesterday)
    held().update(due_at=timezone.now() + timedelta(hours=1))


def let_evening_come():
    held().update(due_at=timezone.now() - timedelta(seconds=1))


def test_a_days_own_new_customers_go_before_those_that_were_held(new, form):
    assert send(new, 1, 2, 3, 4, 5, 6) == [number(n) for n in (1, 2, 3)]
    a_day_passes()
    assert send(new, 11, 12) == [number(n) for n in (11, 12)]
    let_evening_come()
    drive(new.pk)
    assert locmem.outbox[-1].to == number(4), "the oldest held message takes the last place"
    assert held().count() == 2
    assert Lane.objects.get().cold_sent == 3
    a_day_passes()
    let_evening_come()
    drive(new.pk)
    assert [message.to for message in locmem.outbox[-2:]] == [number(5), number(6)]
    assert not held().exists()


def test_a_message_is_counted_once_a_day_however_often_it_is_tried(new):
    for _ in range(2):
        locmem.fail_next(NotConnectedError("no route"))
        send(new, *([] if OutboundMessage.objects.exists() else [1]))
        OutboundMessage.objects.update(due_at=timezone.now() - timedelta(seconds=1))
    assert Lane.objects.get().cold_sent == 1
    drive(new.pk)
    assert send(new, 2, 3, 4) == [number(2), number(3)]


def test_whoever_writes_does_not_wait(new):
    send(new, 1, 2, 3, 4)
    assert held().count() == 1
    hear(new, "struknya mana?", sender=number(4))
    assert not held().exists()
    drive(new.pk)
    assert locmem.outbox[-1].to == number(4)


def test_a_worker_killed_before_its_call_stays_counted(new, monkeypatch):
    class Killed(BaseException):
        pass

    def kill():
        raise Killed

    send_message(number(1), "struk", license=new)
    monkeypatch.setattr("django_kpwa.dispatch.driver._Driver._call", lambda *_: kill())
    with pytest.raises(Killed):
        drive(new.pk)
    monkeypatch.undo()
    pass_time(hours=1)
    Lane.objects.update(cold_day=timezone.localdate())
    assert send(new, 2, 3, 4) == [number(2), number(3)]


def test_workers_that_drive_at_once_keep_to_the_limit(new):
    if connection.vendor == "sqlite":
        workers = 1
    else:
        workers = 4
    for n in range(12):
        send_message(number(n), "struk", license=new)

    def work(_):
        try:
            drive(new.pk)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, range(workers * 3)))
    assert len(locmem.outbox) == 3
    assert held().count() == 9


def test_where_nobody_has_answered_nothing_waits_and_it_is_asked_for(license_):
    assert len(send(license_, *range(30))) == 30
    lane = Lane.objects.select_related("license").get()
    lane.license.lane = lane
    assert new_customers(lane.license, timezone.now()).is_asked
    assert "it is not set since when its number has been in use" in kpwa("doctor")[1]
    assert Lane.objects.get().cold_sent == 0


def test_a_higher_limit_lets_them_go_at_once(new, operator):
    send(new, 1, 2, 3, 4, 5)
    assert held().count() == 2
    code, told = kpwa_json("licenses", "new-customers", new.name, "--limit", "4")
    assert (code, told["limit"], told["sent_today"]) == (0, 4, 3)
    drive(new.pk)
    assert held().count() == 1
    assert kpwa("licenses", "new-customers", new.name)[1] == (
        f"{new.name}: new customers: 4 of at most 4 today; its number: in use since {timezone.localdate()}.\n"
    )
    assert kpwa_json("licenses", "new-customers", new.name, "--limit", "none")[1]["limit"] is None
    drive(new.pk)
    assert not held().exists()


def test_the_page_that_links_asks_once(license_, operator):
    page = f"/admin/django_kpwa/license/{license_.pk}/link/"
    assert "How long has this number been in use with WhatsApp?" in operator.get(page).content.decode()
    assert operator.post(f"{page}in_use/", {"days": "7"}).url == page
    license_.refresh_from_db()
    assert license_.in_use_since == timezone.localdate() - timedelta(days=7)
    assert "How long has this number" not in operator.get(page).content.decode()
    assert "0 of 50 today" in operator.get(f"/admin/django_kpwa/license/{license_.pk}/change/").content.decode()


@pytest.mark.parametrize("days", ["", "1", "-5", "yesterday"])
def test_an_answer_that_is_none_changes_nothing(license_, operator, days):
    operator.post(f"/admin/django_kpwa/license/{license_.pk}/link/in_use/", {"days": days})
    license_.refresh_from_db()
    assert license_.in_use_since is None


@pytest.fixture
def written(monkeypatch):
    """The messages that a driver has started to render. No rendering finishes."""
    begun = []
    monkeypatch.setattr(driver, "render_message", lambda message_id, *_, **__: begun.append(message_id))
    return begun


def unwritten(license_, n, **columns):
    message = send_message(number(n), "struk", license=license_)
    OutboundMessage.objects.filter(pk=message.pk).update(renderer="receipts/none", text="", **columns)
    return message


def test_beyond_the_limit_no_text_is_written_for_a_new_customer(new, written, form):
    send(new, 1, 2, 3)
    waits = unwritten(new, 4)
    drive(new.pk)
    waits.refresh_from_db()
    assert written == []
    assert (waits.is_put_off, waits.reason, waits.renderings_begun) == (True, HoldReason.COLD_LIMIT, 0)
    assert Lane.objects.get().cold_sent == 3


def test_the_texts_of_all_others_are_written(new, written, form):
    hear(new, "halo", sender=number(90))
    send(new, 1, 2)
    within = unwritten(new, 3)
    drive(new.pk)
    assert written == [within.pk]
    send(new, 4)
    counted = unwritten(new, 5, cold_on=timezone.localdate())
    warm = unwritten(new, 90)
    drive(new.pk)
    assert written == [within.pk, counted.pk, warm.pk]
    assert not held().exists()


@pytest.mark.parametrize("language", ["en", "id"])
def test_the_form_of_a_license_takes_the_day_that_it_shows(new, operator, language):
    page = f"/admin/django_kpwa/license/{new.pk}/change/"
    shown = operator.get(page, headers={"accept-language": language}).content.decode()
    assert f'<input type="date" name="in_use_since" value="{timezone.localdate().isoformat()}"' in shown
    send(new, 1, 2, 3, 4)
    data = {"name": new.name, "is_active": "on", "in_use_since": "2024-01-31", "cold_limit": ""}
    assert operator.post(page, data, headers={"accept-language": language}).status_code == 302
    new.refresh_from_db()
    assert (new.in_use_since, new.cold_limit) == (date(2024, 1, 31), None)
    assert not held().exists()


def test_who_has_lost_the_lease_counts_nothing_and_may_not_send(new, form):
    message = send_message(number(1), "struk", license=new)
    store().ensure_lane(new.pk)
    lease, _ = take_lane(new.pk)
    today = timezone.localdate()
    assert store().count_cold(lease, message.pk, today, 3)
    assert store().count_cold(lease, message.pk, today, 3), "the message was already counted"
    store().release_lease(lease)
    assert not store().count_cold(lease, message.pk, today, 3)
    assert not store().count_cold(lease, send_message(number(2), "struk", license=new).pk, today, 3)
    assert Lane.objects.get().cold_sent == 1
