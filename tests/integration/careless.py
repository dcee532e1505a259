"""Careless classes of a site, for test_secrets: their exceptions contain what must not reach a log."""

from __future__ import annotations

from django_kpwa.gateway.locmem import LocmemGateway
from django_kpwa.webhooks import Parser


class RaisingGateway(LocmemGateway):
    """Raises an exception with the API key and the number when it is asked to send."""

    def send_message(self, phone_number, text="", image_url=""):
        raise RuntimeError(f"{self.api_key.reveal()} may not write to {phone_number}")


class UnopenableGateway(LocmemGateway):
    """Cannot be constructed. No lane expects that, so the task fails."""

    def __init__(self, api_key, *, base_urls=()):
        raise RuntimeError(f"Budi, 0812-9876-5432, forgot to configure {base_urls}")


class RaisingParser(Parser):
    def parse(self, body, content_type, *, linked_number):
        raise ValueError(f"not understood: {body.decode()}")
