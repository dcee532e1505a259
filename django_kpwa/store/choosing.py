"""Which license sends what names none, and what becomes of messages while that cannot be told.

A license that is not active is no candidate. `KPWA["DEFAULT_LICENSE"]` goes before the default that was chosen on a
license's page, and that before the only one there is. Where none of these says which, messages are stored without a
license and wait: nothing claims them. They are given to one as soon as it can be told.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..models.license import License
from ..models.message import OutboundMessage, OutboundMessageQuerySet, Status

GIVEN_AT_ONCE = 1000


class Unchosen(models.TextChoices):
    """Why it cannot be told which license sends."""

    NO_LICENSE = "no_license", _("there is no license yet")
    NONE_ACTIVE = "none_active", _("no license is active")
    SEVERAL = "several", _("several licenses are active, and none is the default")
    NAME_UNKNOWN = "name_unknown", _("the license that KPWA['DEFAULT_LICENSE'] names does not exist")
    NAMED_INACTIVE = "named_inactive", _("the license that KPWA['DEFAULT_LICENSE'] names is not active")


@dataclass(frozen=True)
class Choice:
    """Either `license`, or why there is none."""

    license: License | None = None
    why_not: Unchosen | None = None


def choose(default_name: str = "") -> Choice:
    """The license of what names none; `default_name`: `KPWA["DEFAULT_LICENSE"]`."""
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
    """Messages that wait because it cannot be told which license sends them."""
    return OutboundMessage.objects.filter(status=Status.QUEUED, license=None).order_by()


def give_unassigned(default_name: str = "", most: int = GIVEN_AT_ONCE) -> License | None:
    """Give up to `most` messages without a license to the one that is chosen now; None where none was given."""
    waiting = unassigned()
    message_ids = list(waiting.values_list("pk", flat=True)[:most])
    if not message_ids:
        return None
    license_ = choose(default_name).license
    if license_ is None or not waiting.filter(pk__in=message_ids).update(license=license_):
        return None
    return license_
