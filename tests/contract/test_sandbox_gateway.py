"""The simulated phone passes the contract of every gateway, called directly and through the real HTTP client."""

from __future__ import annotations

import pytest

from django_kpwa.encryption import Secret
from django_kpwa.exceptions import BadRequestError, ServerError
from django_kpwa.gateway.http import HttpGateway
from django_kpwa.sandbox import page, world
from django_kpwa.sandbox.phone import SandboxGateway, resolve
from django_kpwa.sandbox.world import QR_SECONDS, Sandbox
from tests.sandbox import SandboxProcess

from .gateway_case import GatewayCase, scanned


class TestSandboxGateway(GatewayCase):
    @pytest.fixture(autouse=True)
    def _sandbox(self):
        self.sandbox = Sandbox()
        self.account = self.sandbox.add_account("Toko", self.api_key, groups=[self.group_name])
        self.sandbox.set_registered("6281200000001", False)

    def make_gateway(self, api_key=GatewayCase.api_key):
        return SandboxGateway(Secret(api_key), sandbox=self.sandbox)

    def link(self):
        self.sandbox.scan(self.account)

    def unlink(self):
        self.sandbox.log_out(self.account)

    def test_a_linked_license_has_no_qr(self, gateway):
        with pytest.raises(BadRequestError):
            gateway.get_login_qr()

    def test_the_qr_holds_for_twenty_seconds_and_then_is_another(self, unlinked_gateway):
        first = scanned(unlinked_gateway.get_login_qr().png())
        assert scanned(unlinked_gateway.get_login_qr().png()) == first
        self.account.qr_expires_at -= QR_SECONDS
        assert scanned(unlinked_gateway.get_login_qr().png()) != first

    def test_a_restart_of_an_unlinked_license_changes_its_qr(self, unlinked_gateway):
        first = scanned(unlinked_gateway.get_login_qr().png())
        assert unlinked_gateway.restart().word == "qr"
        assert scanned(unlinked_gateway.get_login_qr().png()) != first

    def test_an_unlinked_license_can_be_told_to_answer_500(self, unlinked_gateway):
        self.sandbox.set_unlinked_status(500)
        with pytest.raises(ServerError):
            unlinked_gateway.send_message(self.registered_number, self.text)

    def test_a_number_without_whatsapp_is_sent_nothing(self, gateway):
        with pytest.raises(BadRequestError) as refused:
            gateway.send_message("081200000001", self.text)
        assert refused.value.errors
        assert self.sandbox.ledger == []

    def test_a_group_that_does_not_exist_is_sent_nothing(self, gateway):
        with pytest.raises(BadRequestError):
            gateway.send_group_message("Nobody", self.text)
        assert self.sandbox.ledger == []

    def test_what_was_refused_for_want_of_a_link_is_not_in_the_ledger(self, unlinked_gateway):
        with pytest.raises(BadRequestError):
            unlinked_gateway.send_message(self.registered_number, self.text)
        assert self.sandbox.ledger == []


@pytest.fixture(scope="module")
def process():
    license, group = f"Toko:{GatewayCase.api_key}", GatewayCase.group_name
    with SandboxProcess("--license", license, "--group", group, "--unregistered", "081200000001") as process:
        yield process


class TestHttpGatewayAndSandboxProcess(GatewayCase):
    """`HttpGateway → server → SandboxGateway`: the full round trip."""

    @pytest.fixture(autouse=True)
    def _process(self, process):
        self.process = process

    def make_gateway(self, api_key=GatewayCase.api_key):
        return HttpGateway(Secret(api_key), base_urls=[self.process.base_url])

    def link(self):
        self.process.scan()

    def unlink(self):
        self.process.logout()

    def test_a_message_arrives_as_it_was_sent(self, gateway):
        sent = gateway.send_message(self.registered_number, self.text, self.image_url)
        entry = self.process.ledger()[-1]
        assert (entry["id"], entry["recipient"], entry["group"]) == (sent.id, self.registered_number_as_read, "")
        assert (entry["text"], entry["image_url"], entry["license"]) == (self.text, self.image_url, "Toko")

    def test_a_message_to_a_group_arrives_in_the_group(self, gateway):
        gateway.send_group_message(self.group_name, self.text)
        entry = self.process.ledger()[-1]
        assert (entry["recipient"], entry["group"], entry["text"]) == ("", self.group_name, self.text)

    def test_the_answer_names_the_linked_phone(self, gateway):
        assert gateway.send_message(self.registered_number, self.text).from_number == "6281100000001"


def test_in_a_process_without_a_sandbox_of_its_own_there_is_one_with_the_default_key(monkeypatch):
    monkeypatch.setattr(world, "_current", None)
    assert resolve("another-key") is None
    gateway = resolve(world.DEFAULT_KEY)
    assert gateway.get_status().word == "qr"
    world.current().scan(world.current().account())
    assert gateway.send_message("081234567890", "Struk").id == world.current().ledger[0].id


def test_the_state_of_a_phone_changes_with_its_qr():
    sandbox = Sandbox()
    account = sandbox.add_account("Toko", "contract-key")
    sandbox.current_qr(account)
    first = page.state_of(sandbox, account, "")
    assert 0 < page.seconds_to_next_qr(account) <= QR_SECONDS
    account.qr_expires_at -= QR_SECONDS
    sandbox.current_qr(account)
    assert page.state_of(sandbox, account, "")["version"] > first["version"]
