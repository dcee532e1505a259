"""Helpers for a site's own tests: they send the queued messages to a list in memory, for assertions.

    from django_kpwa import testing

    class ReceiptTests(TestCase):
        def setUp(self):
            testing.clear()
            testing.create_license()

        def test_a_paid_sale_sends_its_receipt(self):
            Sale.objects.create(...)
            [receipt] = testing.deliver()
            self.assertIn("Terima kasih", receipt.text)

They work in a `TestCase`, without a broker, a worker or a network, whatever `KPWA["GATEWAY"]` is. Under Django's test
runner and pytest-django, the whole package publishes nothing to the broker and sends nothing by the real gateway,
except inside `reach_outside()`. `pytest_plugin` provides the same as fixtures.

`GatewayContract` and `HttpGatewayContract` are test cases for a site with a gateway class of its own.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import F
from django.test import Client, override_settings
from django.utils import timezone

from . import dispatch, license_actions, webhook_address
from .conf import kpwa_settings
from .gateway import locmem
from .gateway.locmem import LocmemMessage, clear, fail_next, link, outbox, set_unregistered, unlink
from .gateway_contract import GatewayContract, HttpGatewayContract
from .models import License, OutboundMessage, Status, WebhookEvent, body_digest
from .outbox import choose_license
from .rehearsal import reach_outside
from .store import store
from .store.results import Lease
from .webhooks import process_event
from .webhooks.authentication import HEADER

__all__ = [
    "GatewayContract",
    "HttpGatewayContract",
    "LocmemMessage",
    "clear",
    "create_license",
    "deliver",
    "fail_next",
    "link",
    "outbox",
    "post_webhook",
    "reach_outside",
    "set_unregistered",
    "unlink",
]


_CLOCKS_DIFFER = timedelta(minutes=1)
"""If this process's clock differs from the database's by more than this, a test has frozen it."""


def create_license(name: str = "") -> License:
    """Store and return a license with a made-up API key. Without `name`, it sends messages for which none is given.

    If a license has the name already, for example from a test that was killed, its key is replaced by the made-up one.
    """
    name = name or kpwa_settings().DEFAULT_LICENSE or "Test"
    license_ = License.objects.filter(name=name).first() or License(name=name)
    license_.set_api_key("key-for-tests")
    license_.save()
    return license_


def deliver() -> list[LocmemMessage]:
    """Send all messages that are due, in this thread and by `LocmemGateway`; returns those sent, oldest first.

    The pace, the wait for a sale's lines, the quiet hours and the check whether a number has WhatsApp are skipped; a
    `send_after` in the future and the wait before a retry are not. If the test has frozen this process's clock,
    `send_after` and `expires_at` are compared with that clock.
    """
    before = len(outbox)
    kpwa = {**getattr(settings, "KPWA", {}), "GATEWAY": f"{locmem.__name__}.LocmemGateway", "PACE_SECONDS": (0, 0)}
    kpwa |= {"QUIET_HOURS": None, "CHECK_NUMBERS": False}
    with override_settings(KPWA=kpwa), _by_the_clock_of_this_process():
        store().end_waits_for_text(kpwa_settings().RENDER_DELAY_SECONDS)
        while license_ids := _sweep():
            for license_id in license_ids:
                _drive(license_id)
    return outbox[before:]


def post_webhook(payload: Mapping[str, Any] | bytes, license: License | None = None) -> WebhookEvent:
    """Post `payload` to this site's webhook as the gateway would, process it, and return the event.

        [sent] = testing.deliver()
        testing.post_webhook({"id": sent.id, "status": "Read"})
        testing.post_webhook({"id": "3EB0", "from": "6281234567890@s.whatsapp.net", "message": "Terima kasih!"})

    The request goes through the site's URLs and middleware. When this function returns, the changes to messages are
    stored and the signals are sent.

    `payload`: posted as JSON; bytes are posted unchanged.
    `license`: the license whose webhook it is; None: the one that sends messages for which none is given.

    Raises `WebhookAddressError` if the site does not include our URLs, `LicenseChoiceError` if no license is given and
    none can be chosen, and `AssertionError` if the site answers anything but 200.
    """
    license_ = license or choose_license()
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    token = secrets.token_urlsafe(32)
    store().add_token(license_.pk, license_actions.token_digest(token))
    conf = kpwa_settings()
    answer = Client().post(
        webhook_address.webhook_path(token),
        body,
        content_type="application/json",
        secure=True,
        headers={HEADER: conf.WEBHOOK_PASSWORD} if conf.WEBHOOK_PASSWORD else None,
    )
    if answer.status_code != 200:
        raise AssertionError(
            f"The site answered its webhook with {answer.status_code}, so the gateway's events would be lost."
        )
    event = WebhookEvent.objects.get(digest=body_digest(license_.pk, body))
    process_event(event.pk)
    event.refresh_from_db()
    return event


@contextmanager
def _by_the_clock_of_this_process() -> Iterator[None]:
    """Inside this block, shift the times that the site set by the difference between the two clocks.

    They are then as far from the database's current time as they are from this process's.
    """
    ahead = timezone.now() - store().now()
    if abs(ahead) < _CLOCKS_DIFFER:
        yield
        return
    # The times of rendered messages are set by the database's clock, and are not shifted.
    named = OutboundMessage.objects.filter(status=Status.QUEUED, renderer="")
    at_once = (F("created_at") - _CLOCKS_DIFFER, F("created_at") + _CLOCKS_DIFFER)
    later = named.filter(attempts_made=0).exclude(due_at__range=at_once)
    due = list(later.values_list("pk", flat=True))
    expiring = list(named.filter(expires_at__isnull=False).values_list("pk", flat=True))
    _move("due_at", due, -ahead)
    _move("expires_at", expiring, -ahead)
    try:
        yield
    finally:
        _move("due_at", due, ahead)
        _move("expires_at", expiring, ahead)


def _move(name: str, message_ids: list[int], by: timedelta) -> None:
    # A message that was tried meanwhile has a new `due_at` by the database's clock.
    untried = {"attempts_made": 0} if name == "due_at" else {}
    messages = OutboundMessage.objects.filter(pk__in=message_ids, **untried)
    store().shift_times(messages, name, by)


def _sweep() -> tuple[int, ...]:
    store().end_pace()
    return dispatch.sweep().license_ids


def _drive(license_id: int) -> None:
    driven = dispatch.drive(license_id)
    if driven.lease_token is not None:
        store().release_lease(Lease(license_id, driven.lease_token))
