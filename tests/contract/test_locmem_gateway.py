"""`LocmemGateway` passes the contract of every gateway, and has helpers for a site's tests."""

from __future__ import annotations

import pytest

from django_kpwa.encryption import Secret
from django_kpwa.exceptions import BadRequestError, GatewayTimeoutError, NotConnectedError
from django_kpwa.gateway import locmem

from .gateway_case import GatewayCase


@pytest.fixture(autouse=True)
def _empty_outbox():
    locmem.clear()
    yield
    locmem.clear()


class TestLocmemGateway(GatewayCase):
    checks_keys = False

    def make_gateway(self, api_key="contract-key"):
        locmem.set_unregistered(self.unregistered_number)
        return locmem.LocmemGateway(Secret(api_key))

    def link(self):
        locmem.link()

    def unlink(self):
        locmem.unlink()


def make_gateway():
    return locmem.LocmemGateway(Secret("any-key"))


def test_the_outbox_holds_what_was_sent_in_order():
    first = make_gateway().send_message("0812 3456 7890", "struk", "https://shop.example/a.png")
    second = make_gateway().send_group_message("Kasir", "tutup buku")
    assert locmem.outbox == [
        locmem.LocmemMessage(first.id, "6281234567890", "", "struk", "https://shop.example/a.png"),
        locmem.LocmemMessage(second.id, "", "Kasir", "tutup buku"),
    ]


def test_failures_are_raised_one_a_send_before_sends_succeed_again():
    locmem.fail_next(NotConnectedError("refused"), GatewayTimeoutError("stalled"))
    gateway = make_gateway()
    with pytest.raises(NotConnectedError):
        gateway.send_message("081234567890", "struk")
    assert gateway.get_status().word == "connected"
    with pytest.raises(GatewayTimeoutError):
        gateway.send_group_message("Kasir", "struk")
    gateway.send_message("081234567890", "struk")
    assert len(locmem.outbox) == 1


def test_a_linked_license_gives_no_qr():
    with pytest.raises(BadRequestError):
        make_gateway().get_login_qr()


def test_clear_forgets_messages_failures_link_state_webhook_and_numbers():
    gateway = make_gateway()
    gateway.send_message("081234567890", "struk")
    gateway.set_webhook("https://shop.example/hook/")
    locmem.fail_next(NotConnectedError("refused"))
    locmem.set_unregistered("081234567890")
    locmem.unlink()
    held = locmem.outbox

    locmem.clear()

    assert locmem.outbox is held
    assert locmem.outbox == []
    assert locmem.webhook_url() == ""
    assert gateway.get_status().word == "connected"
    assert gateway.check_number("081234567890").is_registered
    gateway.send_message("081234567890", "struk")


def test_the_webhook_url_is_the_one_that_was_set_last():
    gateway = make_gateway()
    gateway.set_webhook("https://shop.example/1/")
    gateway.set_webhook("https://shop.example/2/")
    assert locmem.webhook_url() == "https://shop.example/2/"
    gateway.reset_webhook()
    assert locmem.webhook_url() == ""
