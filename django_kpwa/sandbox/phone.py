"""The simulated phone as a `Gateway`: the contract's eight operations on the sandbox's state.

This module decides only what the service answers. Faults of the transport are simulated in `transport`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta, timezone

from ..encryption import Secret
from ..exceptions import BadRequestError, GatewayError, ServerError, UnauthorizedError
from ..gateway.base import (
    Gateway,
    NumberCheck,
    SentMessage,
    ServiceStatus,
    SessionStatus,
    WebhookAnswer,
    require_content,
    session_status_of,
)
from ..gateway.qr import LoginQr
from ..phone import gateway_reading
from .chats import ChatMessage
from .contract import SUCCESS_CODE
from .world import RESTRICTED, Account, Sandbox, current

# The reference names no time zone for created_at, so Jakarta's is assumed. The package itself never relies on it.
_JAKARTA = timezone(timedelta(hours=7))


def resolve(api_key: str) -> SandboxGateway | None:
    """Return the gateway for an API key of this process's sandbox; None for an unknown key."""
    sandbox = current()
    if sandbox.account_of_key(api_key) is None:
        return None
    return SandboxGateway(Secret(api_key), sandbox=sandbox)


class SandboxGateway(Gateway):
    """Sends to a simulated phone of `sandbox`, by default the sandbox of this process.

    With a key that the sandbox does not know, every operation raises `UnauthorizedError`.
    """

    pretends = "given to a simulated phone"

    def __init__(self, api_key: Secret, *, base_urls: Sequence[str] = (), sandbox: Sandbox | None = None) -> None:
        super().__init__(api_key, base_urls=base_urls)
        self._sandbox = sandbox or current()

    def restart(self) -> ServiceStatus:
        account = self._account()
        if not account.linked:
            self._sandbox.renew_qr(account)
        return _status(account, linked_word="ready", message="The service has been restarted.")

    def get_status(self, *, deadline_seconds: float | None = None) -> ServiceStatus:
        return _status(self._account(), message="The status of the service.")

    def get_login_qr(self) -> LoginQr:
        account = self._account()
        if account.linked:
            raise BadRequestError("The license is connected already.", status_code=400)
        return LoginQr.from_text(self._sandbox.current_qr(account))

    def check_number(self, phone_number: str) -> NumberCheck:
        account, number = self._linked_account(), _read(phone_number)
        registered = self._sandbox.is_registered(number) and not self._sandbox.denies(account, number)
        message = "The number is registered." if registered else "The number is not registered."
        return NumberCheck(registered, message=message, code=SUCCESS_CODE)

    def send_message(self, phone_number: str, text: str = "", image_url: str = "") -> SentMessage:
        account = self._linked_account()
        number = _read(phone_number)
        require_content(text, image_url)
        if not self._sandbox.is_registered(number):
            raise _refused("The number is not registered on WhatsApp.")
        self._turn_down_cold(account, number)
        return _sent(account, number, self._sandbox.accept(account, number, text, image_url))

    def send_group_message(self, group_name: str, text: str = "", image_url: str = "") -> SentMessage:
        account = self._linked_account()
        require_content(text, image_url)
        try:
            group = self._sandbox.group(account, group_name)
        except LookupError as error:
            raise _refused(str(error)) from None
        return _sent(account, group.id, self._sandbox.accept(account, group.id, text, image_url))

    def set_webhook(self, url: str) -> WebhookAnswer:
        self._sandbox.set_webhook(self._account(), url)
        return WebhookAnswer("The webhook has been stored.", SUCCESS_CODE)

    def reset_webhook(self) -> ServiceStatus:
        account = self._account()
        self._sandbox.set_webhook(account, "")
        return _status(account, message="The webhook has been removed.")

    def _account(self) -> Account:
        account = self._sandbox.account_of_key(self.api_key.reveal())
        if account is None:
            raise UnauthorizedError("The API key is not valid.", status_code=401)
        return account

    def _turn_down_cold(self, account: Account, number: str) -> None:
        if self._sandbox.restricts(account, number, "restricted_400"):
            raise _refused(RESTRICTED, "The account is restricted.")
        if self._sandbox.restricts(account, number, "restricted_500"):
            reason = "RESTRICT_ALL_COMPANIONS"
            raise ServerError("WhatsApp did not take the message.", status_code=500, code=463, errors=(reason,))
        if self._sandbox.restricts(account, number, "cold_refused_400"):
            raise BadRequestError("The message was not sent.", status_code=400)
        if self._sandbox.restricts(account, number, "cold_failed_500"):
            raise ServerError("The message was not sent.", status_code=500)

    def _linked_account(self) -> Account:
        account = self._account()
        if not account.linked:
            raise self._not_linked()
        return account

    def _not_linked(self) -> GatewayError:
        reason = "The session is not ready: scan the QR code first."
        if self._sandbox.unlinked_status == 500:
            return ServerError("WhatsApp is not connected.", status_code=500, errors=(reason,))
        return _refused(reason, "WhatsApp is not connected.")


def _status(account: Account, *, message: str, linked_word: str = "connected") -> ServiceStatus:
    word = linked_word if account.linked else SessionStatus.QR.value
    return ServiceStatus(session_status_of(word), word, message, SUCCESS_CODE)


def _read(phone_number: str) -> str:
    number = gateway_reading(phone_number)
    if not number:
        raise _refused("phoneNumber must have digits.")
    return number


def _sent(account: Account, to: str, message: ChatMessage) -> SentMessage:
    return SentMessage(
        id=message.id,
        body=message.text,
        from_number=account.number,
        to=to,
        media_url=message.image_url or None,
        created_at=message.at.astimezone(_JAKARTA).strftime("%Y-%m-%d %H:%M:%S"),
        message="The message has been sent.",
        code=SUCCESS_CODE,
    )


def _refused(reason: str, message: str = "The request was refused.") -> BadRequestError:
    return BadRequestError(message, status_code=400, errors=(reason,))
