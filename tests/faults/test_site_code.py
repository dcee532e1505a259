"""Row 34: a site's own code that raises, hangs or returns nonsense, in a worker."""

from __future__ import annotations

import pytest
from django.db import transaction

from django_kpwa.models import EventStatus, OutboundMessage, Status, WebhookEvent
from tests.shop.models import Sale

from .failing.careless import UNLUCKY
from .harness import wait_for


def sell_one_unlucky_among_four(shop):
    shop.sell(2)
    with transaction.atomic():
        sale = Sale.objects.create(status=Sale.Status.PAID, customer_phone=f"0812999900{UNLUCKY}")
    shop.sold[sale.pk] = 0.0
    shop.numbers.add(f"62812999900{UNLUCKY}")
    shop.sell(2)
    return OutboundMessage.objects.filter(source_id=str(sale.pk))


@pytest.mark.parametrize("how", ["raise", "nonsense"])
def test_a_receipt_that_cannot_be_written_fails_with_its_reason_and_the_others_go_out(shop, how):
    shop.careless = {"render": how}
    unlucky = sell_one_unlucky_among_four(shop)
    worker = shop.start_worker()
    shop.start_beat()
    shop.settle()
    assert shop.statuses() == {Status.SENT: 4, Status.FAILED: 1}
    assert unlucky.get().reason == "render_error"
    assert unlucky.get().reason_words
    assert "could not be rendered" in worker.output


@pytest.mark.parametrize("how", ["hang", "die"])
def test_a_receipt_that_hangs_or_kills_its_process_is_given_up_and_the_others_go_out(shop, how):
    shop.careless = {"render": how}
    unlucky = sell_one_unlucky_among_four(shop)
    shop.start_worker(concurrency=2)
    shop.start_beat()
    wait_for(lambda: shop.statuses().get(Status.SENT, 0) >= 4, "the other four")
    shop.settle()
    assert shop.statuses() == {Status.SENT: 4, Status.FAILED: 1}
    assert unlucky.get().reason == "render_error"
    words = {"hang": "took longer than", "die": "never finished"}
    assert words[how] in unlucky.get().reason_words


@pytest.mark.parametrize("how", ["raise", pytest.param("nonsense", marks=pytest.mark.slow)])
def test_a_receiver_that_fails_changes_nothing_for_its_lane_and_the_other_receivers(shop, how):
    shop.careless = {"message_sent": how}
    shop.hears = True
    unlucky = sell_one_unlucky_among_four(shop)
    worker = shop.start_worker()
    shop.start_beat()
    shop.settle()
    assert shop.statuses() == {Status.SENT: 5}
    wait_for(lambda: len([line for line in shop.heard() if line["signal"] == "message_sent"]) == 5, "the news")
    assert str(unlucky.get().uuid) in {line["about"] for line in shop.heard()}
    if how == "raise":
        assert "The site's own code failed." in worker.output


@pytest.mark.slow
def test_a_receiver_that_hangs_holds_its_lane_for_a_lease_and_the_others_go_out(shop):
    shop.careless = {"message_sent": "hang"}
    sell_one_unlucky_among_four(shop)
    shop.start_worker(concurrency=4)
    shop.start_beat()
    shop.settle()
    assert shop.statuses() == {Status.SENT: 5}


def test_a_parser_that_raises_hangs_or_returns_nonsense_holds_up_no_other_event_and_no_lane(make_shop):
    shop = make_shop(WEBHOOK_PARSER="tests.faults.failing.careless.CarelessParser")
    shop.start_worker(concurrency=4)
    shop.start_beat()
    for how in ("hang", "raise", "nonsense"):
        assert shop.post_webhook({"id": how, "message": how}) == 200
    for n in range(5):
        assert shop.post_webhook({"id": f"A{n}", "message": "halo", "from": "6281299000099"}) == 200
    shop.sell(5)
    shop.settle()
    assert shop.statuses() == {Status.SENT: 5}
    done = WebhookEvent.objects.filter(status=EventStatus.PROCESSED)
    wait_for(lambda: done.count() == 5, "the other events")
    failed = WebhookEvent.objects.filter(status=EventStatus.FAILED)
    wait_for(lambda: failed.count() >= 2, "those that fail")
    # An event whose parser hung is read to its end, and is not a parsed event either.
    wait_for(lambda: failed.count() == 3, "the one that hung", 180)
    assert all(event.error for event in failed)
