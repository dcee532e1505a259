"""The test case that every `Gateway` must pass. Each implementation has a test class that inherits it.

    class TestLocmemGateway(GatewayCase):
        def make_gateway(self, api_key=GatewayCase.api_key):
            return LocmemGateway(Secret(api_key))

A subclass defines `make_gateway()`, and sets the attributes below according to what its gateway can do. It may override
`link()` and `unlink()`, and prepare its number and group in an autouse fixture. The name of the class does not start
with `Test`, so pytest collects only the subclasses.
"""

from __future__ import annotations

import pytest

from django_kpwa.exceptions import BadRequestError, GatewayError, InvalidMessageError, ServerError, UnauthorizedError
from django_kpwa.gateway import Gateway, LoginQr, NumberCheck, SentMessage, ServiceStatus, SessionStatus, WebhookAnswer


class GatewayCase:
    api_key = "contract-key"
    checks_keys = True
    """True if keys other than `api_key` are refused."""
    has_session = True
    """True if `link()` and `unlink()` have an effect."""

    registered_number = "081234567890"
    registered_number_as_read = "6281234567890"
    unregistered_number: str | None = "+62 812-0000-0001"
    """None if every number counts as registered."""
    group_name = "Toko & Kasir"
    text = "Terima kasih 🙏\nTotal: *Rp 1.250.000* (50% + 1)"
    image_url = "https://shop.example/struk.png?id=1&size=large"
    webhook_url = "https://shop.example/kpwa/webhooks/token/"

    def make_gateway(self, api_key: str = "contract-key") -> Gateway:
        raise NotImplementedError

    def link(self) -> None:
        """Link a WhatsApp account to the license of `api_key`."""

    def unlink(self) -> None:
        """Log the account out."""

    @pytest.fixture
    def gateway(self):
        self.link()
        with self.make_gateway() as gateway:
            yield gateway

    @pytest.fixture
    def unlinked_gateway(self, gateway):
        if not self.has_session:
            return None
        self.unlink()
        return gateway

    def test_a_text_to_a_number_is_accepted_with_an_id(self, gateway):
        sent = gateway.send_message(self.registered_number, self.text)
        assert isinstance(sent, SentMessage)
        assert isinstance(sent.id, str)
        assert sent.id
        assert sent.body == self.text

    def test_the_recipient_is_read_by_the_gateways_own_rule(self, gateway):
        assert gateway.send_message(self.registered_number, self.text).to == self.registered_number_as_read

    def test_two_sends_have_two_ids(self, gateway):
        first = gateway.send_message(self.registered_number, self.text)
        second = gateway.send_message(self.registered_number, self.text)
        assert first.id != second.id

    def test_an_image_goes_with_a_text_and_alone(self, gateway):
        with_text = gateway.send_message(self.registered_number, self.text, self.image_url)
        alone = gateway.send_message(self.registered_number, image_url=self.image_url)
        assert with_text.id
        assert alone.id
        assert with_text.id != alone.id

    def test_a_text_and_an_image_to_a_group_are_accepted_with_ids(self, gateway):
        assert gateway.send_group_message(self.group_name, self.text).id
        assert gateway.send_group_message(self.group_name, image_url=self.image_url).id

    @pytest.mark.parametrize("text", ["", "  \n"])
    def test_a_message_with_neither_text_nor_image_is_refused(self, gateway, text):
        with pytest.raises(InvalidMessageError):
            gateway.send_message(self.registered_number, text)
        with pytest.raises(InvalidMessageError):
            gateway.send_group_message(self.group_name, text)

    def test_the_status_of_a_linked_license_is_connected(self, gateway):
        status = gateway.get_status(deadline_seconds=10)
        assert isinstance(status, ServiceStatus)
        assert status.session_status is SessionStatus.CONNECTED
        assert status.word == "connected"

    def test_a_restart_answers_a_documented_word(self, gateway):
        status = gateway.restart()
        assert isinstance(status, ServiceStatus)
        assert status.word in ("qr", "ready")

    def test_a_registered_number_is_registered_in_every_spelling(self, gateway):
        for spelling in (self.registered_number, self.registered_number_as_read, f"+{self.registered_number_as_read}"):
            check = gateway.check_number(spelling)
            assert isinstance(check, NumberCheck)
            assert check.is_registered is True

    def test_another_number_is_not_registered(self, gateway):
        if self.unregistered_number is not None:
            assert gateway.check_number(self.unregistered_number).is_registered is False

    def test_a_webhook_is_set_and_reset(self, gateway):
        assert isinstance(gateway.set_webhook(self.webhook_url), WebhookAnswer)
        assert isinstance(gateway.reset_webhook(), ServiceStatus)

    def test_an_unlinked_license_has_the_status_qr_and_refuses_sends(self, unlinked_gateway):
        if unlinked_gateway is None:
            return
        assert unlinked_gateway.get_status().session_status is SessionStatus.QR
        with pytest.raises((BadRequestError, ServerError)):
            unlinked_gateway.send_message(self.registered_number, self.text)

    def test_an_unlinked_license_gives_a_qr_that_can_be_scanned(self, unlinked_gateway):
        if unlinked_gateway is None:
            return
        self.assert_qr_can_be_scanned(unlinked_gateway)

    def test_a_wrong_key_is_refused_by_every_operation(self):
        if not self.checks_keys:
            return
        self.link()
        with self.make_gateway("another-key") as stranger:
            for operation in (
                stranger.restart,
                stranger.get_status,
                stranger.get_login_qr,
                stranger.reset_webhook,
                lambda: stranger.check_number(self.registered_number),
                lambda: stranger.send_message(self.registered_number, self.text),
                lambda: stranger.send_group_message(self.group_name, self.text),
                lambda: stranger.set_webhook(self.webhook_url),
            ):
                with pytest.raises(UnauthorizedError) as refused:
                    operation()
                assert "another-key" not in str(refused.value)

    def test_the_key_is_in_no_repr(self, gateway):
        assert self.api_key not in repr(gateway)
        assert self.api_key not in repr(vars(gateway))

    def test_no_failure_is_anything_but_a_gateway_error(self, unlinked_gateway):
        if unlinked_gateway is None:
            return
        for send in (unlinked_gateway.send_message, unlinked_gateway.send_group_message):
            with pytest.raises(GatewayError):
                send(self.registered_number, self.text)

    def assert_qr_can_be_scanned(self, gateway):
        qr = gateway.get_login_qr()
        assert isinstance(qr, LoginQr)
        content = scanned(qr.png())
        assert content
        assert content not in repr(qr)
        assert qr.terminal().count("\n") > 10


def scanned(png: bytes) -> str:
    """Return the content of the QR code in a PNG file, or an empty string if it cannot be read."""
    import io

    import zxingcpp
    from PIL import Image

    codes = zxingcpp.read_barcodes(Image.open(io.BytesIO(png)).convert("L"))
    return codes[0].text if codes else ""
