"""A released migration is never edited, because sites that have run it do not run it again."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import django_kpwa

FOLDER = Path(django_kpwa.__file__).parent / "migrations"
RELEASED = {
    "0001_initial.py": "68417aa4eb589075aece7afa87b72f19395c035bdc15b46e61a6ced11ddccef7",
}
"""The SHA-256 of each released migration file. Each release adds a line for every new migration."""


def test_what_was_released_is_as_it_was_then():
    assert {name: sha256((FOLDER / name).read_bytes()).hexdigest() for name in RELEASED} == RELEASED
