"""The banner: one line a license that needs somebody, one where none is chosen, and nothing while all is well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from django.db.models import Exists
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..conditions import MOST_UNASSIGNED, Condition, Help, Tone, Unassigned, license_condition, unassigned
from ..models import DatabaseNow, License, OutboundMessage, Status
from ..site_urls import find_url
from ..store import choosing
from . import words
from .people import Person

MAX_LICENSES = 200
"""So many are looked at."""
MAX_LINES = 5
MAX_WAITING = 1000
"""Waiting receipts are counted up to this."""


@dataclass(frozen=True)
class Line:
    """What is wrong with one license, or with the choice of one.

    `name` is there where the site has several; `url` where the person may help.
    """

    condition: Condition
    name: str
    sentence: str
    url: str
    help_words: str


def banner(person: Person) -> tuple[list[Line], int]:
    """The most urgent lines, and how many more there are."""
    active = License.objects.active().select_related("lane").defer("base_url")
    # Asked with the licenses: every page of the till has a banner.
    asked = active.annotate(looked_at=DatabaseNow(), kpwa_some_unassigned=Exists(choosing.unassigned()))
    licenses = list(asked[:MAX_LICENSES])
    looked = [(license_condition(license_, cast(Any, license_).looked_at), license_) for license_ in licenses]
    wrong = [found for found in looked if found[0].tone in (Tone.BAD, Tone.ATTENTION)]
    wrong.sort(key=lambda found: (found[0].urgency, found[1].name))
    lines = [_line(person, license_, condition, len(licenses) > 1) for condition, license_ in wrong[:MAX_LINES]]
    more = len(wrong) - len(lines)
    if (not licenses or cast(Any, licenses[0]).kpwa_some_unassigned) and (found := unassigned()):
        lines.insert(0, _unassigned_line(person, found))
    return lines, more


def _unassigned_line(person: Person, found: Unassigned) -> Line:
    """No license is chosen to send them: whichever sends, these do not go out."""
    said = gettext("%(waiting)s, because %(why)s") % {
        "waiting": words.waiting(found.count, MOST_UNASSIGNED),
        "why": found.why,
    }
    may_help = person.is_staff and (person.may("view_license") or person.may("change_license"))
    url = find_url("admin:django_kpwa_license_changelist") if may_help else ""
    return Line(_UNASSIGNED, "", said, url, gettext("Open"))


_UNASSIGNED = Condition(0, Tone.BAD, "!", _("No license is chosen"))


def _line(person: Person, license_: License, condition: Condition, is_one_of_several: bool) -> Line:
    problem, since = words.problem(license_, condition)
    url, help_words = _help(person, license_, condition)
    said = words.sentence(problem, since, words.waiting(_waiting(license_), MAX_WAITING))
    return Line(condition, license_.name if is_one_of_several else "", said, url, help_words)


def _waiting(license_: License) -> int:
    queued = OutboundMessage.objects.filter(license=license_, status=Status.QUEUED)
    # A bounded count: the database stops at the limit, and sends one number.
    return queued.order_by()[: MAX_WAITING + 1].count()


def _help(person: Person, license_: License, condition: Condition) -> tuple[str, str]:
    """Where in the admin the person can help, and what the link says; nothing where they may not."""
    if not person.is_staff:
        return "", ""
    if condition.help == Help.LINK and person.may("link_license"):
        url = find_url("admin:django_kpwa_license_link", license_.pk)
        if url:
            return url, str(condition.help_words)
    if person.may("view_license") or person.may("change_license"):
        return find_url("admin:django_kpwa_license_change", license_.pk), gettext("Open")
    return "", ""
