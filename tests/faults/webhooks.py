"""A real site that accepts webhooks, and raw sockets to post to it: HTTP libraries refuse to send bad requests."""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Iterator

from django.urls import reverse

from django_kpwa.license_actions import token_digest
from django_kpwa.models import DatabaseNow, WebhookToken
from tests.integration.misbehaving import free_port
from tests.processes import RunningProcess, start_manage

ANSWER_SECONDS = 30


def new_token(license_, token: str = "", **columns) -> str:
    """A token as `license_actions.set_webhook()` stores it: the database contains only its digest."""
    token = token or secrets.token_urlsafe(32)
    columns = {"created_at": DatabaseNow(), "registered_at": DatabaseNow()} | columns
    WebhookToken.objects.create(license=license_, digest=token_digest(token), **columns)
    return token


class WebhookSite:
    """The site's process. `post()` returns the answer's status, headers and body."""

    def __init__(self, process: RunningProcess, port: int) -> None:
        self.process = process
        self.port = port

    def post(self, token: str, body: bytes = b"", content_type: str = "application/json", **request) -> int:
        """Post under a token and return the status; 0 if the connection was cut."""
        return self.request(reverse("django_kpwa:webhook", args=[token]), body, content_type, **request)[0]

    def request(
        self, path: str, body: bytes = b"", content_type: str = "application/json", *, headers=(), source: str = ""
    ) -> tuple[int, bytes]:
        lines = [
            f"POST {path} HTTP/1.1",
            "Host: shop.example",
            "Connection: close",
            f"Content-Type: {content_type}",
            f"Content-Length: {len(body)}",
            *headers,
        ]
        with socket.create_connection(
            ("127.0.0.1", self.port), timeout=ANSWER_SECONDS, source_address=(source, 0) if source else None
        ) as connection:
            # A server that has answered may close before it has read all of the request.
            with contextlib.suppress(OSError):
                connection.sendall("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
            answer = b""
            with contextlib.suppress(ConnectionError):
                while received := connection.recv(65536):
                    answer += received
        head, _, content = answer.partition(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1]) if head.startswith(b"HTTP/") else 0, content


@contextlib.contextmanager
def webhook_site(**site) -> Iterator[WebhookSite]:
    """Starts the test site's own server. `site`: arguments of `site_environment()`."""
    port = free_port()
    with start_manage("runserver", "--noreload", f"127.0.0.1:{port}", **site) as process:
        process.wait_for_output("Quit the server")
        yield WebhookSite(process, port)
