"""An image's address is passed on and shown but never opened: it could name anything that the server reaches."""

from __future__ import annotations

import json
from urllib.parse import parse_qs

import pytest
from django.contrib.auth import get_user_model
from django.urls import reverse

from django_kpwa import outbox, receipts
from django_kpwa.dispatch import drive
from django_kpwa.gateway.console import ConsoleGateway
from django_kpwa.models import DatabaseNow, OutboundMessage, Status, WebhookEvent
from django_kpwa.webhooks import process_event
from django_kpwa.webhooks.arrivals import store_event
from tests.cli import kpwa
from tests.integration.misbehaving import MisbehavingServer, answer
from tests.shop.models import Sale

NUMBER = "6281234567890"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def servers():
    started = [MisbehavingServer(), MisbehavingServer()]
    yield started
    for server in started:
        server.close()


@pytest.fixture
def gateway(servers):
    servers[0].behave(answer({"message": "OK", "status": "connected", "code": 20001, "result": {"id": "A1"}}))
    return servers[0]


@pytest.fixture
def image(servers):
    """A server that only this machine reaches. `connections` counts the connections made to it."""
    return servers[1]


@pytest.fixture
def image_url(image):
    return f"http://127.0.0.1:{image.port}/latest/meta-data/logo.png"


@pytest.fixture
def shop(license_, gateway, settings):
    settings.KPWA = {**settings.KPWA, "GATEWAY": "django_kpwa.gateway.http.HttpGateway", "RENDER_DELAY_SECONDS": 0}
    settings.DEBUG = True  # without DEBUG, an address of this machine is refused
    license_.base_url = gateway.url
    license_.set_api_key("a-key-of-the-gateway")
    license_.save()
    return license_


def sent_form(gateway):
    return parse_qs(gateway.requests[-1].partition(b"\r\n\r\n")[2].decode())


def test_sending_an_image_passes_its_address_on(shop, gateway, image, image_url):
    message = outbox.send_message(NUMBER, "Struk", image_url=image_url, license=shop)
    drive(shop.pk)
    message.refresh_from_db()
    assert message.status == Status.SENT
    assert sent_form(gateway)["imageUrl"] == [image_url]
    outbox.send_group_message("Dapur", image_url=image_url, license=shop)
    drive(shop.pk)
    assert sent_form(gateway)["imageUrl"] == [image_url]
    assert image.connections == 0


def test_a_receipts_image_is_passed_on(shop, gateway, image, image_url):
    class Illustrated(receipts.Receipt):
        def should_send(self, sale):
            return True

        def get_phone_number(self, sale):
            return sale.customer_phone

        def get_occurred_at(self, sale):
            return sale.sold_at

        def get_image_url(self, sale):
            return image_url

        def render(self, sale, **context):
            return "Struk"

    receipts.register(Sale)(Illustrated)
    try:
        Sale.objects.create(status=Sale.Status.OPEN, customer_phone=NUMBER)
        OutboundMessage.objects.update(due_at=DatabaseNow())
        drive(shop.pk)
    finally:
        receipts.unregister(Illustrated)
    assert sent_form(gateway)["imageUrl"] == [image_url]
    assert image.connections == 0


def test_the_admin_shows_addresses_as_text_and_links_which_neither_server_nor_browser_opens(
    shop, gateway, image, image_url, client
):
    message = outbox.send_message(NUMBER, f"lihat {image_url}", image_url=image_url, license=shop)
    drive(shop.pk)
    body = json.dumps({"from": NUMBER, "message": "foto", "image": image_url, "id": "C1"}).encode()
    assert process_event(store_event(shop.pk, body, "application/json"))
    assert WebhookEvent.objects.get().understood["media_url"] == image_url
    client.force_login(get_user_model().objects.create_superuser("boss"))
    for name, row in (("outboundmessage", message), ("webhookevent", WebhookEvent.objects.get())):
        pages = [
            client.get(reverse(f"admin:django_kpwa_{name}_changelist")).content.decode(),
            client.get(reverse(f"admin:django_kpwa_{name}_change", args=[row.pk])).content.decode(),
        ]
        assert image_url in pages[1]
        assert f'src="{image_url}' not in "".join(pages)
    assert image.connections == 0


def test_the_console_and_the_command_line_open_none_either(shop, settings, image, image_url, capsys):
    settings.KPWA = {**settings.KPWA, "GATEWAY": f"{ConsoleGateway.__module__}.ConsoleGateway"}
    kpwa("send", NUMBER, "Struk", "--image", image_url)
    drive(shop.pk)
    kpwa("messages", "--json")
    assert image_url in capsys.readouterr().out
    assert image.connections == 0


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://shop.example/a.png", "//shop.example/a.png", "a.png"])
def test_what_is_no_http_address_is_refused(shop, address):
    with pytest.raises(outbox.InvalidMessageError):
        outbox.send_message(NUMBER, "Struk", image_url=address, license=shop)
