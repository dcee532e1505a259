"""An `HttpGateway`, and real servers that misbehave."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from django_kpwa.encryption import Secret
from django_kpwa.gateway.http import HttpGateway

from ..misbehaving import MisbehavingServer
from .peers import KEY


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
