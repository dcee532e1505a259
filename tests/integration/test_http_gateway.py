"""`HttpGateway` over real sockets: what it sends, and how it handles servers that misbehave."""

from __future__ import annotations

import gzip
import logging
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_kpwa.encryption import Secret
from django_kpwa.exceptions import (
    BadRequestError,
    ConnectionLostError,
    GatewayError,
    GatewayTimeoutError,
    InvalidApiKeyError,
    NotConnectedError,
    RateLimitedError,
    ServerError,
    TurnedAwayError,
    UnauthorizedError,
    UnexpectedAnswerError,
)
from django_kpwa.gateway import SessionStatus, http, load_gateway_class
from django_kpwa.gateway.http import HttpGateway

from .certificates import tls_context, write_certificate
from .misbehaving import MisbehavingServer, answer, free_port, full_port, response

KEY = "secret-key-4711"
NUMBER = "081234567890"
NO_HOST = "http://" + "x" * 64
"""Too long for a label: no resolver is asked, so that the tests need no network."""
SENT = {
    "message": "Sent",
    "result": {
        "id": "3EB0A1",
        "body": "struk",
        "from": "6280000000000",
        "to": "6281234567890",
        "media_url": None,
        "created_at": "2016-11-05 10:00:00",
    },
    "code": 20001,
}


@pytest.fixture(autouse=True)
def limits(settings, monkeypatch):
    """`limits(READ_TIMEOUT_SECONDS=1, deadline_seconds=2)` sets the limits of the gateways made after the call."""

    def change(deadline_seconds=45, **constants):
        settings.KPWA = {"CALL_DEADLINE_SECONDS": deadline_seconds}
        for name, value in constants.items():
            monkeypatch.setattr(HttpGateway, name, value)

    change(CONNECT_TIMEOUT_SECONDS=10, READ_TIMEOUT_SECONDS=10, MAX_ANSWER_BYTES=100_000)
    return change


@pytest.fixture
def impatient(limits):
    """Short timeouts, for tests that wait for one. Other tests must not fail because the machine is busy."""
    limits(CONNECT_TIMEOUT_SECONDS=0.3, READ_TIMEOUT_SECONDS=0.3, deadline_seconds=0.8)


@pytest.fixture
def opened():
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def start_server(opened):
    def start(tls=None, greeting=b""):
        server = MisbehavingServer(tls, greeting)
        opened.callback(server.close)
        return server

    return start


@pytest.fixture
def server(start_server):
    return start_server()


@pytest.fixture
def make_gateway(opened):
    def make(*base_urls):
        return opened.enter_context(HttpGateway(Secret(KEY), base_urls=base_urls))

    return make


@pytest.fixture
def gateway(server, make_gateway):
    return make_gateway(server.url)


def send(gateway):
    return gateway.send_message(NUMBER, "struk")


# What is sent


@pytest.mark.parametrize(
    ("operation", "request_line", "body"),
    [
        (lambda gateway: gateway.restart(), "GET /backend/openapi/wa/restart", ""),
        (lambda gateway: gateway.get_status(), "POST /backend/openapi/wa/status", ""),
        (lambda gateway: gateway.reset_webhook(), "GET /backend/openapi/wa/webhook/reset", ""),
        (
            lambda gateway: gateway.set_webhook("https://shop.example/hook/?a=1"),
            "POST /backend/openapi/wa/webhook",
            "webhook=https%3A%2F%2Fshop.example%2Fhook%2F%3Fa%3D1",
        ),
    ],
)
def test_operations_use_the_methods_and_paths_of_the_reference(server, gateway, operation, request_line, body):
    operation(gateway)
    head, _, sent_body = server.requests[0].decode().partition("\r\n\r\n")
    assert head.startswith(f"{request_line} HTTP/1.1\r\n")
    assert sent_body == body


def test_a_send_is_a_form_with_the_key_in_its_header(server, gateway):
    server.behave(answer(SENT))
    sent = gateway.send_message(NUMBER, "Terima kasih 🙏 & 5% +1", "https://shop.example/a.png?b=c")
    head, _, body = server.requests[0].decode().partition("\r\n\r\n")
    lines = head.lower().split("\r\n")
    assert lines[0] == "post /backend/openapi/wa/message http/1.1"
    assert f"x-api-key: {KEY}" in lines
    assert "accept: application/json" in lines
    assert "content-type: application/x-www-form-urlencoded" in lines
    assert body == (
        "phoneNumber=081234567890&message=Terima+kasih+%F0%9F%99%8F+%26+5%25+%2B1"
        "&imageUrl=https%3A%2F%2Fshop.example%2Fa.png%3Fb%3Dc"
    )
    assert (sent.id, sent.from_number, sent.to, sent.code) == ("3EB0A1", "6280000000000", "6281234567890", 20001)
    assert (sent.media_url, sent.created_at, sent.message) == (None, "2016-11-05 10:00:00", "Sent")


def test_what_is_not_given_is_not_in_the_form(server, gateway):
    server.behave(answer(SENT))
    gateway.send_group_message("Toko & Kasir", image_url="https://shop.example/a.png")
    assert server.requests[0].startswith(b"POST /backend/openapi/wa/message-group ")
    assert server.requests[0].endswith(b"groupName=Toko+%26+Kasir&imageUrl=https%3A%2F%2Fshop.example%2Fa.png")


def test_the_qr_is_asked_for_as_a_string(server, gateway):
    server.behave(answer({"message": "OK", "qr_string": "2@abcdefghijklmnopqrstuvwxyz,ijk,lmn", "code": None}))
    assert gateway.get_login_qr().png().startswith(b"\x89PNG")
    assert server.requests[0].endswith(b"responseAs=string")


def test_the_number_in_a_path_is_quoted(server, gateway):
    server.behave(answer({"message": "OK", "is_registered": True, "code": None}))
    assert gateway.check_number("+62 812/3?4#5").is_registered is True
    assert server.requests[0].startswith(b"GET /backend/openapi/wa/check-number/%2B62%20812%2F3%3F4%235 HTTP/1.1\r\n")


def test_calls_share_a_connection(server, gateway):
    for _ in range(3):
        gateway.get_status()
    assert (len(server.requests), server.connections) == (3, 1)


def test_a_connection_that_was_idle_for_long_is_not_used_again(server, gateway):
    gateway.get_status()
    gateway.max_idle_seconds = 0
    gateway.get_status()
    assert (len(server.requests), server.connections) == (2, 2)


def test_a_connection_is_kept_for_a_second_at_most():
    # gunicorn closes an idle connection after two seconds, Node after five. A second leaves time for the way there.
    assert HttpGateway.max_idle_seconds <= 1


def test_a_server_that_closes_an_idle_connection_at_the_next_request_leaves_nothing_in_doubt(server, gateway):
    def answer_and_close_at_the_next(peer):
        peer.send(response(SENT))
        peer.connection.recv(1)
        peer.reset()

    server.behave(answer_and_close_at_the_next, answer(SENT))
    assert send(gateway).id == "3EB0A1"
    gateway.max_idle_seconds = 0
    assert send(gateway).id == "3EB0A1"
    assert server.connections == 2


def test_a_connection_that_the_server_closed_meanwhile_harms_nothing(server, gateway):
    hung_up = threading.Event()

    def answer_and_hang_up(peer):
        peer.send(response())
        peer.connection.shutdown(socket.SHUT_WR)
        hung_up.set()
        peer.hang_up()

    server.behave(answer_and_hang_up)
    for _ in range(3):
        gateway.get_status()
        assert hung_up.wait(10)
        hung_up.clear()
    assert server.connections == 3


def test_without_base_urls_those_of_the_settings_are_used(server, settings, make_gateway):
    settings.KPWA = {"BASE_URLS": [f"{server.url}/"]}
    make_gateway().get_status()
    assert server.requests[0].startswith(b"POST /backend/openapi/wa/status ")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1/backend",
        "127.0.0.1/backend",
        "http://",
        "http://[::1",
        "http://host:99999",
        "http://h/?a=1",
        "",
    ],
)
def test_a_base_url_that_is_none_is_refused(make_gateway, url):
    with pytest.raises(ImproperlyConfigured):
        make_gateway(url)


def test_without_any_base_url_the_settings_are_at_fault(settings, make_gateway):
    settings.KPWA = {"BASE_URLS": []}
    with pytest.raises(ImproperlyConfigured, match="BASE_URLS"):
        make_gateway()


def test_a_password_in_a_base_url_is_refused_and_not_shown(make_gateway):
    with pytest.raises(ImproperlyConfigured) as refused:
        make_gateway("https://kasir:hunter2@127.0.0.1/backend")
    assert "hunter2" not in str(refused.value)


def test_a_key_that_cannot_stand_in_a_header_is_refused_and_not_shown():
    with pytest.raises(InvalidApiKeyError) as refused:
        HttpGateway(Secret("key-4711\nX-Other: 1"), base_urls=["http://127.0.0.1"])
    assert "4711" not in str(refused.value)


def test_white_space_around_a_key_does_not_reach_the_header(server, opened):
    opened.enter_context(HttpGateway(Secret(f" {KEY}\n"), base_urls=[server.url])).get_status()
    assert f"X-API-KEY: {KEY}\r\n".encode() in server.requests[0]


# What a failure means


def said(status, content, **options):
    return answer(content, status, **options)


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


def drip_headers(peer):
    peer.drip(b"HTTP/1.1 200 OK\r\n" + b"X-Padding: 1\r\n" * 100)


def drip_body(peer):
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
    peer.drip(b" " * 5000)


def drip_chunks(peer):
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    peer.drip(b"1\r\n \r\n" * 1000)


def continue_for_ever(peer):
    while True:
        peer.drip(b"HTTP/1.1 100 Continue\r\n\r\n", 0.005)


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


def hang_up(peer):
    peer.hang_up()


def reset(peer):
    peer.reset()


def reset_in_the_headers(peer):
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Ty")
    time.sleep(0.02)
    peer.reset()


def cut_the_body_short(peer):
    peer.send(response(SENT)[:-20])
    peer.hang_up()


def cut_a_chunk_short(peer):
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\n{")
    peer.hang_up()


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


# Limits


def endless(head, piece):
    def pour(peer):
        peer.send(head)
        for _ in range(100 * 1024 * 1024 // len(piece)):
            peer.send(piece)

    return pour


@pytest.mark.parametrize(
    "behaviour",
    [
        endless(b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n", b" " * 65536),
        endless(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999999\r\n\r\n", b" " * 65536),
        endless(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b" " * 65536),
        endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b" " * 65536 + b"\r\n"),
        endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0" * 65536),
        endless(b"HTTP/1.1 200 OK\r\n", b"X-Padding: " + b"a" * 60000 + b"\r\n"),
        endless(b"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:9/\r\n\r\n", b" " * 65536),
    ],
    ids=["length", "huge-length", "no-length", "chunks", "chunk-size", "headers", "redirect"],
)
def test_a_hundred_megabytes_are_cut_off_without_filling_the_memory(server, gateway, behaviour):
    server.behave(behaviour)
    tracemalloc.start()
    try:
        with pytest.raises((UnexpectedAnswerError, ConnectionLostError)):
            send(gateway)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 1024 * 1024


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compression_bomb_is_cut_off_without_filling_the_memory(server, gateway, encoding):
    bomb = (gzip if encoding == "gzip" else zlib).compress(b" " * 60_000_000)
    assert len(bomb) < 100_000
    server.behave(answer(body=bomb, headers={"Content-Encoding": encoding}))
    tracemalloc.start()
    try:
        with pytest.raises(UnexpectedAnswerError, match="longer than"):
            send(gateway)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 1024 * 1024


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_packed_answer_is_read(server, gateway, encoding):
    packed = (gzip if encoding == "gzip" else zlib).compress(b'{"message": "OK", "status": "qr", "code": null}')
    server.behave(answer(body=packed, headers={"Content-Encoding": encoding}))
    assert gateway.get_status().session_status is SessionStatus.QR


@pytest.mark.parametrize(
    ("body", "encoding"), [(gzip.compress(b"{}" * 500, mtime=0)[:-12], "gzip"), (b"not gzip", "gzip"), (b"{}", "br")]
)
def test_a_packed_answer_that_cannot_be_unpacked_is_unexpected(server, gateway, body, encoding):
    server.behave(answer(body=body, headers={"Content-Encoding": encoding}))
    with pytest.raises(UnexpectedAnswerError):
        send(gateway)


def test_an_answer_of_just_the_cap_is_read(server, gateway):
    body = b'{"message": "OK", "status": "qr", "code": null}'
    server.behave(answer(body=body.ljust(100_000)), answer(body=body.ljust(100_001)))
    assert gateway.get_status().word == "qr"
    with pytest.raises(UnexpectedAnswerError):
        gateway.get_status()


# Where requests must not go


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_the_other_host_hears_nothing(server, gateway, start_server, status):
    other = start_server()
    server.behave(said(status, {}, headers={"Location": f"{other.url}/openapi/wa/message?to=6281234567890"}))
    with pytest.raises(UnexpectedAnswerError, match=r"redirect to http://127\.0\.0\.1") as failed:
        send(gateway)
    assert "1234567890" not in str(failed.value)
    assert other.connections == 0
    assert len(server.requests) == 1


def test_proxies_of_the_environment_are_not_used(server, gateway, start_server, monkeypatch):
    proxy = start_server()
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    gateway.get_status()
    assert len(server.requests) == 1
    assert proxy.connections == 0


def test_a_netrc_file_is_not_used(server, gateway, tmp_path, monkeypatch):
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login kasir password hunter2\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    gateway.get_status()
    assert b"authorization" not in server.requests[0].lower()


def test_cookies_are_not_kept(server, gateway):
    server.behave(answer(headers={"Set-Cookie": "license=1; Path=/"}))
    gateway.get_status()
    gateway.get_status()
    assert b"cookie" not in server.requests[1].lower()


# The second base URL


def test_the_second_base_url_is_tried_where_the_first_refuses(server, make_gateway):
    server.behave(answer(SENT))
    assert send(make_gateway(f"http://127.0.0.1:{free_port()}", server.url)).id == "3EB0A1"


def test_the_second_base_url_is_tried_where_the_first_has_no_address(server, make_gateway):
    server.behave(answer(SENT))
    assert send(make_gateway(NO_HOST, server.url)).id == "3EB0A1"


@pytest.mark.parametrize("host", ["a..b", "x" * 64, "x." * 130])
def test_a_host_name_that_is_none_does_not_resolve(make_gateway, host):
    with pytest.raises(NotConnectedError, match="does not resolve"):
        send(make_gateway(f"http://{host}/backend"))


def test_a_host_that_is_no_tls_is_told_apart(start_server, make_gateway):
    plain = start_server(greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(NotConnectedError, match="TLS handshake failed"):
        send(make_gateway(plain.url.replace("http:", "https:")))


@pytest.mark.usefixtures("impatient")
def test_the_second_base_url_is_tried_where_the_first_is_no_tls(server, start_server, make_gateway):
    plain = start_server()
    server.behave(answer(SENT))
    assert send(make_gateway(plain.url.replace("http:", "https:"), server.url)).id == "3EB0A1"


@pytest.mark.usefixtures("impatient")
def test_the_second_base_url_is_tried_where_connecting_to_the_first_takes_too_long(server, make_gateway):
    server.behave(answer(SENT))
    started = time.monotonic()
    with full_port() as port:
        assert send(make_gateway(f"http://127.0.0.1:{port}", server.url)).id == "3EB0A1"
    assert time.monotonic() - started > 0.2


@pytest.mark.usefixtures("impatient")
def test_the_second_base_url_is_tried_where_the_tls_handshake_of_the_first_stalls(server, make_gateway):
    server.behave(answer(SENT))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        assert send(make_gateway(url, server.url)).id == "3EB0A1"


@pytest.mark.parametrize(
    "behaviour",
    [hang_up, said(500, {"message": "Oops", "error": "x", "code": None}), said(504, {"message": "Timeout"})],
)
def test_the_second_base_url_hears_nothing_of_a_request_that_reached_the_first(
    server, start_server, make_gateway, behaviour
):
    second = start_server()
    server.behave(behaviour)
    with pytest.raises(GatewayError) as failed:
        send(make_gateway(server.url, second.url))
    assert failed.value.from_fallback is False
    assert second.connections == 0


def test_a_401_of_the_second_base_url_says_where_it_came_from(server, make_gateway):
    server.behave(said(401, {"message": "Unauthorized"}))
    with pytest.raises(UnauthorizedError) as failed:
        send(make_gateway(f"http://127.0.0.1:{free_port()}", server.url))
    assert failed.value.from_fallback is True


def test_without_any_connection_nothing_was_sent_and_every_reason_is_given(make_gateway):
    with pytest.raises(NotConnectedError) as failed:
        send(make_gateway(f"http://127.0.0.1:{free_port()}", NO_HOST))
    assert "connection refused" in str(failed.value)
    assert "does not resolve" in str(failed.value)


def test_the_deadline_holds_over_both_base_urls(make_gateway, limits):
    limits(CONNECT_TIMEOUT_SECONDS=30, deadline_seconds=0.4)
    started = time.monotonic()
    with full_port() as first, full_port() as second, pytest.raises(NotConnectedError):
        send(make_gateway(f"http://127.0.0.1:{first}", f"http://127.0.0.1:{second}"))
    assert time.monotonic() - started < 5


@pytest.mark.usefixtures("impatient")
def test_a_resolver_that_hangs_is_not_waited_for(make_gateway, monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(30) and [])
    started = time.monotonic()
    try:
        with pytest.raises(NotConnectedError):
            send(make_gateway("http://slow-resolver.example"))
        assert time.monotonic() - started < 5
    finally:
        released.set()


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return write_certificate(tmp_path_factory.mktemp("tls") / "server.pem")


@pytest.fixture
def tls_server(start_server, certificate):
    return start_server(tls_context(certificate))


@pytest.fixture
def trusted(certificate, monkeypatch):
    monkeypatch.setattr(http, "_tls_context", lambda: ssl.create_default_context(cafile=certificate))


@pytest.mark.usefixtures("trusted")
def test_over_tls_calls_share_a_connection_as_well(tls_server, make_gateway):
    tls_server.behave(answer(SENT))
    gateway = make_gateway(tls_server.url)
    assert [send(gateway).id for _ in range(3)] == ["3EB0A1"] * 3
    assert tls_server.connections == 1


@pytest.mark.usefixtures("trusted", "impatient")
def test_over_tls_a_dripping_answer_ends_at_the_deadline(tls_server, make_gateway):
    tls_server.behave(drip_headers)
    started = time.monotonic()
    with pytest.raises(GatewayTimeoutError):
        send(make_gateway(tls_server.url))
    assert time.monotonic() - started < 3


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("behaviour", [hang_up, cut_the_body_short])
def test_over_tls_a_connection_lost_is_in_doubt(tls_server, make_gateway, behaviour):
    tls_server.behave(behaviour)
    with pytest.raises(ConnectionLostError):
        send(make_gateway(tls_server.url))


def test_a_certificate_that_nobody_vouches_for_is_refused_before_anything_is_sent(tls_server, make_gateway):
    with pytest.raises(NotConnectedError, match="certificate is not valid"):
        send(make_gateway(tls_server.url))
    assert tls_server.requests == []


def test_threads_that_begin_together_share_one_set_of_certificates():
    http._made_context.cache_clear()
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: http._tls_context(), range(8)))
    assert len({id(context) for context in made}) == 1


def test_plain_http_reads_no_certificates(server, make_gateway):
    http._made_context.cache_clear()
    server.behave(answer(SENT))
    assert send(make_gateway(server.url)).id == "3EB0A1"
    assert http._made_context.cache_info().currsize == 0


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


# Loading


def test_the_default_gateway_is_the_http_one(settings):
    settings.KPWA = {}
    assert load_gateway_class() is HttpGateway


def test_importing_the_package_imports_no_http_client():
    program = "import sys, django_kpwa.gateway, django_kpwa.gateway.outcome; sys.exit('requests' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
