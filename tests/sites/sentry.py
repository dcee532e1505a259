"""A site that reports errors to Sentry. `python -m tests.sites.sentry OPTIONS.py` prints each envelope as JSON.

It runs in a separate process, because sentry-sdk permanently patches Django, Celery, logging and http.client. The file
contains the call of `sentry_sdk.init()`, from the how-to page or any other.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from unittest import mock

import sentry_sdk
from sentry_sdk.transport import Transport

KEY = "canary-key-5f2b9c71aa03e8d4"
TOKEN = "canary-token-" + "Qz7_" * 8
QR_TEXT = "2@canaryqr" + "x7Kq" * 12 + ",aaaa,bbbb,cccc"
NUMBER = "6281298765432"
TYPED = "0812-9876-5432"
WORDS = "canary-words"


class ForcedError(Exception):
    """An exception that our code does not expect."""


class Kept(Transport):
    """Prints the envelopes instead of posting them."""

    def capture_envelope(self, envelope):
        for item in envelope.items:
            print(json.dumps(item.payload.json or str(item.payload.get_bytes())))


def main(options: str) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    os.environ["SENTRY_DSN"] = "http://public@127.0.0.1:9/1"
    sentry_sdk.init = partial(sentry_sdk.init, transport=Kept)
    exec(Path(options).read_text(), {})

    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command

    settings.KPWA = {**settings.KPWA, "GATEWAY": "django_kpwa.gateway.http.HttpGateway"}
    call_command("migrate", verbosity=0)
    break_everything()
    sentry_sdk.flush()


def break_everything() -> None:
    from django.test import Client
    from django.urls import reverse

    from django_kpwa import license_actions, outbox, tasks
    from django_kpwa.gateway.http import HttpGateway
    from django_kpwa.gateway.qr import LoginQr
    from django_kpwa.license_actions import token_digest
    from django_kpwa.models import DatabaseNow, License, WebhookToken
    from tests.integration.misbehaving import MisbehavingServer, answer

    server = MisbehavingServer()
    server.behave(answer({"message": "OK", "is_registered": True, "code": 20001}))
    row = License(name="Toko Utama", base_url=server.url)
    row.set_api_key(KEY)
    row.save()
    now = DatabaseNow()
    WebhookToken.objects.create(license=row, digest=token_digest(TOKEN), created_at=now, registered_at=now)
    forced = ForcedError(f"{TYPED} is at fault")

    # An HTTP call with the number in its URL, which becomes a breadcrumb of the next errors.
    license_actions.check_number(row, NUMBER)
    outbox.send_message(TYPED, f"Struk {WORDS}", license=row)
    with mock.patch.object(HttpGateway, "_ask_and_read", side_effect=forced), suppress(Exception):
        tasks.dispatch_license.apply((row.pk,))
    with mock.patch("django_kpwa.dispatch.drive", side_effect=forced), suppress(Exception):
        tasks.dispatch_license.apply((row.pk,))
    with mock.patch("django_kpwa.webhooks.views.read_body", side_effect=forced):
        client = Client(raise_request_exception=False)
        path = reverse("django_kpwa:webhook", args=[TOKEN])
        client.post(path, {"from": NUMBER, "message": WORDS}, content_type="application/json")
        with mock.patch("django_kpwa.webhooks.views.WebhookView.handle_exception", side_effect=forced):
            client.post(path, {"from": NUMBER, "message": WORDS}, content_type="application/json")
    try:
        draw(LoginQr.from_text(QR_TEXT), TYPED, WORDS)
    except ForcedError as error:
        sentry_sdk.capture_exception(error)
    server.close()


def draw(code, number, text):
    """Raise an error as in a view of the site, with the customer's data in local variables."""
    with mock.patch.object(type(code), "svg", side_effect=ForcedError(f"no code at /kpwa/webhooks/{TOKEN}/")):
        code.svg()


if __name__ == "__main__":
    main(sys.argv[1])
