"""Fixtures for a site's own tests under pytest and pytest-django; pytest finds them by itself.

    def test_a_paid_sale_sends_its_receipt(kpwa_deliver):
        Sale.objects.create(...)
        [receipt] = kpwa_deliver()
        assert "Terima kasih" in receipt.text

Each test that uses a fixture begins with an empty outbox, whatever the previous test left, also with
`transaction=True`, `--reuse-db` and xdist. A test that uses none of them sends nothing either, see `testing`.

pytest loads this module in every run where the package is installed, even if Django is not configured or not used. So
nothing of Django is imported before a fixture is requested. Each fixture requests `kpwa_outbox` first, which reports a
missing pytest-django before pytest fails to find the fixture `db`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .gateway.locmem import LocmemMessage
    from .models import License, WebhookEvent


@pytest.fixture
def kpwa_outbox(request: pytest.FixtureRequest) -> Iterator[list[LocmemMessage]]:
    """The messages sent in this test, oldest first: `testing.outbox`, which is emptied before and after the test.

    WhatsApp is linked, and no failures are scheduled. The fixture does not need the database.
    """
    if not request.config.pluginmanager.hasplugin("django"):
        pytest.fail("The fixtures of django-kpwa need pytest-django: pip install pytest-django", pytrace=False)
    from . import testing

    testing.clear()
    yield testing.outbox
    testing.clear()


@pytest.fixture
def kpwa_license(kpwa_outbox: list[LocmemMessage], db: None) -> License:
    """A license that sends messages for which none is given, from `testing.create_license()`."""
    from . import testing

    return testing.create_license()


@pytest.fixture
def kpwa_deliver(kpwa_outbox: list[LocmemMessage], db: None) -> Callable[[], list[LocmemMessage]]:
    """A function that sends all messages that are due and returns those sent, oldest first: `testing.deliver()`.

    If there is no license, it creates one first.
    """
    from . import testing
    from .models import License

    def deliver() -> list[LocmemMessage]:
        if not License.objects.exists():
            testing.create_license()
        return testing.deliver()

    return deliver


@pytest.fixture
def kpwa_webhook(kpwa_license: License) -> Callable[..., WebhookEvent]:
    """A function that posts an event as the gateway would, processes it and returns it: `testing.post_webhook()`.

    Its arguments are the payload and, optionally, the `license` whose webhook it is; by default `kpwa_license`.
    """
    from . import testing

    def post(payload: Mapping[str, Any] | bytes, license: License | None = None) -> WebhookEvent:
        return testing.post_webhook(payload, license or kpwa_license)

    return post
