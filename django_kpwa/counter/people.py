"""Who is looking at a page of the site, and what they are allowed to do with messages and licenses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Person:
    """What somebody may do with messages and licenses; anonymous people nothing."""

    user: Any

    def may(self, codename: str) -> bool:
        # A site's own kind of user may have neither: it may do nothing here.
        asked = getattr(self.user, "has_perm", None)
        return bool(getattr(self.user, "is_active", False) and asked and asked(f"django_kpwa.{codename}"))

    @property
    def is_staff(self) -> bool:
        return bool(self.user is not None and getattr(self.user, "is_staff", False))


def person_of(request: Any) -> Person:
    """Who made `request`; nobody without one, or on a site without logins."""
    return Person(getattr(request, "user", None))
