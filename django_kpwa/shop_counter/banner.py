"""The banner that a site's own pages show to the shop's staff.

It has one line for each problem that concerns the counter; it is empty if all is well.
"""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext

from ..alerts import check_soon
from ..health import STOPPED, Finding, Health, is_quiet, look
from ..site_urls import find_url
from ..words import Help, Problem
from .chips import Person

MAX_LINES = 5
"""Maximum number of lines of the banner."""


def banner(person: Person) -> tuple[list[dict[str, Any]], int]:
    """Return the `MAX_LINES` most urgent lines, and the number of problems that are not shown.

    In a line, `name` is empty if the problem is not about a stopped license or if the site has only one active license,
    and `url` is empty if the user may not fix the problem.
    """
    check_soon()
    # One query while all is well, because every page at the till has a banner.
    if is_quiet():
        return [], 0
    health = look()
    told = [finding for finding in health.findings if finding.say("counter")]
    return [_line(person, health, finding) for finding in told[:MAX_LINES]], max(len(told) - MAX_LINES, 0)


def _line(person: Person, health: Health, finding: Finding) -> dict[str, Any]:
    url, help_label = _help(person, finding)
    name, said, license_ = "", finding.say("counter"), finding.license
    if license_ is not None and finding.code == STOPPED:
        said = health.sentence(finding)
        if sum(each.license.is_active for each in health.licenses) > 1:
            name = license_.name
    return {"mark": finding.row, "name": name, "sentence": said, "url": url, "help_label": help_label}


def _help(person: Person, finding: Finding) -> tuple[str, str]:
    """Return the URL of the admin page that helps, and the link's label; empty if the user may not open it."""
    if not person.is_staff:
        return "", ""
    license_, may_see_licenses = finding.license, person.may("view_license") or person.may("change_license")
    if license_ is not None and finding.help in (Help.LINK, Help.PASSKEY) and person.may("link_license"):
        url = find_url(f"admin:django_kpwa_license_{finding.help.value}", license_.pk)
        if url:
            return url, str(finding.help_label)
    if license_ is not None and may_see_licenses:
        return find_url("admin:django_kpwa_license_change", license_.pk), gettext("Open")
    if finding.code == Problem.UNCHOSEN and may_see_licenses:
        return find_url("admin:django_kpwa_license_changelist"), gettext("Open")
    if person.may("view_dashboard"):
        return find_url("admin:django_kpwa_dashboard_changelist"), gettext("Open")
    return "", ""
