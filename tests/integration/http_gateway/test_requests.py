"""What `HttpGateway` sends, and where its requests must not go."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_kpwa.encryption import Secret
from django_kpwa.exceptions import InvalidApiKeyError, UnexpectedAnswerError
from django_kpwa.gateway import load_gateway_class
from django_kpwa.gateway.http import HttpGateway

from ..misbehaving import answer, response
from .peers import KEY, NUMBER, SENT, said, send

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


# Loading


def test_the_default_gateway_is_the_http_one(settings):
    settings.KPWA = {}
    assert load_gateway_class() is HttpGateway


def test_importing_the_package_imports_no_http_client():
    program = "import sys, django_kpwa.gateway, django_kpwa.gateway.outcome; sys.exit('requests' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
