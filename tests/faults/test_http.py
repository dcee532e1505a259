"""Rows 16 to 22: faults of networks and overloaded services during a call, from the worker to the database.

tests/integration/http_gateway checks how the client reads each of them. Here the tests check the message.
"""

from __future__ import annotations

import gzip
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from itertools import pairwise
from urllib.parse import parse_qs

import psutil
import pytest

from django_kpwa.gateway.outcome import OutcomeKind
from django_kpwa.models import OutboundMessage, PauseReason, SendAttempt, Status
from tests.integration.certificates import tls_context, write_certificate
from tests.integration.misbehaving import NO_HOST, MisbehavingServer, answer, free_port, response

from .harness import is_paused, wait_for
from .proxy import Proxy

SENT = {"message": "OK", "code": 20001, "result": {"id": "X1", "message": "", "from": "628", "to": "62813"}}
CONNECTED = answer({"message": "OK", "status": "connected", "code": 20001})


@pytest.fixture
def start_server():
    started = []

    def start(tls=None):
        started.append(MisbehavingServer(tls))
        return started[-1]

    yield start
    for server in started:
        server.close()


def endless(head, piece):
    def pour(peer):
        peer.send(head)
        for _ in range(100_000_000 // len(piece) + 1):
            peer.send(piece)

    return pour


def drip_headers(peer):
    peer.drip(b"HTTP/1.1 200 OK\r\n" + b"X-Padding: 1\r\n" * 100)


def drip_body(peer):
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
    peer.drip(b" " * 5000)


def stall_in_headers(peer):
    peer.send(b"HTTP/1.1 200 OK\r\nX-")
    peer.stall()


def stall_in_body(peer):
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{")
    peer.stall()


def cut_short(peer):
    peer.send(response(SENT)[:-20])
    peer.hang_up()


def html(status):
    return answer(status=status, body=b"<html>Welcome</html>", content_type="text/html")


IN_DOUBT = "in_doubt"
OUTCOMES = {
    # Each row: the behaviour, the attempt's outcome and cause, the message's status.
    "reset": (lambda peer: peer.reset(), IN_DOUBT, "connection_lost", "unknown"),
    "hang up": (lambda peer: peer.hang_up(), IN_DOUBT, "connection_lost", "unknown"),
    "cut short": (cut_short, IN_DOUBT, "connection_lost", "unknown"),
    "stall": (lambda peer: peer.stall(), IN_DOUBT, "timeout", "unknown"),
    "stall in the headers": (stall_in_headers, IN_DOUBT, "timeout", "unknown"),
    "stall in the body": (stall_in_body, IN_DOUBT, "timeout", "unknown"),
    "drip of headers": (drip_headers, IN_DOUBT, "timeout", "unknown"),
    "drip of the body": (drip_body, IN_DOUBT, "timeout", "unknown"),
    "500 documented": (
        answer({"message": "Internal server error", "error": "x", "code": None}, 500),
        IN_DOUBT, "server_error", "unknown",
    ),
    "500 in HTML": (html(500), IN_DOUBT, "bad_answer", "unknown"),
    "502": (html(502), IN_DOUBT, "timeout", "unknown"),
    "503": (html(503), IN_DOUBT, "bad_answer", "unknown"),
    "520": (html(520), IN_DOUBT, "bad_answer", "unknown"),
    "524": (html(524), IN_DOUBT, "bad_answer", "unknown"),
    "408": (answer({"message": "Timed Out"}, 408), IN_DOUBT, "bad_answer", "unknown"),
    "428": (answer({"message": "Connection Closed"}, 428), IN_DOUBT, "bad_answer", "unknown"),
    "504": (answer({"message": "Timeout"}, 504), IN_DOUBT, "timeout", "unknown"),
    "200 in HTML": (html(200), IN_DOUBT, "bad_answer", "unknown"),
    "200 and nothing": (answer(body=b""), IN_DOUBT, "bad_answer", "unknown"),
    "200 with half of its JSON": (answer(body=b'{"message": "OK", "result": {"id'), IN_DOUBT, "bad_answer", "unknown"),
    "200 with a list": (answer([SENT]), IN_DOUBT, "bad_answer", "unknown"),
    "200 with a result of text": (answer({**SENT, "result": "X1"}), IN_DOUBT, "bad_answer", "unknown"),
    "200 with a list for an id": (answer({**SENT, "result": {"id": ["X1"]}}), IN_DOUBT, "bad_answer", "unknown"),
    "200 without an id": (answer({"message": "OK", "code": 20001, "result": {}}), IN_DOUBT, "bad_answer", "unknown"),
    "200 with an unknown code": (answer({**SENT, "code": 99999}), "accepted", "", "sent"),
    "100 MB": (
        endless(b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n", b" " * 65536),
        IN_DOUBT, "bad_answer", "unknown",
    ),
    "a gzip bomb": (
        answer(body=gzip.compress(b" " * 100_000_000), headers={"Content-Encoding": "gzip"}),
        IN_DOUBT, "bad_answer", "unknown",
    ),
    "418": (answer({"message": "?"}, 418), IN_DOUBT, "bad_answer", "unknown"),
    "400": (answer({"message": "Bad", "errors": ["no number"], "code": 40001}, 400), "refused", "refused", "failed"),
}  # fmt: skip


def by_text(server, behaviours):
    """Answer each send as its text says, and every status request normally."""

    def behave(peer):
        head, _, body = server.requests[-1].partition(b"\r\n\r\n")
        if b"/openapi/wa/message" not in head.split(b"\r\n")[0]:
            return CONNECTED(peer)
        [text] = parse_qs(body.decode())["message"]
        return behaviours[text](peer)

    return behave


def send_texts(shop, texts):
    """One message to a different number for each text."""
    messages = shop.send(len(texts))
    for message, text in zip(messages, texts, strict=True):
        OutboundMessage.objects.filter(pk=message.pk).update(text=text)
    return messages


def posts(server):
    """The texts that were posted, in order."""
    bodies = [request.partition(b"\r\n\r\n") for request in server.requests if b"/openapi/wa/message" in request[:80]]
    return [parse_qs(body.decode())["message"][0] for _, _, body in bodies]


def test_every_answer_has_the_outcome_of_the_table_to_the_letter_in_bounded_memory(make_shop, start_server):
    server = start_server()
    server.behave(by_text(server, {name: row[0] for name, row in OUTCOMES.items()}))
    shop = make_shop(BASE_URLS=[server.url], FAILURES_BEFORE_PAUSE=1000)
    messages = send_texts(shop, list(OUTCOMES))
    shop.marked.update(message.pk for message in messages)  # messages that this server accepts are on no phone
    worker = shop.start_worker()
    shop.start_beat()
    shop.settle()
    attempts = SendAttempt.objects.select_related("message")
    became = {
        attempt.message.text: (attempt.outcome, attempt.cause, attempt.message.status, attempt.number)
        for attempt in attempts
    }
    assert became == {name: (*row[1:], 1) for name, row in OUTCOMES.items()}
    assert sorted(posts(server)) == sorted(OUTCOMES)
    for process in psutil.Process(worker.pid).children():
        assert process.memory_info().rss < 400_000_000


def test_a_redirect_to_another_host_is_not_followed_and_that_host_never_hears_of_the_key(make_shop, start_server):
    server, elsewhere = start_server(), start_server()
    location = {"Location": f"{elsewhere.url}/openapi/wa/message"}
    redirects = {
        str(status): answer({"message": "Moved"}, status, headers=location) for status in (301, 302, 303, 307, 308)
    }
    server.behave(by_text(server, redirects))
    shop = make_shop(BASE_URLS=[server.url], FAILURES_BEFORE_PAUSE=1000)
    send_texts(shop, list(redirects))
    shop.start_worker()
    shop.start_beat()
    shop.settle()
    assert shop.statuses() == {Status.UNKNOWN: 5}
    assert posts(server) == list(redirects)
    assert elsewhere.connections == 0


@pytest.fixture
def wire(phone):
    """The proxy between the workers and the gateway."""
    with Proxy("127.0.0.1", int(phone.url.rpartition(":")[2])) as proxy:
        yield proxy


def test_a_gateway_that_refuses_connections_for_a_while_costs_no_message_and_no_attempt_in_doubt(
    make_shop, wire, phone
):
    shop = make_shop(BASE_URLS=[f"http://127.0.0.1:{wire.port}/backend"])
    shop.start_worker()
    shop.start_beat()
    shop.send(3)
    shop.settle()
    wire.refuse()
    shop.send(20, first=3)
    wait_for(lambda: is_paused(PauseReason.FAILING), "the pause")
    # Three failures are enough to pause; the rest of the queue is kept.
    not_sent = SendAttempt.objects.filter(outcome=OutcomeKind.NOT_SENT)
    assert not_sent.count() == 3
    assert set(not_sent.values_list("cause", flat=True)) == {"not_connected"}
    wire.pass_on()
    shop.settle()
    assert shop.statuses() == {Status.SENT: 23}
    assert shop.arrived() == 23


@pytest.mark.parametrize(
    "first",
    [
        "refused",
        "bad certificate",
        *(pytest.param(first, marks=pytest.mark.slow) for first in ("unknown host", "no TLS there")),
    ],
)
def test_the_second_base_url_takes_over_where_the_first_cannot_be_reached(
    make_shop, phone, start_server, tmp_path, first
):
    impostor = start_server(tls_context(write_certificate(tmp_path / "impostor.pem")))
    down = {
        "bad certificate": impostor.url,
        "refused": f"http://127.0.0.1:{free_port()}/backend",
        "unknown host": f"{NO_HOST}/backend",
        "no TLS there": phone.base_url.replace("http://", "https://"),
    }[first]
    shop = make_shop(BASE_URLS=[down, phone.base_url], CALL_DEADLINE_SECONDS=10)
    shop.start_worker()
    shop.start_beat()
    shop.sell(5)
    shop.settle()
    assert shop.statuses() == {Status.SENT: 5}
    assert SendAttempt.objects.count() == 5
    assert impostor.requests == [], "a server that cannot prove its identity must receive nothing"


@pytest.mark.slow
def test_without_any_connection_a_message_fails_after_the_attempts_allowed_and_nothing_was_posted(
    make_shop, wire, phone
):
    shop = make_shop(BASE_URLS=[f"http://127.0.0.1:{wire.port}/backend"], MAX_ATTEMPTS=2, FAILURES_BEFORE_PAUSE=1000)
    shop.start_worker()
    shop.start_beat()
    shop.send(1)
    shop.settle()
    wire.refuse()
    [message] = shop.send(1, first=1)
    shop.settle()
    message.refresh_from_db()
    assert (message.status, message.reason, message.attempts_made) == (Status.FAILED, "not_connected", 2)
    assert shop.arrived() == 1


RETRY_AFTER = {
    "in seconds": "1",
    "as a date": format_datetime(datetime.now(timezone.utc) + timedelta(days=30), usegmt=True),
    "as a past date": "Wed, 21 Oct 2015 07:28:00 GMT",
    "absurd": "9" * 30,
    "negative": "-5",
    "no number": "soon",
}


def test_a_429_waits_as_asked_and_never_longer_than_the_bound_and_spends_no_attempt(make_shop, start_server):
    server = start_server()
    asked: list[str] = []

    def limit(peer):
        if len(asked) < len(RETRY_AFTER):
            asked.append(list(RETRY_AFTER.values())[len(asked)])
            return answer({"message": "Too many"}, 429, headers={"Retry-After": asked[-1]})(peer)
        return answer(SENT)(peer)

    server.behave(by_text(server, {"Struk": limit}))
    shop = make_shop(BASE_URLS=[server.url], MAX_ATTEMPTS=2, **{"django_kpwa.pace.MAX_RETRY_AFTER_SECONDS": 2.0})
    [message] = send_texts(shop, ["Struk"])
    shop.marked.add(message.pk)
    shop.start_worker()
    shop.start_beat()
    shop.settle()
    message.refresh_from_db()
    assert (message.status, message.attempts_made, message.attempts_spent) == (Status.SENT, len(RETRY_AFTER) + 1, 1)
    limited = SendAttempt.objects.filter(outcome=OutcomeKind.RATE_LIMITED)
    assert limited.count() == len(RETRY_AFTER)
    started = [attempt.started_at for attempt in SendAttempt.objects.order_by("number")]
    waits = [(later - earlier).total_seconds() for earlier, later in pairwise(started)]
    assert min(waits) >= 0.9
