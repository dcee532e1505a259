"""What each failure of a call to the gateway means, and what its error never shows."""

from __future__ import annotations

import logging
import signal
import socket
import time
import traceback

import pytest

from django_kpwa.exceptions import (
    BadRequestError,
    ConnectionLostError,
    GatewayError,
    GatewayTimeoutError,
    NotConnectedError,
    RateLimitedError,
    ServerError,
    TurnedAwayError,
    UnauthorizedError,
    UnexpectedAnswerError,
)

from ..misbehaving import answer, free_port, full_port, response
from .peers import (
    KEY,
    NUMBER,
    SENT,
    continue_for_ever,
    cut_a_chunk_short,
    cut_the_body_short,
    drip_body,
    drip_chunks,
    drip_headers,
    endless,
    hang_up,
    reset,
    reset_in_the_headers,
    said,
    send,
)

# What a failure means


@pytest.mark.parametrize(
    ("behaviour", "error", "status_code"),
    [
        (said(400, {"message": "Bad", "errors": ["no number"], "code": "E1"}), BadRequestError, 400),
        (said(400, {"message": "Bad", "code": None}), BadRequestError, 400),
        (said(401, {"message": "Unauthorized"}), UnauthorizedError, 401),
        (said(429, {"message": "Slow down"}, headers={"Retry-After": "7"}), RateLimitedError, 429),
        (said(500, {"message": "Oops", "error": "session closed", "code": 50001}), ServerError, 500),
        (said(502, None, body=b"<html>", content_type="text/html"), GatewayTimeoutError, 502),
        (said(504, {"message": "Timeout"}), GatewayTimeoutError, 504),
        (said(500, None, body=b"<html>", content_type="text/html"), UnexpectedAnswerError, 500),
        (said(503, {"message": "Maintenance"}), UnexpectedAnswerError, 503),
        (said(201, SENT), UnexpectedAnswerError, 201),
        (said(200, None, body=b"<html>OK</html>", content_type="text/html"), UnexpectedAnswerError, 200),
        (said(200, {"message": "Sent", "code": 20001}), UnexpectedAnswerError, 200),
        (said(101, None, body=b""), UnexpectedAnswerError, 101),
        (said(403, None, body=b"<html>", content_type="text/html"), TurnedAwayError, 403),
        (said(422, {"message": "Session is not ready"}), TurnedAwayError, 422),
        (said(503, {"message": "Maintenance"}, headers={"Retry-After": "60"}), TurnedAwayError, 503),
        (said(521, None, body=b"<html>", content_type="text/html"), TurnedAwayError, 521),
    ],
)
def test_an_answer_other_than_success_is_its_own_error(server, gateway, behaviour, error, status_code):
    server.behave(behaviour)
    with pytest.raises(GatewayError) as failed:
        send(gateway)
    assert type(failed.value) is error
    assert failed.value.status_code == status_code
    assert len(server.requests) == 1


@pytest.mark.parametrize("behaviour", [drip_headers, drip_body, drip_chunks, continue_for_ever])
@pytest.mark.usefixtures("impatient")
def test_a_dripping_answer_ends_at_the_deadline_of_the_call(server, gateway, behaviour):
    server.behave(behaviour)
    started = time.monotonic()
    with pytest.raises(GatewayTimeoutError):
        send(gateway)
    assert 0.6 < time.monotonic() - started < 3


def test_a_stalled_answer_ends_at_the_read_timeout(server, make_gateway, limits):
    limits(READ_TIMEOUT_SECONDS=0.2)
    server.behave(lambda peer: peer.stall())
    started = time.monotonic()
    with pytest.raises(GatewayTimeoutError):
        send(make_gateway(server.url))
    assert 0.1 < time.monotonic() - started < 5


@pytest.mark.usefixtures("impatient")
def test_a_body_that_stalls_in_the_middle_ends_at_the_read_timeout(server, gateway):
    def stall_in_the_middle(peer):
        peer.send(response(SENT)[:-20])
        peer.stall()

    server.behave(stall_in_the_middle)
    with pytest.raises(GatewayTimeoutError):
        send(gateway)


def test_a_status_call_has_a_deadline_of_its_own(server, make_gateway, limits):
    limits(READ_TIMEOUT_SECONDS=1)
    server.behave(drip_body)
    started = time.monotonic()
    with pytest.raises(GatewayTimeoutError):
        make_gateway(server.url).get_status(deadline_seconds=0.2)
    assert time.monotonic() - started < 5


def test_a_server_that_does_not_read_ends_at_the_timeout(make_gateway, limits):
    limits(CONNECT_TIMEOUT_SECONDS=0.3, READ_TIMEOUT_SECONDS=30)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        started = time.monotonic()
        with pytest.raises(GatewayTimeoutError):
            make_gateway(f"http://127.0.0.1:{deaf.getsockname()[1]}").send_message(NUMBER, "x" * 20_000_000)
        assert time.monotonic() - started < 10


@pytest.mark.parametrize("behaviour", [hang_up, reset, reset_in_the_headers, cut_the_body_short, cut_a_chunk_short])
def test_a_connection_lost_after_the_request_left_is_in_doubt_and_not_tried_again(server, make_gateway, behaviour):
    server.behave(behaviour)
    with pytest.raises(ConnectionLostError):
        send(make_gateway(server.url, server.url))
    assert len(server.requests) == 1


def test_a_connection_lost_on_a_reused_connection_is_in_doubt_and_not_tried_again(server, gateway):
    server.behave(answer(SENT), hang_up)
    send(gateway)
    with pytest.raises(ConnectionLostError):
        send(gateway)
    assert len(server.requests) == 2


@pytest.mark.parametrize("interim", [(100,), (102,), (103,), (199,), (102, 100, 103, 103, 102)])
def test_interim_answers_are_read_past_and_the_connection_is_used_again(server, gateway, interim):
    def answer_late(peer):
        for status in interim:
            peer.send(f"HTTP/1.1 {status} Wait\r\nLink: </a.css>; rel=preload\r\n\r\n".encode())
            time.sleep(0.01)
        peer.send(response(SENT))

    server.behave(answer_late)
    assert [send(gateway).id, send(gateway).id] == ["3EB0A1"] * 2
    assert (len(server.requests), server.connections) == (2, 1)


def test_a_connection_lost_after_an_interim_answer_is_in_doubt(server, gateway):
    def begin_alone(peer):
        peer.send(b"HTTP/1.1 102 Processing\r\n\r\n")
        peer.hang_up()

    server.behave(begin_alone)
    with pytest.raises(ConnectionLostError):
        send(gateway)


def test_interim_answers_without_an_end_are_cut_off(server, gateway):
    server.behave(endless(b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 1000))
    with pytest.raises(UnexpectedAnswerError):
        send(gateway)
    assert server.connections == 1


def test_the_answer_after_a_change_of_protocol_is_not_taken_for_that_of_the_next_call(server, gateway):
    server.behave(said(101, None, body=b"", headers={"Content-Length": ""}), answer(SENT))
    with pytest.raises(UnexpectedAnswerError):
        send(gateway)
    assert send(gateway).id == "3EB0A1"
    assert server.connections == 2


def test_after_a_failure_the_next_call_has_a_new_connection(server, gateway):
    server.behave(cut_the_body_short, answer(SENT))
    with pytest.raises(ConnectionLostError):
        send(gateway)
    assert send(gateway).id == "3EB0A1"
    assert server.connections == 2


@pytest.mark.parametrize("banner", [b"SSH-2.0-OpenSSH_9.6\r\n", b"\x00\x01\x02" * 50 + b"\n", b"HTTP/1.1 OK\r\n\r\n"])
def test_what_is_no_http_is_an_unexpected_answer(server, gateway, banner):
    def talk_something_else(peer):
        peer.send(banner)
        peer.stall()

    server.behave(talk_something_else)
    with pytest.raises(UnexpectedAnswerError):
        send(gateway)


class Interrupted(Exception):  # noqa: N818 - stands for Celery's SoftTimeLimitExceeded, raised by a signal handler
    pass


@pytest.fixture
def interrupted_soon():
    def interrupt(*_):
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("interrupted_soon")
def test_an_interruption_while_waiting_goes_through_and_the_connection_is_not_used_again(server, gateway):
    server.behave(lambda peer: peer.stall(), answer(SENT))
    with pytest.raises(Interrupted):
        send(gateway)
    assert send(gateway).id == "3EB0A1"
    assert server.connections == 2


@pytest.mark.usefixtures("interrupted_soon")
def test_an_interruption_within_a_body_goes_through_and_the_connection_is_not_used_again(server, gateway):
    server.behave(drip_body, answer(SENT))
    with pytest.raises(Interrupted):
        send(gateway)
    assert send(gateway).id == "3EB0A1"
    assert server.connections == 2


@pytest.mark.usefixtures("interrupted_soon")
def test_an_interruption_while_connecting_goes_through(make_gateway):
    with full_port() as port, pytest.raises(Interrupted):
        send(make_gateway(f"http://127.0.0.1:{port}"))


# What is never shown


@pytest.mark.parametrize(
    "behaviour",
    [
        said(400, {"message": f"key {KEY} for {NUMBER}", "errors": [f"{KEY} +62 812-3456-7890"], "code": KEY}),
        said(401, {"message": f"{KEY} is unknown"}),
        said(429, {"message": f"{KEY} is too fast"}),
        said(500, {"message": f"{KEY} 6281234567890", "error": f"{KEY}", "code": f"{KEY}"}),
        said(504, {"message": f"{KEY} {NUMBER}"}),
        said(302, {}, headers={"Location": f"http://127.0.0.1/{KEY}/{NUMBER}"}),
        said(404, {"message": f"GET check-number/{NUMBER} {KEY}"}),
        said(200, {"message": f"{KEY} {NUMBER}", "result": {}, "code": KEY}),
        said(200, None, body=f"{KEY} {NUMBER}".encode()),
        lambda peer: peer.send(f"{KEY} {NUMBER}\r\n".encode()),
        hang_up,
        reset,
        lambda peer: peer.stall(),
    ],
)
@pytest.mark.parametrize("operation", ["check_number", "get_status"])
@pytest.mark.usefixtures("impatient")
def test_no_failure_shows_the_key_or_a_whole_number(server, gateway, behaviour, operation):
    server.behave(behaviour)
    with pytest.raises(GatewayError) as failed:
        gateway.get_status() if operation == "get_status" else gateway.check_number(NUMBER)
    assert_shows_nothing(failed.value)


def test_no_failed_connection_shows_the_key_or_a_whole_number(make_gateway):
    gateway = make_gateway(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(NotConnectedError) as failed:
        gateway.check_number(NUMBER)
    assert_shows_nothing(failed.value)


def assert_shows_nothing(error):
    assert error.__cause__ is None
    assert error.__context__ is None
    shown = [str(error), repr(error), repr(vars(error)), *traceback.format_exception(error)]
    for text in shown:
        assert KEY not in text
        assert NUMBER[1:] not in text.replace(" ", "").replace("-", "")
    # A traceback may show the number, which is an argument of the call. The key is in no local variable.
    with_locals = traceback.TracebackException.from_exception(error, capture_locals=True)
    assert KEY not in "".join(with_locals.format()).replace(f"KEY = '{KEY}'", "")


def test_a_webhooks_token_in_the_gateways_words_is_not_shown(server, gateway):
    url = "https://shop.example/kpwa/webhooks/t0ken-0815/"
    server.behave(answer({"message": f"Saved {url} and /kpwa/webhooks/t0ken-0815/", "code": 20001}))
    saved = gateway.set_webhook(url)
    assert "t0ken-0815" not in saved.message
    assert saved.message.startswith("Saved")


def test_a_404_on_a_webhook_path_explains_the_ambiguity(server, gateway):
    server.behave(said(404, None, body=b"Not Found", content_type="text/plain"))
    for operation in (gateway.reset_webhook, lambda: gateway.set_webhook("https://shop.example/")):
        with pytest.raises(TurnedAwayError, match="openapi_webhook"):
            operation()
    with pytest.raises(UnexpectedAnswerError, match="Check the base URL"):
        gateway.get_status()


def test_the_number_in_a_path_is_masked_in_the_http_librarys_log(server, gateway, caplog):
    server.behave(answer({"message": "OK", "is_registered": True, "code": None}))
    with caplog.at_level(logging.DEBUG):
        gateway.check_number(NUMBER)
        gateway.check_number("+62 812 3456 7890")
    assert "/check-number/…" in caplog.text
    assert "7890" not in caplog.text
    assert KEY not in caplog.text
