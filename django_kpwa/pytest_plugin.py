"""Fixtures for a site's own tests under pytest and pytest-django; pytest finds them by itself.

    def test_a_paid_sale_sends_its_receipt(kpwa_deliver):
        Sale.objects.create(...)
        [receipt] = kpwa_deliver()
        assert "Terima kasih" in receipt.text

Each test begins with an empty outbox, whatever the one before it left: with `transaction=True`, `--reuse-db` and xdist
as well. A test that takes none of them sends nothing either, as `testing` says.

pytest loads this module in every run where the package is installed, also where Django is not configured or not even
used. So nothing of Django is imported before a fixture is asked for, and each asks for `kpwa_outbox` first, which says
that pytest-django is missing before pytest says that it knows no `db`.
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
    """What was sent in this test, oldest first: `testing.outbox`, which is emptied before and after the test.

    WhatsApp is linked, and no failures are to come. It asks for no database.
    """
    if not request.config.pluginmanager.hasplugin("django"):
        pytest.fail("The fixtures of django-kpwa need pytest-django: pip install pytest-django", pytrace=False)
    from . import testing

    testing.clear()
    yield testing.outbox
    testing.clear()


@pytest.fixture
def kpwa_license(kpwa_outbox: list[LocmemMessage], db: None) -> License:
    """A license that sends what names none, by `testing.create_license()`."""
    from . import testing

    return testing.create_license()


@pytest.fixture
def kpwa_deliver(kpwa_outbox: list[LocmemMessage], db: None) -> Callable[[], list[LocmemMessage]]:
    """A function that sends all messages that are due and returns those sent, oldest first: `testing.deliver()`.

    Where the test has stored no license, it makes one first.
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

    It takes the payload and, where that is not `kpwa_license`, the `license` whose webhook it is.
    """
    from . import testing

    def post(payload: Mapping[str, Any] | bytes, license: License | None = None) -> WebhookEvent:
        return testing.post_webhook(payload, license or kpwa_license)

    return post
