"""How many of the month's messages went to people who have not written since."""

from __future__ import annotations

from datetime import datetime, timedelta
from datetime import timezone as datetime_timezone

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_kpwa import statistics
from django_kpwa.models import Lane, License, OutboundMessage, Recipient, Status
from django_kpwa.outbox import send_group_message, send_message
from django_kpwa.statistics import count_unanswered, month_of, roll_up
from django_kpwa.store import store
from tests.cli import kpwa, kpwa_json

pytestmark = pytest.mark.django_db(transaction=True)

# In Jakarta, the month began five hours ago.
NOW = datetime(2026, 11, 30, 22, tzinfo=datetime_timezone.utc)
MONTH = datetime(2026, 11, 30, 17, tzinfo=datetime_timezone.utc)
NEW, OTHER = "6281234567890", "6281234567891"


@pytest.fixture
def shop(license_):
    store().ensure_lane(license_.pk)
    return license_


def sent(license_, number=NEW, at=NOW, status=Status.SENT):
    message = send_message(number, "struk", license=license_)
    columns = {"status": status, "created_at": at, "settled_at": at}
    OutboundMessage.objects.filter(pk=message.pk).update(**columns, sent_at=at if status != Status.FAILED else None)


def wrote(license_, number=NEW, at=NOW):
    Recipient.objects.update_or_create(license=license_, number=number, defaults={"last_inbound_at": at})


def counted(license_, now=NOW):
    Lane.objects.update(unanswered_at=None)
    count_unanswered(now)
    return Lane.objects.get(pk=license_.pk).unanswered


def test_the_month_is_that_of_the_site(shop):
    assert month_of(NOW, shop) == MONTH
    assert month_of(MONTH - timedelta(microseconds=1), shop).month == 11
    sent(shop, at=MONTH - timedelta(seconds=1))
    sent(shop, OTHER, at=MONTH)
    assert counted(shop) == 1


def test_who_writes_answers_all_that_was_sent_to_them_before(shop):
    for minutes in (50, 40, 20):
        sent(shop, at=NOW - timedelta(minutes=minutes))
    sent(shop, OTHER)
    assert counted(shop) == 4
    wrote(shop, at=NOW - timedelta(minutes=30))
    assert counted(shop) == 2
    wrote(shop, at=NOW)
    assert counted(shop) == 1
    wrote(shop, OTHER, at=NOW - timedelta(days=40))
    assert counted(shop) == 1


def test_what_arrived_counts_and_groups_and_failures_do_not(shop):
    for status in (Status.SENT, Status.DELIVERED, Status.READ, Status.FAILED):
        sent(shop, status=status)
    send_group_message("Dapur", "pesanan", license=shop)
    OutboundMessage.objects.filter(recipient_type="group").update(
        status=Status.SENT, sent_at=NOW, created_at=NOW, settled_at=NOW
    )
    assert counted(shop) == 3


def test_an_answer_to_another_license_is_none(shop):
    branch = License(name="Cabang")
    branch.set_api_key("test-api-key-0002")
    branch.save()
    store().ensure_lane(branch.pk)
    sent(shop)
    sent(branch)
    wrote(branch)
    assert (counted(shop), counted(branch)) == (1, 0)


def test_it_is_counted_again_after_ten_minutes_and_only_where_it_may_differ(shop):
    def now_after(**time):
        count_unanswered(NOW + timedelta(**time))
        return Lane.objects.get().unanswered

    sent(shop, at=NOW - timedelta(hours=1))
    assert now_after(minutes=0) == 1
    wrote(shop, at=NOW)
    assert now_after(minutes=9) == 1
    assert now_after(minutes=10) == 0
    sent(shop, at=NOW + timedelta(minutes=11))
    assert now_after(minutes=30) == 0, "no worker has driven the lane since"
    Lane.objects.update(lease_taken_at=NOW + timedelta(minutes=11))
    assert now_after(minutes=30) == 1


def test_of_many_licenses_some_are_counted_at_a_time_and_each_gets_its_turn(shop, monkeypatch):
    monkeypatch.setattr(statistics, "MAX_LICENSES_COUNTED", 2)
    others = [License(name=f"Cabang {number}") for number in range(3)]
    for license_ in (shop, *others):
        license_.set_api_key("test-api-key-0002")
        license_.save()
        store().ensure_lane(license_.pk)
        sent(license_)
    for minutes, expected in ((0, 2), (1, 4), (2, 4)):
        count_unanswered(NOW + timedelta(minutes=minutes))
        assert Lane.objects.filter(unanswered=1).count() == expected


def test_beat_counts_them_where_something_was_sent(shop):
    sent(shop)
    roll_up(NOW)
    assert Lane.objects.get().unanswered == 1


def test_it_is_counted_in_few_queries_and_so_many_messages_at_most(shop, monkeypatch):
    monkeypatch.setattr(statistics, "MAX_UNANSWERED_READ", 3)
    for n in range(5):
        sent(shop, f"62812345678{n:02}", at=NOW + timedelta(minutes=n))
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert counted(shop, NOW + timedelta(hours=1)) == 3
    assert sum("django_kpwa_recipient" in query["sql"] for query in queries) == 1


def show(shop, operator, unanswered, at=None):
    """The HTML of the dashboard and of the license page."""
    License.objects.update(in_use_since=timezone.localdate() - timedelta(days=400))
    Lane.objects.update(unanswered=unanswered, unanswered_at=at or timezone.now())
    addresses = ("dashboard/", f"license/{shop.pk}/change/")
    return [operator.get(f"/admin/django_kpwa/{address}").content.decode() for address in addresses]


WARNING = "WhatsApp restricts numbers that few answer."


def test_above_three_hundred_everybody_is_warned(shop, operator):
    for count, warns in ((300, False), (301, True)):
        card, page = show(shop, operator, count)
        assert f"Without an answer this month: {count}" in card
        assert f"<dd>{count}" in page
        assert (WARNING in card, WARNING in page) == (warns, warns)
        told = kpwa("doctor")[1]
        assert f"messages of this month to people who have not written since: {count}." in told
        assert ("have customers write first" in told) is warns
    assert kpwa_json("licenses", "new-customers", shop.name)[1]["unanswered_this_month"] == 301


@pytest.mark.parametrize(("setting", "warns"), [(10, True), (11, False), (0, False)])
def test_a_site_chooses_from_when_on(shop, operator, settings, setting, warns):
    settings.KPWA = {**settings.KPWA, "UNANSWERED_A_MONTH": setting}
    card, page = show(shop, operator, 11)
    assert (WARNING in card, WARNING in page) == (warns, warns)


def test_the_number_of_last_month_is_not_shown(shop, operator):
    card, page = show(shop, operator, 400, at=timezone.now() - timedelta(days=32))
    assert "Without an answer this month:" not in card
    assert WARNING not in page


def test_it_is_said_in_indonesian_too(shop, operator, settings):
    settings.LANGUAGE_CODE = "id"
    card, page = show(shop, operator, 400)
    assert "Tanpa balasan bulan ini: 400" in card
    assert "WhatsApp membatasi nomor yang jarang dibalas." in page
