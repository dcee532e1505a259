"""The notifications about alerts, in the language and the time zone of the site.

They consist of rows of `words`, figures, and the licenses' names, and never contain a phone number, an API key or a
message text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.translation import gettext

from ..conf import kpwa_settings
from ..formatting import grouped, long_duration, short_time
from ..health import STOPPED, Finding, Health
from ..logs import without_controls
from ..models import Alert, Telling
from ..site_urls import find_url
from ..words import ALERTS, Help, ProblemRow, Tells

TEST = "test"
"""The event of a test notification, which a person requests to see whether it arrives."""


_HELD_BACK = (Tells.LICENSE_STOPPED, Tells.NOBODY_SENDS, Tells.UNCHOSEN)
"""Alerts during which no messages go out. The notification of their end says how many follow and how many expired."""


@dataclass(frozen=True)
class Told:
    """One notification: its title, which is the subject of the e-mail, and its text of a few sentences.

    `event`: a value of `Telling`, or `TEST`. `code`: the alert's code. `waiting`, `expired`: set when the alert ends.
    """

    event: str
    code: str
    title: str
    text: str
    license: str | None = None
    since: datetime | None = None
    ended: datetime | None = None
    waiting: int | None = None
    expired: int | None = None
    url: str | None = None

    @property
    def values(self) -> Mapping[str, Any]:
        """The values that are posted as JSON, and that the template of a body may insert, by name.

        `message` combines title, text and URL, for services that take a single text.
        """
        values = {**vars(self), "message": "\n".join(filter(None, (self.title, self.text, self.url)))}
        return {name: at.isoformat() if isinstance(at, datetime) else at for name, at in values.items()}


def told_of(alert: Alert, finding: Finding | None, health: Health) -> Told:
    """Return the notification that is due for `alert` (`alert.untold`). `finding`: its cause; None if that is gone."""
    is_over = alert.untold == Telling.CLOSED
    title, text = _over(alert, health) if is_over else _present(alert, finding, health)
    return Told(
        event=alert.untold,
        code=alert.code,
        title=without_controls(title),
        text=text,
        license=alert.license.name if alert.license else None,
        since=alert.since,
        ended=alert.gone_at if is_over else None,
        waiting=alert.waiting if is_over else None,
        expired=alert.expired if is_over else None,
        url=_url(alert),
    )


def trial() -> Told:
    """Return a test notification."""
    return Told(
        TEST,
        TEST,
        gettext("WhatsApp receipts: test"),
        gettext("This is a test: alerts about WhatsApp receipts arrive here."),
        url=_url(None),
    )


def _present(alert: Alert, finding: Finding | None, health: Health) -> tuple[str, str]:
    row = ALERTS[alert.code]
    if finding is None:
        label, text = str(row.label), ""
    elif finding.code == STOPPED:
        enter = finding.help == Help.ENTER_KEY
        advice = gettext("Open the license and enter the API key.") if enter else finding.say("advice")
        label, text = str(finding.row.label), f"{health.sentence(finding)}. {advice}"
    else:
        label, headline = str(finding.row.label), finding.say("headline")
        # A headline with figures already says what the meaning says.
        has_figures = isinstance(finding.row, ProblemRow) and "%(" in str(finding.row.headline)
        meaning = "" if has_figures else finding.say("meaning")
        text = " ".join(filter(None, (headline, meaning, finding.say("advice"))))
    title = _titled(alert, label)
    if alert.untold == Telling.REMINDED:
        lasted = long_duration((health.now - alert.since).total_seconds())
        title = gettext("Still: %(title)s") % {"title": title}
        text = " ".join(filter(None, (text, gettext("This has lasted for %(time)s.") % {"time": lasted})))
    return title, text


def _over(alert: Alert, health: Health) -> tuple[str, str]:
    ended = alert.gone_at or health.now
    over = str(ALERTS[alert.code].over)
    if alert.license and not any(each.license == alert.license and each.license.is_active for each in health.licenses):
        over = gettext("Switched off")
    words = gettext("%(over)s at %(time)s after %(duration)s.")
    if alert.code in _HELD_BACK:
        words = gettext("%(over)s at %(time)s after %(duration)s; %(waiting)s follow, %(expired)s expired.")
    text = words % {
        "over": over,
        "time": short_time(ended),
        "duration": long_duration((ended - alert.since).total_seconds()),
        "waiting": grouped(alert.waiting or 0),
        "expired": grouped(alert.expired or 0),
    }
    return _titled(alert, over), text


def _titled(alert: Alert, label: str) -> str:
    if alert.license:
        return gettext("WhatsApp of %(name)s: %(label)s") % {"name": alert.license.name, "label": label}
    return gettext("WhatsApp receipts: %(label)s") % {"label": label}


def _url(alert: Alert | None) -> str | None:
    """Return the URL of the admin page that helps; None if `PUBLIC_URL` is not set, or the site has no admin."""
    about = alert.license_id if alert is not None else None
    if about is None:
        path = find_url("admin:django_kpwa_dashboard_changelist")
    else:
        path = find_url("admin:django_kpwa_license_change", about)
    public = kpwa_settings().PUBLIC_URL.rstrip("/")
    return f"{public}{path}" if public and path else None
