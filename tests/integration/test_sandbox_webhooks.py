"""The webhooks that the sandbox posts: customers' answers, ticks, retries, and the faults that affect them."""

from __future__ import annotations

import http.server
import json
import socket
import threading
import time

import pytest
import requests

from tests.sandbox import SandboxProcess

NUMBER = "6281234567890"


class Site:
    """A site's webhook. It keeps what was posted, and answers with the given statuses, then with 200."""

    def __init__(self, port=0):
        self.events: list[dict] = []
        self.statuses: list[int] = []
        self.changed = threading.Condition()
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with site.changed:
                    status = site.statuses.pop(0) if site.statuses else 200
                    site.events.append(json.loads(body))
                    site.changed.notify_all()
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/kpwa/webhooks/secret-token/"
        self.thread = threading.Thread(target=self.server.serve_forever)

    def wait_for(self, count, seconds=10):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.events) >= count, seconds), self.events
            return list(self.events)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc_info):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture(scope="module")
def process():
    with SandboxProcess("--linked", "--group", "Dapur") as process:
        yield process


@pytest.fixture
def sandbox(process):
    process.reset()
    return process


@pytest.fixture
def site(sandbox):
    with Site() as site:
        ask(sandbox, "webhook", webhook=site.url)
        yield site
        sandbox.reset()


def ask(sandbox, operation, **content):
    headers = {"X-API-KEY": sandbox.key}
    answer = requests.post(f"{sandbox.base_url}/openapi/wa/{operation}", content, headers=headers, timeout=10)
    assert answer.ok, answer.text
    return answer.json()


def send(sandbox, text="Struk"):
    return ask(sandbox, "message", phoneNumber=NUMBER, message=text)["result"]["id"]


def test_a_customers_answer_is_posted_to_the_site(sandbox, site):
    sandbox.answer("terima kasih", chat="0812-3456-7890")
    (event,) = site.wait_for(1)
    assert (event["from"], event["phone"], event["message"]) == (f"{NUMBER}@s.whatsapp.net", NUMBER, "terima kasih")
    assert (event["isFromMe"], event["isGroup"]) == (False, False)
    assert event["id"]


def test_an_answer_in_a_group_names_the_group_and_its_member(sandbox, site):
    sandbox.answer("siap", group="Dapur", sender="081311112222")
    (event,) = site.wait_for(1)
    assert event["from"].endswith("@g.us")
    assert (event["isGroup"], event["group"]) == (True, "Dapur")
    assert event["member"] == "6281311112222@s.whatsapp.net"


def test_a_message_is_delivered_by_itself_and_read_when_its_chat_is_opened(sandbox, site):
    message_id = send(sandbox)
    (delivered,) = site.wait_for(1)
    assert (delivered["id"], delivered["status"], delivered["phone"]) == (message_id, "Delivered", NUMBER)
    sandbox.read(chat=NUMBER)
    assert [event["status"] for event in site.wait_for(2)] == ["Delivered", "Read"]
    sandbox.read(chat=NUMBER)
    sandbox.answer("ok", chat=NUMBER)
    assert len(site.wait_for(3)) == 3


def test_without_a_webhook_nothing_is_posted(sandbox, site):
    headers = {"X-API-KEY": sandbox.key}
    requests.get(f"{sandbox.base_url}/openapi/wa/webhook/reset", headers=headers, timeout=10)
    sandbox.answer("halo", chat=NUMBER)
    ask(sandbox, "webhook", webhook=site.url)
    sandbox.answer("lagi", chat=NUMBER)
    assert [event["message"] for event in site.wait_for(1)] == ["lagi"]


def test_a_site_that_fails_is_tried_again(sandbox, site):
    site.statuses = [500, 503]
    sandbox.answer("halo", chat=NUMBER)
    first, second, third = site.wait_for(3)
    assert first == second == third
    tried = sandbox.wait_until(lambda state: sum(entry["direction"] == "out" for entry in state["log"]) == 3)
    assert [entry["status"] for entry in reversed(tried["log"]) if entry["direction"] == "out"] == [500, 503, 200]


def test_a_site_that_refuses_is_not_tried_again(sandbox, site):
    site.statuses = [404]
    sandbox.answer("satu", chat=NUMBER)
    site.wait_for(1)
    sandbox.set_faults(webhook_late={"amount": 0.7})  # later than a retry, which would wait half a second
    sandbox.answer("dua", chat=NUMBER)
    assert [event["message"] for event in site.wait_for(2)] == ["satu", "dua"]


def test_the_log_does_not_show_the_webhooks_address(sandbox, site):
    sandbox.answer("halo", chat=NUMBER)
    sandbox.wait_until(lambda state: any(entry["direction"] == "out" for entry in state["log"]))
    assert "secret-token" not in json.dumps([sandbox.log(), sandbox.state()])


def test_a_repeated_webhook_comes_twice_with_the_same_content(sandbox, site):
    sandbox.set_faults(webhook_repeated={"count": 1})
    sandbox.answer("halo", chat=NUMBER)
    first, second = site.wait_for(2)
    assert first == second


def test_a_late_webhook_comes_late(sandbox, site):
    sandbox.set_faults(webhook_late={"count": 1, "amount": 0.3})
    started_at = time.monotonic()
    sandbox.answer("halo", chat=NUMBER)
    site.wait_for(1)
    assert time.monotonic() - started_at >= 0.3


def test_a_webhook_out_of_order_comes_after_the_next(sandbox, site):
    sandbox.set_faults(webhook_out_of_order={"count": 1, "amount": 30})
    sandbox.answer("satu", chat=NUMBER)
    sandbox.answer("dua", chat=NUMBER)
    assert [event["message"] for event in site.wait_for(2)] == ["dua", "satu"]


def test_a_webhook_out_of_order_that_nothing_follows_comes_all_the_same(sandbox, site):
    sandbox.set_faults(webhook_out_of_order={"count": 1, "amount": 0.3})
    sandbox.answer("satu", chat=NUMBER)
    assert [event["message"] for event in site.wait_for(1)] == ["satu"]


def test_after_a_reset_nothing_of_before_is_posted(sandbox, site):
    sandbox.set_faults(webhook_late={"amount": 0.1})
    sandbox.answer("lama", chat=NUMBER)
    send(sandbox)
    sandbox.reset()
    ask(sandbox, "webhook", webhook=site.url)
    sandbox.set_faults(webhook_late={"amount": 0.6})  # later than everything that was due before: the tick needs 0.4 s
    sandbox.answer("baru", chat=NUMBER)
    assert [event["message"] for event in site.wait_for(1)] == ["baru"]


def test_a_message_of_before_a_reset_takes_no_fault_of_after(sandbox, site):
    send(sandbox)
    sandbox.reset()
    ask(sandbox, "webhook", webhook=site.url)
    sandbox.set_faults(undelivered={"count": 1})
    sent = send(sandbox)
    assert [(event["id"], event.get("ack")) for event in site.wait_for(1)] == [(sent, -1)]


def test_two_webhooks_held_back_in_a_row_both_come(sandbox, site):
    sandbox.set_faults(webhook_out_of_order={"count": 2, "amount": 30})
    for text in ("satu", "dua", "tiga"):
        sandbox.answer(text, chat=NUMBER)
    assert [event["message"] for event in site.wait_for(3)] == ["satu", "tiga", "dua"]


def test_a_site_that_is_down_gets_its_webhook_when_it_is_back(sandbox, site):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    ask(sandbox, "webhook", webhook=f"http://127.0.0.1:{port}/")
    sandbox.answer("halo", chat=NUMBER)
    sandbox.wait_until(lambda state: state["log"][0].get("direction") == "out", what="the first try")
    assert sandbox.log()[-1]["status"] == 0
    with Site(port) as restarted:
        assert restarted.wait_for(1)[0]["message"] == "halo"
