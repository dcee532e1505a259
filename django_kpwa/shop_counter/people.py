"""The user who is looking at a page of the site, and their permissions for messages and licenses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Person:
    """A user of the site, or an anonymous visitor. Only authenticated, active users have permissions."""

    user: Any

    def may(self, codename: str) -> bool:
        """Return True if the user has our app's permission `codename` (given without the app label)."""
        # A site's own user class may lack both attributes; such users have no permissions here.
        asked = getattr(self.user, "has_perm", None)
        return bool(getattr(self.user, "is_active", False) and asked and asked(f"django_kpwa.{codename}"))

    @property
    def is_staff(self) -> bool:
        """True if the user may log in to the admin."""
        return bool(self.user is not None and getattr(self.user, "is_staff", False))


def person_of(request: Any) -> Person:
    """Return the user of `request`; an anonymous visitor on a site without authentication."""
    return Person(getattr(request, "user", None))
