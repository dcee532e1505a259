"""The dead man's switch, on real sockets: when its URL is called, and that a URL that hangs delays nothing."""

from __future__ import annotations

import logging
import socket
import threading
import time
from contextlib import contextmanager

import pytest

from django_kpwa import heartbeat_url, outside
from django_kpwa.dispatch import sweep
from django_kpwa.models import OutboundMessage, Status
from django_kpwa.outbox import send_message
from django_kpwa.testing import deliver

pytestmark = pytest.mark.django_db(transaction=True)

PATH = "/ping/a-secret-path-0123456789"


@pytest.fixture(autouse=True)
def _process():
    """Start each test as a process that has not called the URL yet."""
    forget()
    yield
    wait_for_threads()
    forget()


def forget():
    heartbeat_url.asking.forget()
    heartbeat_url.logging.forget()


def wait_for_threads():
    for thread in threading.enumerate():
        if thread.name == outside.THREAD:
            thread.join(10)
            assert not thread.is_alive()


@contextmanager
def listening(*parts, pause=0.0):
    """Run a server that reads a request and sends `parts` with pauses. Yields its URL and the requests."""
    requests: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        is_over = threading.Event()

        def serve():
            while not is_over.is_set():
                try:
                    client, _ = server.accept()
                except TimeoutError:
                    continue
                with client:
                    requests.append(whole_request(client))
                    try:
                        for part in parts:
                            client.sendall(part)
                            is_over.wait(pause)
                    except OSError:
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}{PATH}", requests
        finally:
            is_over.set()
            thread.join()


def whole_request(client):
    """Return what the client sends, with the body that its headers announce."""
    read = client.recv(4096)
    head, _, body = read.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length and (more := client.recv(4096)):
        read, body = read + more, body + more
    return read


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"


def test_a_sweep_asks_once_a_minute_and_no_more(kpwa, caplog):
    with listening(OK) as (url, requests), caplog.at_level(logging.DEBUG):
        kpwa(HEARTBEAT_URL=url)
        for _ in range(3):
            sweep()
            wait_for_threads()
        assert len(requests) == 1
        assert requests[0].startswith(f"GET {PATH} HTTP/1.1\r\n".encode())
        heartbeat_url.asking.forget()
        sweep()
        wait_for_threads()
        assert len(requests) == 2
    assert "secret-path" not in caplog.text
    assert "could not be requested" not in caplog.text


def test_an_address_that_drips_delays_no_send_and_is_left_after_its_time(license_, kpwa, caplog):
    with listening(b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n"] * 200, pause=0.1) as (url, requests):
        kpwa(HEARTBEAT_URL=url)
        send_message("0812 3456 7890", "struk", license=license_)
        began = time.monotonic()
        sweep()
        deliver()
        took = time.monotonic() - began
        assert OutboundMessage.objects.get().status == Status.SENT
        assert any(thread.name == outside.THREAD for thread in threading.enumerate())
        wait_for_threads()
        assert len(requests) == 1
    assert took < 1.5
    assert heartbeat_url.SECONDS - 0.5 < time.monotonic() - began < heartbeat_url.SECONDS + 2
    assert "127.0.0.1 could not be requested: it took longer than 3 seconds" in caplog.text
    assert "secret-path" not in caplog.text


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: /elsewhere-secret\r\nContent-Length: 0\r\n\r\n", "it answered 302"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", "it answered 500"),
        (b"nonsense\r\n\r\n", "ProtocolError"),
    ],
)
def test_a_failure_is_logged_once_in_an_hour_and_a_redirect_is_not_followed(kpwa, caplog, answer, words):
    with listening(answer) as (url, requests), caplog.at_level(logging.DEBUG):
        kpwa(HEARTBEAT_URL=url)
        for _ in range(2):
            sweep()
            wait_for_threads()
            heartbeat_url.asking.forget()
        assert len(requests) == 2
    assert caplog.text.count("could not be requested") == 1
    assert words in caplog.text
    assert "secret" not in caplog.text


def test_an_address_in_the_clear_is_not_asked(kpwa):
    kpwa(HEARTBEAT_URL="http://192.0.2.1/ping")
    sweep()
    assert heartbeat_url.asking.passes(60)
