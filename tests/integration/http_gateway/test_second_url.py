"""When the second base URL is tried, and when it must not be."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from django_kpwa.exceptions import GatewayError, NotConnectedError, UnauthorizedError

from ..misbehaving import NO_HOST, answer, free_port, full_port
from .peers import SENT, hang_up, said, send


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
