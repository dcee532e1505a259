"""Calls over TLS: shared connections, deadlines, lost connections and certificates."""

from __future__ import annotations

import ssl
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from django_kpwa.exceptions import ConnectionLostError, GatewayTimeoutError, NotConnectedError
from django_kpwa.gateway import http

from ..certificates import tls_context, write_certificate
from ..misbehaving import answer
from .peers import SENT, cut_the_body_short, drip_headers, hang_up, send


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
