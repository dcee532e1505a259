"""Fixtures of the fault campaign. Every test here has the marker `faults` or `slow`, and every run is checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sandbox import SandboxProcess

from .harness import KEY, Shop

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(HERE):
            if not item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.faults)
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="module")
def running_phone():
    with SandboxProcess("--linked", "--license", f"Toko:{KEY}", "--group", "Dapur") as sandbox:
        yield sandbox


@pytest.fixture
def phone(running_phone):
    """The sandbox: empty, linked, without faults. Its ledger is the ground truth."""
    running_phone.reset()
    running_phone.clear_faults()
    running_phone.scan()
    return running_phone


@pytest.fixture
def make_shop(transactional_db, tmp_path, phone):
    """Makes a shop with settings other than the usual ones; its promises are checked at the end of the test."""
    made = []

    def make(**options):
        made.append(Shop(tmp_path, phone, **options))
        return made[-1]

    yield make
    try:
        for shop in made:
            shop.check()
    finally:
        for shop in made:
            shop.close()


@pytest.fixture
def shop(make_shop):
    return make_shop()
