"""A gateway that keeps messages in memory, for a site's own tests, like `django.core.mail.outbox`.

    KPWA = {"GATEWAY": "django_kpwa.gateway.locmem.LocmemGateway"}

    locmem.clear()
    ...
    assert locmem.outbox[0].to == "6281234567890"

Its state is shared by all licenses and threads of the process: call `clear()` before each test.
"""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass, field

from django.utils import timezone

from ..exceptions import BadRequestError, GatewayError
from ..phone import gateway_reading
from .base import Gateway, NumberCheck, SentMessage, ServiceStatus, SessionStatus, WebhookAnswer, require_content
from .qr import LoginQr

LINKED_NUMBER = ""
"""`SentMessage.from_number` of all sends: empty, because there is no phone. A test about another phone may set it."""


@dataclass(frozen=True)
class LocmemMessage:
    """A sent message, either to the number `to`, as the gateway reads it, or to `group_name`; the other is empty."""

    id: str
    to: str
    group_name: str
    text: str
    image_url: str = ""


@dataclass
class _Phone:
    session_status: SessionStatus = SessionStatus.CONNECTED
    webhook_url: str = field(default="", repr=False)
    failures: list[GatewayError] = field(default_factory=list)
    unregistered: set[str] = field(default_factory=set)


outbox: list[LocmemMessage] = []
"""All messages sent, oldest first. Tests hold references to this list: clear it, never replace it."""

_phone = _Phone()
_lock = threading.Lock()


def clear() -> None:
    """Empty the outbox and reset everything set here: linked, no webhook, no send set to fail."""
    global _phone
    with _lock:
        outbox.clear()
        _phone = _Phone()


def fail_next(*errors: GatewayError | type[GatewayError]) -> None:
    """Make the next sends raise these errors, one each, before sends succeed again.

    Without arguments, the next send is refused because of its recipient, which makes its message `failed`. An exception
    class is raised with a default message. Raises `TypeError` for anything but a `GatewayError`.
    """
    raised: list[GatewayError] = []
    for error in errors or (_refused(),):
        if isinstance(error, type) and issubclass(error, GatewayError):
            raised.append(error("The send fails, as a test requested."))
        elif isinstance(error, GatewayError):
            raised.append(error)
        else:
            raise TypeError(f"fail_next() takes GatewayErrors of django_kpwa.exceptions, not {error!r}.")
    with _lock:
        _phone.failures.extend(raised)


def _refused() -> GatewayError:
    # A refusal that names the recipient is final; another one may be tried again.
    reason = "The number is not registered on WhatsApp."
    return BadRequestError(f"The gateway refused: {reason}", status_code=400, errors=(reason,), words="Bad Request")


def link() -> None:
    """Report the license as linked, which it also is after `clear()`."""
    _phone.session_status = SessionStatus.CONNECTED


def unlink() -> None:
    """Report the license as not linked: its status is `qr`, and sends are refused with a 400."""
    _phone.session_status = SessionStatus.QR


def set_unregistered(*phone_numbers: str) -> None:
    """Make `check_number()` report that exactly these numbers have no WhatsApp."""
    _phone.unregistered = {gateway_reading(number) for number in phone_numbers}


def webhook_url() -> str:
    """The URL set as the webhook, or an empty string."""
    return _phone.webhook_url


class LocmemGateway(Gateway):
    """Accepts every key and appends messages to `outbox`."""

    pretends = "kept in memory"

    def restart(self) -> ServiceStatus:
        return ServiceStatus(SessionStatus.UNKNOWN, word="ready", message="Restarted", code=20001)

    def get_status(self, *, deadline_seconds: float | None = None) -> ServiceStatus:
        status = _phone.session_status
        return ServiceStatus(status, word=status.value, message="OK", code=20001)

    def get_login_qr(self) -> LoginQr:
        if _phone.session_status is SessionStatus.CONNECTED:
            raise BadRequestError("The license is already linked.", status_code=400)
        return LoginQr.from_text(f"2@{uuid.uuid4().hex},locmem,locmem,locmem")

    def check_number(self, phone_number: str) -> NumberCheck:
        return NumberCheck(gateway_reading(phone_number) not in _phone.unregistered, message="OK", code=20001)

    def send_message(self, phone_number: str, text: str = "", image_url: str = "") -> SentMessage:
        return self._send(gateway_reading(phone_number), "", text, image_url)

    def send_group_message(self, group_name: str, text: str = "", image_url: str = "") -> SentMessage:
        return self._send("", group_name, text, image_url)

    def set_webhook(self, url: str) -> WebhookAnswer:
        _phone.webhook_url = url
        return WebhookAnswer(message="OK", code=20001)

    def reset_webhook(self) -> ServiceStatus:
        _phone.webhook_url = ""
        return self.get_status()

    def _send(self, to: str, group_name: str, text: str, image_url: str) -> SentMessage:
        require_content(text, image_url)
        with _lock:
            if _phone.failures:
                raise _phone.failures.pop(0)
            if _phone.session_status is not SessionStatus.CONNECTED:
                raise BadRequestError("The license is not linked.", status_code=400)
            sent = LocmemMessage(uuid.uuid4().hex, to, group_name, text, image_url)
            outbox.append(sent)
        return SentMessage(
            id=sent.id,
            body=text,
            from_number=LINKED_NUMBER,
            to=to or group_name,
            media_url=image_url or None,
            created_at=timezone.now().strftime("%Y-%m-%d %H:%M:%S"),
            message="OK",
            code=20001,
        )
