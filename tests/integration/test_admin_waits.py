"""How long a web request may wait for a gateway that stalls: less than gunicorn's worker timeout of 30 seconds."""

from __future__ import annotations

from time import monotonic

import pytest

from django_kpwa import license_actions, webhook_address
from django_kpwa.admin.license_link import CHECK_DEADLINE_SECONDS
from django_kpwa.gateway.http import HttpGateway
from django_kpwa.license_actions import WEB_SECONDS
from django_kpwa.models import License

from .misbehaving import answer, full_port, response

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/django_kpwa/license/"
SECONDS = 0.4
NO_CODE = answer({"message": "Failed", "error": "x", "code": None}, 500)


def stall(peer):
    peer.stall()


def drip_headers(peer):
    peer.drip(b"HTTP/1.1 200 OK\r\n" + b"X-Padding: 1\r\n" * 1000)


def drip_body(peer):
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n")
    peer.drip(b" " * 50000)


def drip_interim(peer):
    while True:
        peer.drip(b"HTTP/1.1 102 Processing\r\n\r\n")


def late(peer):
    peer.stopped.wait(SECONDS * 0.7)
    peer.send(response({"message": "OK", "status": "qr", "code": 20001}))


class HurriedGateway(HttpGateway):
    """Uses `SECONDS` where a web request may take `WEB_SECONDS`, and scales the time for a check of the link alike."""

    CONNECT_TIMEOUT_SECONDS = SECONDS / 4

    def __setattr__(self, name, value):
        if name == "ends_at":
            value = monotonic() + (value - monotonic()) * SECONDS / WEB_SECONDS
        super().__setattr__(name, value)

    def get_status(self, *, deadline_seconds=None):
        if deadline_seconds is not None:
            deadline_seconds *= SECONDS / CHECK_DEADLINE_SECONDS
        return super().get_status(deadline_seconds=deadline_seconds)


@pytest.fixture
def shop(server, settings, monkeypatch):
    """A license whose first base URL accepts no connection and whose second misbehaves. A call may take 45 seconds."""
    monkeypatch.setattr(webhook_address, "check", lambda *_, **__: None)
    with full_port() as port:
        settings.KPWA = {
            **settings.KPWA,
            "GATEWAY": f"{__name__}.HurriedGateway",
            "BASE_URLS": [f"http://127.0.0.1:{port}/backend", server.url],
        }
        license_ = License(name="Toko")
        license_.set_api_key("a-key-of-the-gateway")
        license_.save()
        yield license_


YES = {"confirmed": "yes"}
PAGES = {
    "link/": {}, "link/check/": {}, "check_status/": {}, "restart/": YES, "register_webhook/": {},
    "reset_webhook/": YES, "check_number/": {"to": "081234567890"},
}  # fmt: skip
BEHAVIOURS = [
    (drip_headers,), (drip_body,), (drip_interim,), (late, stall), (NO_CODE, drip_body), (late, late, late),
]  # fmt: skip


# Every page is tested with one behaviour, and two pages with every behaviour, but not each page with each behaviour.
CASES = [*((page, (stall,)) for page in PAGES), *((page, how) for page in ("link/", "restart/") for how in BEHAVIOURS)]


@pytest.mark.parametrize(
    ("page", "behaviours"), CASES, ids=[f"{page} {'-'.join(one.__name__ for one in how)}" for page, how in CASES]
)
def test_no_page_of_a_license_holds_its_worker_while_the_gateway_stalls(operator, shop, server, page, behaviours):
    server.behave(*behaviours)
    began_at = monotonic()
    answer = operator.post(f"{LIST}{shop.pk}/{page}", PAGES[page], headers={"X-Kpwa-Part": "panel"})
    assert monotonic() - began_at < SECONDS + 4
    assert answer.status_code in (200, 302)
    assert server.requests, "the gateway was not called"


def test_a_check_that_took_too_long_says_so(operator, shop, server):
    server.behave(stall)
    answer = operator.post(f"{LIST}{shop.pk}/link/check/", headers={"X-Kpwa-Part": "panel"})
    assert "No answer in time" in answer.content.decode()


def test_all_that_a_page_may_ask_for_takes_less_than_a_worker_has(settings):
    del settings.KPWA
    assert WEB_SECONDS + webhook_address.TRY_SECONDS < 28


def test_who_asks_without_such_a_bound_has_the_deadline_of_each_call(shop, server, settings):
    unhurried = {"GATEWAY": "django_kpwa.gateway.http.HttpGateway", "CALL_DEADLINE_SECONDS": 60}
    settings.KPWA = {**settings.KPWA, **unhurried, "BASE_URLS": [server.url]}
    server.behave(late, late)
    license_actions.restart(shop)
    assert len(server.requests) == 2
