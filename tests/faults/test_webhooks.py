"""Rows 27 to 29: webhooks that repeat, overtake each other, or come too early."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from django_kpwa.models import EventStatus, OutboundMessage, Status, WebhookEvent

from .harness import wait_for

CUSTOMER = "6281299000077"


@pytest.fixture
def site(shop):
    """The shop with its web server, a worker and a beat, whose signals are recorded."""
    shop.hears = True
    shop.start_web()
    shop.start_worker()
    shop.start_beat()
    return shop


def signals(shop, name):
    return [line for line in shop.heard() if line["signal"] == name]


def is_processed():
    return not WebhookEvent.objects.filter(status=EventStatus.PENDING).exists()


def test_one_webhook_a_hundred_times_at_once_is_stored_once_and_heard_once(site):
    content = {"id": "A1", "from": CUSTOMER, "message": "terima kasih", "timestamp": 1}
    assert site.post_webhook({"id": "A0", "status": "Read"}) == 200
    with ThreadPoolExecutor(25) as senders:
        assert set(senders.map(lambda _: site.post_webhook(content), range(100))) == {200}
    wait_for(lambda: signals(site, "message_received"), "the customer's message")
    wait_for(is_processed, "the events")
    assert WebhookEvent.objects.get(gateway_id="A1").times_received == 100
    assert len(signals(site, "message_received")) == 1


def test_read_before_delivered_before_the_sends_own_answer_moves_forward_only(site, phone):
    phone.set_faults(drip={"amount": 4, "operation": "sends"})
    [message] = site.send(1)
    [delivery] = phone.wait_for_deliveries(1, 60)
    assert site.post_webhook({"id": delivery["id"], "status": "Read"}) == 200
    assert site.post_webhook({"id": delivery["id"], "status": "Delivered"}) == 200
    wait_for(lambda: OutboundMessage.objects.get().status == Status.READ, "the read tick")
    wait_for(lambda: OutboundMessage.objects.get().delivered_at, "the late delivered tick")
    site.settle()
    wait_for(lambda: signals(site, "message_read"), "the signal, which comes after the commit")
    assert OutboundMessage.objects.get().status == Status.READ
    assert Counter(line["signal"] for line in site.heard() if line["about"] == str(message.uuid)) == {
        "message_sent": 1,
        "message_read": 1,
    }


def test_a_webhook_for_a_message_that_is_not_known_yet_is_matched_once_it_is(shop, phone):
    shop.hears = True
    shop.start_worker(after_post={"do": "stop", "at": 1})
    shop.start_beat()
    shop.send(1)
    pid = shop.reached("after_post")
    [delivery] = phone.ledger()
    assert shop.post_webhook({"id": delivery["id"], "status": "Delivered"}) == 200
    wait_for(lambda: WebhookEvent.objects.filter(status=EventStatus.UNMATCHED).exists(), "a first, vain look")
    shop.thaw(pid)
    wait_for(lambda: OutboundMessage.objects.get().status == Status.DELIVERED, "the second look")
    shop.settle()
    wait_for(lambda: signals(shop, "message_delivered"), "the signal, which comes after the commit")
    assert len(signals(shop, "message_delivered")) == 1
