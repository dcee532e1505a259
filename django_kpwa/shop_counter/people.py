"""The user who is looking at a page of the site, and their permissions for messages and licenses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Person:
    """A user of the site, or nobody; only known, active users have permissions."""

    user: Any

    def may(self, codename: str) -> bool:
        # A site's own user class may lack both; it then has no permissions here.
        asked = getattr(self.user, "has_perm", None)
        return bool(getattr(self.user, "is_active", False) and asked and asked(f"django_kpwa.{codename}"))

    @property
    def is_staff(self) -> bool:
        return bool(self.user is not None and getattr(self.user, "is_staff", False))


def person_of(request: Any) -> Person:
    """The user of `request`; nobody on a site without logins."""
    return Person(getattr(request, "user", None))
