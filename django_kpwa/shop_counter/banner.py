"""The banner: one line for each license with a problem, and one if no license is chosen; empty if all is well."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from django.db.models import Exists
from django.utils.translation import gettext, ngettext

from ..counts import BoundedCount, count_up_to
from ..formatting import short_time
from ..gateway import SessionStatus
from ..health import Unassigned, lane_of, license_condition, unassigned
from ..models import DatabaseNow, License, OutboundMessage, Status
from ..site_urls import find_url
from ..store import choosing
from ..words import NO_KEY, NONE_CHOSEN, Condition, Help, Mark, Tone
from .people import Person

MAX_LICENSES = 200
"""Maximum number of licenses whose condition is examined."""
MAX_LINES = 5
"""Maximum number of lines for licenses."""
MAX_WAITING = 1000
"""Waiting receipts of a license are counted up to this number."""


@dataclass(frozen=True)
class Line:
    """A problem with a license, or with the choice of a license.

    `name` is empty if the site has only one license. `url` is empty if the user may not fix the problem.
    """

    mark: Mark
    name: str
    sentence: str
    url: str
    help_label: str


def banner(person: Person) -> tuple[list[Line], int]:
    """Return the `MAX_LINES` most urgent lines, and the number of licenses with a problem that are not shown."""
    active = License.objects.active().select_related("lane").defer("base_url")
    # Everything in one query, because every page at the till has a banner.
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
    """Return the line about messages for which no license is chosen: they wait even if all licenses work."""
    said = gettext("%(waiting)s, because %(why)s") % {
        "waiting": receipts_waiting(found.count),
        "why": found.why,
    }
    may_help = person.is_staff and (person.may("view_license") or person.may("change_license"))
    url = find_url("admin:django_kpwa_license_changelist") if may_help else ""
    return Line(NONE_CHOSEN, "", said, url, gettext("Open"))


def _line(person: Person, license_: License, condition: Condition, is_one_of_several: bool) -> Line:
    url, help_label = _help(person, license_, condition)
    queued = OutboundMessage.objects.filter(license=license_, status=Status.QUEUED)
    waiting = receipts_waiting(count_up_to(MAX_WAITING, queued))
    said = _sentence(str(condition.counter), _since(license_, condition), waiting)
    return Line(condition, license_.name if is_one_of_several else "", said, url, help_label)


def _help(person: Person, license_: License, condition: Condition) -> tuple[str, str]:
    """Return the URL of the admin page that fixes the problem, and the link's label; empty if the user may not."""
    if not person.is_staff:
        return "", ""
    if condition.help == Help.LINK and person.may("link_license"):
        url = find_url("admin:django_kpwa_license_link", license_.pk)
        if url:
            return url, str(condition.help_label)
    if person.may("view_license") or person.may("change_license"):
        return find_url("admin:django_kpwa_license_change", license_.pk), gettext("Open")
    return "", ""


def _since(license_: License, condition: Condition) -> datetime | None:
    """Return since when the license has been paused or waiting for a scan; None if that is unknown."""
    lane = lane_of(license_)
    if lane is None or condition == NO_KEY:
        return None
    if lane.pause_reason:
        return lane.paused_at
    return lane.session_seen_at if lane.session_status == SessionStatus.QR.value else None


def _sentence(problem: str, since: datetime | None, waiting: str) -> str:
    """Return the banner's sentence, for example "WhatsApp disconnected since 19.04, 37 receipts waiting"."""
    said = problem
    if since is not None:
        said = gettext("%(problem)s since %(time)s") % {"problem": problem, "time": short_time(since)}
    return gettext("%(problem)s, %(waiting)s") % {"problem": said, "waiting": waiting} if waiting else said


def receipts_waiting(count: BoundedCount) -> str:
    """Return for example "37 receipts waiting"; empty if none wait."""
    if not count:
        return ""
    return ngettext("%(count)s receipt waiting", "%(count)s receipts waiting", count.number) % {"count": count}
