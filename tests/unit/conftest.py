"""Fixtures of the unit tests, which need no server."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def django_db_setup():
    pytest.fail("A test in tests/unit uses a database. Move it to tests/integration.")
