"""With a frozen or wrong process clock, whatever is compared with the database's time uses the database's clock."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import datetime, timedelta, timezone

import pytest
import time_machine
from django.db import transaction
from django.utils import timezone as django_timezone

from django_kpwa import statistics, testing
from django_kpwa.models import HourlyStatistic, OutboundMessage, Status
from django_kpwa.outbox import send_message
from tests.cli import kpwa_json
from tests.shop.models import Sale

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("license_")]

NUMBER = "0812 3456 7890"
PAST, FUTURE = datetime(2021, 3, 5, 9, tzinfo=timezone.utc), datetime(2041, 3, 5, 9, tzinfo=timezone.utc)


@pytest.fixture(params=[PAST, FUTURE], ids=["past", "future"], autouse=True)
def frozen(request):
    """The process's clock stands still at this time."""
    with time_machine.travel(request.param, tick=False):
        yield


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("in_a_transaction", [True, False])
def test_a_receipt_is_delivered_and_expires_by_the_databases_clock(in_a_transaction):
    with transaction.atomic() if in_a_transaction else nullcontext():
        Sale.objects.create(status=Sale.Status.PAID, customer_phone=NUMBER)
    message = OutboundMessage.objects.get()
    assert timedelta(days=2) - (message.expires_at - message.created_at) < timedelta(seconds=10)
    [receipt] = testing.deliver()
    assert receipt.text.startswith("Struk")


def test_times_that_a_test_names_count_from_its_own_now_and_stay_as_they_were_named():
    later = django_timezone.now() + timedelta(days=1)
    soon = send_message(NUMBER, "soon", expires_at=django_timezone.now() + timedelta(hours=1))
    tomorrow = send_message(NUMBER, "tomorrow", send_after=later)
    send_message(NUMBER, "now", send_after=django_timezone.now())
    stale = send_message(NUMBER, "stale", expires_at=django_timezone.now() - timedelta(hours=1))
    assert {sent.text for sent in testing.deliver()} == {"soon", "now"}
    assert testing.deliver() == []
    for message in (soon, tomorrow, stale):
        message.refresh_from_db()
    assert (soon.status, tomorrow.status, stale.status) == (Status.SENT, Status.QUEUED, Status.EXPIRED)
    assert tomorrow.due_at == later
    assert soon.expires_at == django_timezone.now() + timedelta(hours=1)
    with time_machine.travel(later + timedelta(minutes=1), tick=False):
        assert [sent.text for sent in testing.deliver()] == ["tomorrow"]


def test_statistics_and_the_command_line_count_back_from_the_databases_now():
    send_message(NUMBER, "struk")
    testing.deliver()
    statistics.roll_up()
    assert sum(HourlyStatistic.objects.values_list("sent", flat=True)) == 1
    assert len(kpwa_json("messages", "--since", "1h")[1]) == 1
