"""The dashboard's cards: each shows a license's condition, its waiting messages, today's results, and how to fix it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.contrib.admin import AdminSite
from django.http import HttpRequest
from django.utils.translation import gettext

from .. import phone
from ..formatting import duration, sentence, short_time
from ..health import NOBODY_SENDS, Health, Looked
from ..license_conditions import PutOff, Queue, lane_of, new_customers
from ..models import Lane, License
from ..site_urls import find_url
from ..words import (
    CAUSES,
    INACTIVE,
    NEVER_LINKED,
    NEW_KEY,
    NO_KEY,
    PAUSES,
    TROUBLES,
    Condition,
    Help,
    Tone,
    error_told,
    put_off_time,
)
from .base import MAY_OPERATE
from .dashboard_charts import Counts
from .links import Links

OLD_ERROR = timedelta(days=1)
"""Age from which an error is no longer shown on the card of a license that works."""

_PERMISSIONS = {Help.LINK: "link_license", Help.PASSKEY: "link_license", Help.ENTER_KEY: "change_license"}
"""Permissions for the kinds of help that are pages; the buttons of `license_buttons` all need `MAY_OPERATE`."""
_OPENED = (Help.LINK, Help.PASSKEY, Help.ENTER_KEY)
"""Kinds of help that open a page. All others are buttons that send a POST."""


class Cards:
    """Builds the cards of one page for one user."""

    def __init__(
        self,
        site: AdminSite,
        request: HttpRequest,
        health: Health,
        today: dict[int, Counts],
    ) -> None:
        self._site = site
        self._request = request
        self._links = Links(site, request)
        self._health = health
        self._today = today

    def of(self, looked: Looked) -> dict[str, Any]:
        """Return what a license's card shows, as formatted text; an empty text is not shown.

        `url` is the license's page, empty if the user may not open it. `number_before` is the confirmed number, if
        another number has been linked since and was not confirmed yet.
        """
        license_, condition, queue = looked.license, looked.condition, looked.queue
        lane, now = lane_of(license_), self._health.now
        (error, is_gateways), error_at = _last_error(condition, lane, now)
        return {
            "license": license_,
            "condition": condition,
            "url": self._page_of(license_),
            "number": phone.written(lane.linked_number) if lane and lane.linked_number else "",
            "number_before": phone.written(lane.confirmed_number) if lane and lane.has_changed_number else "",
            "seen": _age(lane.session_seen_at, now) if lane else "",
            "sending": _sending(condition, lane, queue, self._health),
            "waiting": queue.waiting,
            "oldest": _age(queue.oldest_at, now),
            "put_off": [_told_of(put_off) for put_off in queue.put_off],
            "new_customers": new_customers(license_, now),
            "today": self._today.get(license_.pk, Counts()),
            "error": error,
            "error_is_gateways": is_gateways,
            "error_at": error_at,
            "help": self._help(license_, condition),
        }

    def _help(self, license_: License, condition: Condition) -> dict[str, Any] | None:
        """Return the button that fixes the license's condition; None if the user may not press it.

        It sends a POST if `is_pressed`, else it is a link to a page. If this admin site does not have the button's
        page, the button links to the license's page instead.
        """
        permission = f"django_kpwa.{_PERMISSIONS.get(condition.help, MAY_OPERATE)}"
        if condition.help == Help.NONE or not self._request.user.has_perm(permission):
            return None
        is_primary = condition.tone in (Tone.BAD, Tone.ATTENTION)
        name = f"admin:django_kpwa_license_{condition.help.value}"
        url = find_url(name, license_.pk, current_app=self._site.name)
        if url:
            is_pressed = condition.help not in _OPENED
            return {"url": url, "words": condition.help_label, "is_pressed": is_pressed, "is_primary": is_primary}
        url = self._page_of(license_)
        return {"url": url, "words": gettext("Open"), "is_pressed": False, "is_primary": is_primary} if url else None

    def _page_of(self, license_: License) -> str:
        return self._links.to_object(License, license_.pk)


def _sending(condition: Condition, lane: Lane | None, queue: Queue, health: Health) -> str:
    """Return a sentence about what the license is doing now."""
    now = health.now
    if condition in (INACTIVE, NO_KEY, NEW_KEY, NEVER_LINKED, *TROUBLES.values()):
        return condition.explained
    if lane is not None and lane.pause_reason:
        return _paused(lane, now)
    if condition.tone == Tone.BAD:
        return condition.explained
    wait = _seconds_to(lane.next_send_at if lane else None, now)
    if _is_driven(lane, now):
        if queue.waiting and wait:
            return gettext("Sending at its pace: the next message goes out in %(time)s.") % {"time": duration(wait)}
        return gettext("Sending now.") if queue.waiting else gettext("Nothing is waiting.")
    if not queue.waiting:
        return gettext("Nothing is waiting.")
    if health.find(*NOBODY_SENDS):
        return gettext("Messages are waiting, but nothing sends them: see below.")
    if _seconds_to(queue.due_at, now) and queue.due_at:
        return sentence(gettext("The next message is due at %(time)s.") % {"time": short_time(queue.due_at)})
    if wait:
        return gettext("Waiting for its pace: the next message goes out in %(time)s.") % {"time": duration(wait)}
    return gettext("The next message goes out in a moment.")


def _told_of(put_off: PutOff) -> str:
    told = {"time": put_off_time(put_off.reason, put_off.until), "why": CAUSES[put_off.reason].label}
    if put_off.count is None:
        return gettext("waits until %(time)s: %(why)s") % told
    return gettext("%(count)s until %(time)s: %(why)s") % {"count": put_off.count, **told}


def _paused(lane: Lane, now: datetime) -> str:
    since, why = short_time(lane.paused_at) if lane.paused_at else "", PAUSES[lane.pause_reason].why
    if lane.paused_until is None or not _seconds_to(lane.paused_until, now):
        words = gettext("Paused since %(time)s because %(reason)s. Messages are kept.")
        return words % {"time": since, "reason": why}
    words = gettext("Paused since %(time)s because %(reason)s. Messages are kept; the next try is at %(until)s.")
    return sentence(words % {"time": since, "reason": why, "until": short_time(lane.paused_until, seconds=True)})


def _is_driven(lane: Lane | None, now: datetime) -> bool:
    if lane is None or lane.lease_token is None or lane.lease_expires_at is None:
        return False
    return lane.lease_expires_at > now


def _seconds_to(moment: datetime | None, now: datetime) -> float:
    """Seconds until `moment`; 0 if it has passed or is None."""
    return max(0.0, (moment - now).total_seconds()) if moment else 0.0


def _age(moment: datetime | None, now: datetime) -> str:
    return duration((now - moment).total_seconds()) if moment else ""


def _last_error(condition: Condition, lane: Lane | None, now: datetime) -> tuple[tuple[str, bool], str]:
    if lane is None or not lane.last_error or lane.last_error_at is None:
        return ("", False), ""
    if condition.tone == Tone.GOOD and now - lane.last_error_at > OLD_ERROR:
        return ("", False), ""
    return error_told(lane.last_error), short_time(lane.last_error_at)
