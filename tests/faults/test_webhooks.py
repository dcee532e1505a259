"""Rows 27 to 31: webhooks that repeat, overtake each other, come too early, are malformed, or belong to nobody."""

from __future__ import annotations

import socket
import statistics
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from django.test import Client

from django_kpwa.models import EventStatus, OutboundMessage, Status, WebhookEvent, WebhookToken, in_seconds
from django_kpwa.webhooks.authentication import flood_gate

from .harness import wait_for

CUSTOMER = "6281299000077"


@pytest.fixture
def site(shop):
    """The shop with its web server, a worker and a beat, whose signals are written down."""
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


def deep_json():
    return b'{"a":' * 100_000 + b"1" + b"}" * 100_000


BODIES = {
    "empty": (b"", "application/json"),
    "three megabytes": (b"x" * 3_000_000, "application/json"),
    "JSON 100,000 deep": (deep_json(), "application/json"),
    "NUL": (b'{"id": "A\\u0000", "message": "\\u0000"}', "application/json"),
    "raw NUL": (b'{"id": "A\x00", "message": "\x00"}', "application/json"),
    "lone surrogates": (b'{"id": "\\ud800", "message": "\\udfff"}', "application/json"),
    "NaN": (b'{"id": NaN, "message": Infinity}', "application/json"),
    "a 5,000-digit integer": (b'{"id": ' + b"9" * 5000 + b"}", "application/json"),
    "not an object": (b'["x", 1, null]', "application/json"),
    "a wrong content type": (b'{"id": "B1"}', "image/png"),
    "no content type": (b'{"id": "B2"}', ""),
    "a content type that is none": (b'{"id": "B3"}', "a/b/c; =;;"),
    "multipart": (
        b'--x\r\nContent-Disposition: form-data; name="id"\r\n\r\nB4\r\n--x--\r\n',
        "multipart/form-data; boundary=x",
    ),
    "multipart cut short": (b"--x\r\nContent-Disp", "multipart/form-data; boundary=x"),
    "multipart without a boundary": (b"--x\r\n", "multipart/form-data"),
    "broken UTF-8": (b'{"id": "\xff\xfe", "message": "\xed\xa0\x80"}', "application/json"),
    "an unknown charset": (b'{"id": "B5"}', "application/json; charset=klingon"),
    "UTF-16": ('{"id": "B6"}'.encode("utf-16"), "application/json"),
    "a million form fields": (b"a&" * 1_000_000, "application/x-www-form-urlencoded"),
    "half a million form fields": (b"a&" * 500_000, "application/x-www-form-urlencoded"),
    "a form": (b"id=B7&message=%ff%00", "application/x-www-form-urlencoded"),
}
TOO_LARGE = {"three megabytes", "a million form fields"}


def test_whatever_is_posted_is_refused_or_stored_and_kills_neither_the_site_nor_its_worker(site):
    site.post_webhook({"id": "A0", "message": "halo", "from": CUSTOMER})
    statuses = {name: site.post_webhook(body, content_type) for name, (body, content_type) in BODIES.items()}
    assert {name for name, status in statuses.items() if status == 413} == TOO_LARGE
    assert {name for name, status in statuses.items() if status != 200} == TOO_LARGE
    wait_for(is_processed, "the events", 300)
    stored = {bytes(event.body) for event in WebhookEvent.objects.all()}
    assert stored >= {body for name, (body, _) in BODIES.items() if name not in TOO_LARGE}
    assert site.post_webhook({"id": "A9", "message": "masih hidup", "from": CUSTOMER, "timestamp": 9}) == 200
    last = WebhookEvent.objects.filter(gateway_id="A9", status=EventStatus.PROCESSED)
    wait_for(last.exists, "the last of them")
    assert all(running.process.poll() is None for running in site.processes)
    assert "WorkerLostError" not in "".join(running.output for running in site.processes)


def test_a_length_that_is_none_is_refused(site):
    site.post_webhook({"id": "A0", "message": "halo"})
    for length in ("-1", "99999999999999999999", "abc", "1e3"):
        head = [f"POST {site.last_path} HTTP/1.1", "Host: shop", f"Content-Length: {length}", "Connection: close"]
        assert raw_status(site.web_url, "\r\n".join([*head, "", ""]).encode()) in (400, 413)
    assert WebhookEvent.objects.count() == 1


def raw_status(url, request):
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(request)
        return int(connection.makefile("rb").readline().split()[1])


def test_tokens_wrong_old_within_its_overlap_old_beyond_it_and_new(site):
    old, expired, new = site.webhook_path(), site.webhook_path(), site.webhook_path()
    first, second, _ = WebhookToken.objects.order_by("pk")
    WebhookToken.objects.filter(pk=first.pk).update(expires_at=in_seconds(600))
    WebhookToken.objects.filter(pk=second.pk).update(expires_at=in_seconds(-1))

    def post(path, name):
        return site.post_webhook({"id": name, "message": "halo", "from": CUSTOMER}, path=path)

    assert post(new, "A1") == 200
    assert post(old, "A2") == 200
    assert post(expired, "A3") == 404
    assert post(new[:-2] + "x/", "A4") == 404
    assert WebhookEvent.objects.count() == 2


def test_a_flood_of_wrong_tokens_is_throttled_while_right_ones_are_taken_old_and_new(site):
    used, unused = site.webhook_path(), site.webhook_path()
    assert site.post_webhook({"id": "A1", "message": "halo"}, path=used) == 200
    right: list[int] = []

    def post_wrong(n):
        if n % 40 == 20:
            right.append(site.post_webhook({"id": f"B{n}", "message": "halo"}, path=(used, unused)[n % 80 == 20]))
        wrong = f"{site.web_url}/kpwa/webhooks/{n:043}/"
        with requests.Session() as session:
            session.trust_env = False
            return session.post(wrong, b"{}", timeout=60).status_code

    with ThreadPoolExecutor(8) as senders:
        answers = Counter(senders.map(post_wrong, range(400)))
    assert set(answers) == {404, 429}
    assert answers[429] > answers[404]
    assert right == [200] * 10


def test_a_token_that_is_nearly_right_takes_as_long_as_one_that_is_not(shop):
    path = shop.webhook_path()
    near, far = path[:-2] + ("x/" if path[-2] != "x" else "y/"), "/kpwa/webhooks/" + "x" * 43 + "/"
    client, took = Client(), {near: [], far: []}
    for _ in range(150):
        for wrong in took:
            flood_gate.open()
            began = time.perf_counter()
            assert client.post(wrong, data=b"{}", content_type="application/json").status_code == 404
            took[wrong].append(time.perf_counter() - began)
    nearly, not_at_all = statistics.median(took[near]), statistics.median(took[far])
    assert 0.5 < nearly / not_at_all < 2
