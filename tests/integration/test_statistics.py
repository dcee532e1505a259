"""Hourly figures are counted from messages, and counting again gives the same figures."""

from __future__ import annotations

from datetime import datetime, timedelta
from datetime import timezone as datetime_timezone

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_kpwa import outbox
from django_kpwa.models import HISTOGRAM_SECONDS, HourlyStatistic, OutboundMessage, Status
from django_kpwa.outbox import send_message
from django_kpwa.statistics import roll_up

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 4, 10, 30, tzinfo=datetime_timezone.utc)


def settle(status, at, sent_after=None):
    message = send_message("081234567890", "x")
    sent_at = at if sent_after is not None else None
    created_at = at - timedelta(seconds=sent_after or 0)
    OutboundMessage.objects.filter(pk=message.pk).update(
        status=status, settled_at=at, sent_at=sent_at, created_at=created_at
    )


def test_each_hour_counts_what_was_settled_in_it(license_):
    settle(Status.SENT, NOW, sent_after=1.5)
    settle(Status.READ, NOW, sent_after=7)
    settle(Status.FAILED, NOW)
    settle(Status.UNKNOWN, NOW - timedelta(hours=1))
    settle(Status.EXPIRED, NOW - timedelta(hours=1))
    settle(Status.CANCELLED, NOW - timedelta(hours=1))
    send_message("081234567890", "still waiting")
    assert roll_up(NOW) == 2
    earlier, this = HourlyStatistic.objects.order_by("hour")
    assert (this.hour, this.sent, this.failed, this.unknown) == (NOW.replace(minute=0), 2, 1, 0)
    assert (earlier.unknown, earlier.expired, earlier.cancelled, earlier.sent) == (1, 1, 1, 0)


def test_the_histogram_has_one_bucket_a_bound_and_one_beyond(license_):
    for seconds in (0.2, 1, 1.5, 200_000):
        settle(Status.SENT, NOW, sent_after=seconds)
    roll_up(NOW)
    histogram = HourlyStatistic.objects.get().queued_to_sent
    assert len(histogram) == len(HISTOGRAM_SECONDS) + 1
    assert (histogram[0], histogram[1], histogram[-1], sum(histogram)) == (2, 1, 1, 4)


def test_counting_again_replaces_and_follows_a_decision(license_):
    settle(Status.UNKNOWN, NOW)
    roll_up(NOW)
    roll_up(NOW)
    assert HourlyStatistic.objects.get().unknown == 1
    OutboundMessage.objects.update(status=Status.SENT, sent_at=NOW)
    roll_up(NOW)
    statistic = HourlyStatistic.objects.get()
    assert (statistic.unknown, statistic.sent) == (0, 1)


def test_what_has_not_changed_since_is_not_written_again(license_):
    settle(Status.SENT, NOW, sent_after=1)
    settle(Status.FAILED, NOW - timedelta(hours=1))
    assert roll_up(NOW) == 2
    assert roll_up(NOW) == 0
    settle(Status.SENT, NOW, sent_after=1)
    assert roll_up(NOW) == 1
    assert sorted(HourlyStatistic.objects.values_list("sent", "failed")) == [(0, 1), (2, 0)]


def test_hours_long_past_are_left_alone(license_):
    settle(Status.SENT, NOW - timedelta(hours=5), sent_after=1)
    assert roll_up(NOW) == 0


def test_an_hour_whose_doubt_was_decided_in_a_later_one_does_not_keep_it(license_):
    settle(Status.UNKNOWN, NOW - timedelta(hours=1))
    roll_up(NOW - timedelta(hours=1))
    OutboundMessage.objects.update(status=Status.SENT, sent_at=NOW, settled_at=NOW)
    roll_up(NOW)
    earlier, this = HourlyStatistic.objects.order_by("hour")
    assert (earlier.unknown, this.sent) == (0, 1)


@pytest.mark.parametrize("hours", [4, 40, 160])
@pytest.mark.parametrize(
    ("decide", "unknown", "sent_later"), [(outbox.mark_sent, 1, 2), (outbox.resend, 1, 1), (outbox.dismiss, 2, 1)]
)
def test_doubt_that_is_decided_about_hours_later_leaves_its_hour(license_, hours, decide, unknown, sent_later):
    now = timezone.now()
    then = now - timedelta(hours=hours)
    settle(Status.UNKNOWN, then)
    settle(Status.UNKNOWN, then)
    settle(Status.SENT, then, sent_after=1)
    settle(Status.SENT, now, sent_after=1)
    roll_up(then)
    roll_up(now)
    old = HourlyStatistic.objects.order_by("hour").first()
    assert (old.unknown, old.sent) == (2, 1)
    assert decide(OutboundMessage.objects.filter(status=Status.UNKNOWN).first())
    roll_up()
    old.refresh_from_db()
    assert (old.unknown, old.sent) == (unknown, 1)
    later = HourlyStatistic.objects.exclude(pk=old.pk)
    assert sum(statistic.sent for statistic in later) == sent_later


def test_where_no_hour_speaks_of_doubt_no_message_of_it_is_looked_at(license_):
    def statements():
        with CaptureQueriesContext(connection) as captured:
            roll_up(NOW)
        return len(captured)

    settle(Status.SENT, NOW - timedelta(hours=20), sent_after=1)
    settle(Status.SENT, NOW, sent_after=1)
    roll_up(NOW - timedelta(hours=20))
    without = statements()
    HourlyStatistic.objects.filter(hour__lt=NOW - timedelta(hours=10)).update(unknown=3)
    assert statements() == without + 2
    assert statements() == without


def test_hours_in_which_nobody_counted_are_made_good(license_):
    settle(Status.SENT, NOW - timedelta(hours=30), sent_after=1)
    roll_up(NOW - timedelta(hours=30))
    settle(Status.SENT, NOW - timedelta(hours=20), sent_after=1)
    roll_up(NOW)
    assert [statistic.sent for statistic in HourlyStatistic.objects.order_by("hour")] == [1, 1]


def test_only_the_messages_of_the_hours_that_are_counted_are_read(license_):
    # Grouped by license, the messages would be read in the license's order: on SQLite, all of them.
    settle(Status.SENT, NOW, sent_after=1)
    with CaptureQueriesContext(connection) as queries:
        roll_up(NOW)
    grouped = [query["sql"] for query in queries if "GROUP BY" in query["sql"] and "outboundmessage" in query["sql"]]
    assert len(grouped) == 2
    if connection.vendor == "sqlite":
        for sql in grouped:
            with connection.cursor() as cursor:
                plan = " ".join(row[3] for row in cursor.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall())
            assert "kpwa_message_settled" in plan, plan
