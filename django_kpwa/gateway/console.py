"""A gateway that prints messages, for development, like Django's console e-mail backend.

It accepts every key and every number, and always reports that it is linked, without a phone number of its own. It
prints messages in full, but never the key or a webhook's token.
"""

from __future__ import annotations

import sys
import threading
import uuid
from collections.abc import Sequence
from typing import TextIO
from urllib.parse import urlsplit

from django.utils import timezone

from ..encryption import Secret
from ..logs import lines_of
from ..phone import gateway_reading
from .base import Gateway, NumberCheck, SentMessage, ServiceStatus, SessionStatus, WebhookAnswer, require_content
from .qr import LoginQr

_lock = threading.Lock()


class ConsoleGateway(Gateway):
    """Prints to `stream`; None means `sys.stdout` as it is at the time of the call."""

    pretends = "printed"

    def __init__(self, api_key: Secret, *, base_urls: Sequence[str] = (), stream: TextIO | None = None) -> None:
        super().__init__(api_key, base_urls=base_urls)
        self._stream = stream

    def restart(self) -> ServiceStatus:
        self._print("Restart")
        return ServiceStatus(SessionStatus.UNKNOWN, word="ready", message="Printed")

    def get_status(self, *, deadline_seconds: float | None = None) -> ServiceStatus:
        return ServiceStatus(SessionStatus.CONNECTED, word="connected", message="Printed")

    def get_login_qr(self) -> LoginQr:
        return LoginQr.from_text(f"2@{uuid.uuid4().hex},console,console,console")

    def check_number(self, phone_number: str) -> NumberCheck:
        return NumberCheck(is_registered=True, message="Printed")

    def send_message(self, phone_number: str, text: str = "", image_url: str = "") -> SentMessage:
        return self._send(gateway_reading(phone_number), "number", text, image_url)

    def send_group_message(self, group_name: str, text: str = "", image_url: str = "") -> SentMessage:
        return self._send(group_name, "group", text, image_url)

    def set_webhook(self, url: str) -> WebhookAnswer:
        self._print(f"Webhook set: a path of {urlsplit(url).hostname}")
        return WebhookAnswer(message="Printed")

    def reset_webhook(self) -> ServiceStatus:
        self._print("Webhook removed")
        return self.get_status()

    def _send(self, to: str, kind: str, text: str, image_url: str) -> SentMessage:
        require_content(text, image_url)
        sent = SentMessage(
            id=uuid.uuid4().hex,
            body=text,
            to=to,
            media_url=image_url or None,
            created_at=timezone.now().strftime("%Y-%m-%d %H:%M:%S"),
            message="Printed",
        )
        head = f"WhatsApp to {kind} {to} ({sent.id})"
        self._print("\n".join(part for part in (head, image_url and f"Image: {image_url}", text, "-" * 79) if part))
        return sent

    def _print(self, text: str) -> None:
        # Control characters in a customer's text must not reach the terminal.
        lines = lines_of(text)
        # A single write under a lock, so that the messages of two threads are not mixed.
        with _lock:
            stream = self._stream or sys.stdout
            stream.write(f"{lines}\n")
            stream.flush()
