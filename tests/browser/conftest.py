"""Fixtures that several files of this folder use: a browser, the sandbox's process, and axe."""

from __future__ import annotations

import pytest

from tests.sandbox import SandboxProcess

from . import axe
from .chromium import Chromium


@pytest.fixture(scope="module")
def axe_source():
    return axe.source()


@pytest.fixture(scope="module")
def sandbox():
    with SandboxProcess() as running:
        yield running


@pytest.fixture(scope="module")
def chromium():
    with Chromium() as browser:
        yield browser
