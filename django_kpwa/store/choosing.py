"""Chooses the license for messages that name none, and assigns messages that waited until one could be chosen.

Only active licenses are candidates. The first of these rules that applies decides:

1. `KPWA["DEFAULT_LICENSE"]`, if it is set. If it names no active license, none is chosen.
2. The license that was made the default on its page.
3. The only active license.

If no license is chosen, messages are stored without one and wait: no lane claims them. They are assigned as soon as a
license can be chosen.
"""

from __future__ import annotations

from typing import NamedTuple

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..models.license import License
from ..models.message import OutboundMessage, OutboundMessageQuerySet, Status

GIVEN_AT_ONCE = 1000


class Unchosen(models.TextChoices):
    """Why no license can be chosen."""

    NO_LICENSE = "no_license", _("there is no license yet")
    NONE_ACTIVE = "none_active", _("no license is active")
    SEVERAL = "several", _("several licenses are active, and none is the default")
    NAME_UNKNOWN = "name_unknown", _("the license that KPWA['DEFAULT_LICENSE'] names does not exist")
    NAMED_INACTIVE = "named_inactive", _("the license that KPWA['DEFAULT_LICENSE'] names is not active")


class Choice(NamedTuple):
    """The chosen license, or the reason why there is none. Exactly one of the two is set."""

    license: License | None = None
    why_not: Unchosen | None = None


def choose(default_name: str = "") -> Choice:
    """Choose the license for messages that name none; `default_name`: the value of `KPWA["DEFAULT_LICENSE"]`."""
    licenses = License.objects
    if default_name:
        named = licenses.filter(name=default_name).first()
        if named is None:
            return Choice(why_not=Unchosen.NAME_UNKNOWN)
        return Choice(named) if named.is_active else Choice(why_not=Unchosen.NAMED_INACTIVE)
    first_two = list(licenses.active().order_by("-is_default", "pk")[:2])
    if first_two and (len(first_two) == 1 or first_two[0].is_default):
        return Choice(first_two[0])
    if first_two:
        return Choice(why_not=Unchosen.SEVERAL)
    return Choice(why_not=Unchosen.NONE_ACTIVE if licenses.exists() else Unchosen.NO_LICENSE)


def unassigned() -> OutboundMessageQuerySet:
    """Return the queued messages that have no license yet."""
    return OutboundMessage.objects.filter(status=Status.QUEUED, license=None).order_by()


def give_unassigned(default_name: str = "", limit: int = GIVEN_AT_ONCE) -> License | None:
    """Assign up to `limit` messages without a license to the one that is chosen now, and return that license.

    Returns None if no message waits, if no license can be chosen, or if another process was faster.
    """
    waiting = unassigned()
    message_ids = list(waiting.values_list("pk", flat=True)[:limit])
    if not message_ids:
        return None
    license_ = choose(default_name).license
    if license_ is None or not waiting.filter(pk__in=message_ids).update(license=license_):
        return None
    return license_
