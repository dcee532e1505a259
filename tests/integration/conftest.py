"""Fixtures of the integration tests."""

from __future__ import annotations

import pytest

from tests.gateways import HOOKED, HookedGateway


@pytest.fixture
def hooks(settings):
    """The class whose hooks run inside the calls of this test."""
    settings.KPWA = {**settings.KPWA, "GATEWAY": HOOKED}
    yield HookedGateway
    HookedGateway.before_send = HookedGateway.after_send = HookedGateway.on_status = None
