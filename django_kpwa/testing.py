"""What a site's own tests need: send what is queued, into memory, and look at it.

    from django_kpwa import testing

    class ReceiptTests(TestCase):
        def setUp(self):
            testing.clear()
            testing.create_license()

        def test_a_paid_sale_sends_its_receipt(self):
            Sale.objects.create(...)
            [receipt] = testing.deliver()
            self.assertIn("Terima kasih", receipt.text)

Works in a `TestCase`, without a broker, a worker or a network, whatever `KPWA["GATEWAY"]` is. Under Django's test
runner and pytest-django nothing is published to the broker nor sent through the real service, here or elsewhere, except
within `reach_outside()`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.conf import settings
from django.db.models import F
from django.test import override_settings
from django.utils import timezone

from . import dispatch
from .conf import kpwa_settings
from .gateway import locmem
from .gateway.locmem import LocmemMessage, clear, fail_next, link, outbox, set_unregistered, unlink
from .models import DatabaseNow, License, OutboundMessage, Status, in_seconds, write_alias
from .rehearsal import reach_outside
from .store import store
from .store.results import Lease
from .store.sql import database_now

__all__ = [
    "LocmemMessage",
    "clear",
    "create_license",
    "deliver",
    "fail_next",
    "link",
    "outbox",
    "reach_outside",
    "set_unregistered",
    "unlink",
]


_CLOCKS_DIFFER = timedelta(minutes=1)
"""This process's clock is frozen, or wrong, where it is so far from the database's."""


def create_license(name: str = "") -> License:
    """Store a license with a made-up API key. Without a name it is the one that `license=None` means."""
    license_ = License(name=name or kpwa_settings().DEFAULT_LICENSE or "Test")
    license_.set_api_key("key-for-tests")
    license_.save()
    return license_


def deliver() -> list[LocmemMessage]:
    """Send everything that is due, in this thread, and return what was sent, oldest first.

    The pace is skipped, and so is the wait for a sale's lines; a `send_after` in the future and the wait before another
    try are not. A test that has frozen this process's clock names its times by that one, whatever the database's says.
    Nothing leaves the process: the gateway is `LocmemGateway`.
    """
    before = len(outbox)
    kpwa = {**getattr(settings, "KPWA", {}), "GATEWAY": f"{locmem.__name__}.LocmemGateway", "PACE_SECONDS": (0, 0)}
    with override_settings(KPWA=kpwa), _by_the_clock_of_this_process():
        _end_waits_for_lines()
        while license_ids := _sweep():
            for license_id in license_ids:
                _drive(license_id)
    return outbox[before:]


@contextmanager
def _by_the_clock_of_this_process() -> Iterator[None]:
    """While messages are sent, have times that the site named lie as far from the database's now as from its own."""
    using = write_alias()
    ahead = timezone.now() - database_now(using)
    if abs(ahead) < _CLOCKS_DIFFER:
        yield
        return
    # The others' times are the database's.
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
    # What was tried meanwhile is due again by the database's clock.
    untried = {"attempts_made": 0} if name == "due_at" else {}
    messages = OutboundMessage.objects.filter(pk__in=message_ids, **untried)
    messages.update(**{name: F(name) + by})


def _sweep() -> tuple[int, ...]:
    store().end_pace()
    return dispatch.sweep().license_ids


def _drive(license_id: int) -> None:
    driven = dispatch.drive(license_id)
    if driven.lease_token is not None:
        store().release_lease(Lease(license_id, driven.lease_token))


def _end_waits_for_lines() -> None:
    waiting = OutboundMessage.objects.filter(status=Status.QUEUED, rendered_at=None)
    waiting.exclude(renderer="").filter(due_at__lte=in_seconds(kpwa_settings().RENDER_DELAY_SECONDS)).update(
        due_at=DatabaseNow()
    )
