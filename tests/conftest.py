"""Fixtures that every suite uses."""

from __future__ import annotations

import pytest

from django_kpwa.gateway import locmem
from django_kpwa.models import License


@pytest.fixture(autouse=True)
def _empty_locmem_gateway():
    locmem.clear()


@pytest.fixture
def license_(db):
    """A stored license whose API key is `test-api-key-0001`."""
    row = License(name="Toko Utama")
    row.set_api_key("test-api-key-0001")
    row.save()
    return row
