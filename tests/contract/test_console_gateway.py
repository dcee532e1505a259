"""`ConsoleGateway` passes the contract of every gateway, and prints its messages."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

from django_kpwa.encryption import Secret
from django_kpwa.gateway.console import ConsoleGateway

from .gateway_case import GatewayCase


class TestConsoleGateway(GatewayCase):
    checks_keys = False
    has_session = False
    unregistered_number = None

    def make_gateway(self, api_key="contract-key"):
        return ConsoleGateway(Secret(api_key), stream=io.StringIO())

    def test_its_qr_can_be_scanned(self, gateway):
        self.assert_qr_can_be_scanned(gateway)


def test_a_message_is_printed_whole_with_its_recipient_and_id():
    stream = io.StringIO()
    sent = ConsoleGateway(Secret("key-4711"), stream=stream).send_message(
        "0812 3456 7890", "Terima kasih\nTotal *Rp 5.000*", "https://shop.example/a.png"
    )
    printed = stream.getvalue()
    assert "number 6281234567890" in printed
    assert sent.id in printed
    assert "Image: https://shop.example/a.png" in printed
    assert "Terima kasih\nTotal *Rp 5.000*\n" in printed


def test_neither_the_key_nor_a_webhooks_token_is_printed():
    stream = io.StringIO()
    gateway = ConsoleGateway(Secret("key-4711"), stream=stream)
    gateway.set_webhook("https://shop.example/webhooks/token-0815/")
    gateway.send_group_message("Kasir", "tutup buku")
    gateway.reset_webhook()
    gateway.restart()
    printed = stream.getvalue()
    assert "shop.example" in printed
    assert "token-0815" not in printed
    assert "key-4711" not in printed


def test_without_a_stream_it_prints_to_standard_output(capsys):
    ConsoleGateway(Secret("key")).send_group_message("Kasir", "tutup buku")
    assert "group Kasir" in capsys.readouterr().out


def test_messages_of_many_threads_do_not_run_into_each_other():
    stream = io.StringIO()
    gateway = ConsoleGateway(Secret("key"), stream=stream)
    with ThreadPoolExecutor(8) as pool:
        sent = list(pool.map(lambda at: gateway.send_group_message("Kasir", f"baris {at}\nakhir {at}"), range(200)))
    assert len({message.id for message in sent}) == 200
    blocks = stream.getvalue().split("-" * 79 + "\n")[:-1]
    assert sorted(block.split("\n", 1)[1] for block in blocks) == sorted(
        f"baris {at}\nakhir {at}\n" for at in range(200)
    )
