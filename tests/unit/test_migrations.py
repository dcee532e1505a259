"""A migration that was released is never edited: sites have run it, and would not run it again."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import django_kpwa

FOLDER = Path(django_kpwa.__file__).parent / "migrations"
RELEASED = {
    "0001_initial.py": "37f37456516b496b538467b6eae3e07cd46637fe4e8c58d9bfce208c5ef674b7",
}
"""What each file of a release has, as SHA-256. A release adds a line for each migration that is new in it."""


def test_what_was_released_is_as_it_was_then():
    assert {name: sha256((FOLDER / name).read_bytes()).hexdigest() for name in RELEASED} == RELEASED
