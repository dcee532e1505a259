"""A card a license: whether it sends, what waits, what became of today's messages, and the one button that helps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.contrib.admin import AdminSite
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.translation import gettext, gettext_lazy

from ... import phone
from ...conditions import Condition, Help, Missing, Tone, Words, clock, has_new_key, lane_of, license_condition
from ...counts import BoundedCount
from ...models import DatabaseNow, Lane, License, PauseReason
from .figures import Counts
from .queues import NO_QUEUE, Queue
from .words import span

MOST_LOOKED_AT = 500
MOST_SHOWN = 50
OLD_ERROR = timedelta(days=1)
"""An error this long ago is not shown on the card of a license that is well."""

_PERMISSIONS = {
    Help.LINK: "link_license",
    Help.ENTER_KEY: "change_license",
    Help.CONFIRM_NUMBER: "operate_license",
    Help.CHECK_STATUS: "operate_license",
    Help.RESUME: "operate_license",
}
_OPENED = (Help.LINK, Help.ENTER_KEY)
"""Helped on a page of its own; the others by a press."""


@dataclass(frozen=True)
class HelpButton:
    url: str
    words: Words
    is_pressed: bool
    is_primary: bool


@dataclass(frozen=True)
class Found:
    """A license and its condition, looked at at `now` by the database's clock."""

    license: License
    condition: Condition
    now: datetime


@dataclass(frozen=True)
class Card:
    license: License
    condition: Condition
    url: str
    """The license's page; empty for who may not open it."""
    number: str = field(repr=False)
    number_before: str = field(repr=False)
    seen: str
    sending: str
    waiting: BoundedCount
    oldest: str
    today: Counts
    error: str
    error_at: str
    help: HelpButton | None


def look_at_licenses() -> tuple[list[Found], bool]:
    """Every license, most urgent first, and whether there are more than were looked at."""
    rows = License.objects.kept().select_related("lane").annotate(looked_at=DatabaseNow())
    licenses: list[Any] = list(rows.order_by("name")[: MOST_LOOKED_AT + 1])
    found = [
        Found(license_, license_condition(license_, license_.looked_at), license_.looked_at)
        for license_ in licenses[:MOST_LOOKED_AT]
    ]
    # The order by name stays within an urgency.
    found.sort(key=lambda each: each.condition.urgency)
    return found, len(licenses) > MOST_LOOKED_AT


class Cards:
    """Makes the cards of one page."""

    def __init__(
        self,
        site: AdminSite,
        request: HttpRequest,
        queues: dict[int, Queue],
        today: dict[int, Counts],
        missing: Missing,
    ) -> None:
        self._site = site
        self._request = request
        self._queues = queues
        self._today = today
        self._missing = missing

    def of(self, found: Sequence[Found]) -> list[Card]:
        return [self._card(each) for each in found]

    def _card(self, found: Found) -> Card:
        license_, lane = found.license, lane_of(found.license)
        queue = self._queues.get(license_.pk, NO_QUEUE)
        error, error_at = _last_error(found, lane)
        return Card(
            license=license_,
            condition=found.condition,
            url=self._page_of(license_),
            number=phone.written(lane.linked_number) if lane and lane.linked_number else "",
            number_before=phone.written(lane.confirmed_number) if lane and lane.has_changed_number else "",
            seen=_seen(lane, found.now),
            sending=_sending(found, lane, queue, self._missing),
            waiting=queue.waiting,
            oldest=_age(queue.oldest_at, found.now),
            today=self._today.get(license_.pk, Counts()),
            error=error,
            error_at=error_at,
            help=self._help(found),
        )

    def _help(self, found: Found) -> HelpButton | None:
        """What the person may press; where the site lacks that button, a link to the license's page."""
        condition = found.condition
        if condition.help == Help.NONE or not self._may(_PERMISSIONS[condition.help]):
            return None
        is_primary = condition.tone in (Tone.BAD, Tone.ATTENTION)
        url = self._address(f"license_{condition.help.value}", found.license.pk)
        if url:
            return HelpButton(url, condition.help_words, condition.help not in _OPENED, is_primary)
        url = self._page_of(found.license)
        return HelpButton(url, gettext("Open"), False, is_primary) if url else None

    def _page_of(self, license_: License) -> str:
        if self._may("view_license") or self._may("change_license"):
            return self._address("license_change", license_.pk)
        return ""

    def _address(self, name: str, *arguments: object) -> str:
        try:
            return reverse(f"admin:django_kpwa_{name}", args=arguments, current_app=self._site.name)
        except NoReverseMatch:
            return ""

    def _may(self, codename: str) -> bool:
        return bool(self._request.user.has_perm(f"django_kpwa.{codename}"))


_HELD = gettext_lazy("The license is not active: messages are kept and not sent.")
_NO_KEY = gettext_lazy("Nothing can be sent without an API key.")


def _sending(found: Found, lane: Lane | None, queue: Queue, missing: Missing) -> str:
    """What the license is doing now, in a sentence."""
    if not found.license.is_active:
        return str(_HELD)
    if not found.license.api_key_ciphertext:
        return str(_NO_KEY)
    if lane is not None and lane.pause_reason:
        return _paused(found.license, lane, found.now)
    if _is_driven(lane, found.now):
        wait = _seconds_to(lane.next_send_at if lane else None, found.now)
        if queue.waiting and wait:
            return gettext("Sending at its pace: the next message goes out in %(time)s.") % {"time": span(wait)}
        return gettext("Sending now.") if queue.waiting else gettext("Nothing waits.")
    if not queue.waiting:
        return gettext("Nothing waits.")
    if missing != Missing.NOTHING:
        return gettext("Messages wait, and nobody sends them: see below.")
    if _seconds_to(queue.due_at, found.now) and queue.due_at:
        return gettext("At %(time)s the next message is due.") % {"time": clock(queue.due_at)}
    wait = _seconds_to(lane.next_send_at if lane else None, found.now)
    if wait:
        return gettext("Waiting for its pace: the next message goes out in %(time)s.") % {"time": span(wait)}
    return gettext("The next message goes out in a moment.")


def _paused(license_: License, lane: Lane, now: datetime) -> str:
    reason = PauseReason(lane.pause_reason)
    if has_new_key(license_, lane):
        return gettext("There is a new API key. It is tried with the next message.")
    since = clock(lane.paused_at) if lane.paused_at else ""
    if reason == PauseReason.BY_PERSON:
        return gettext("Paused by a person since %(time)s; messages are kept.") % {"time": since}
    if not _seconds_to(lane.paused_until, now) or lane.paused_until is None:
        return gettext("Paused since %(time)s because %(reason)s. Messages are kept.") % {
            "time": since,
            "reason": reason.label,
        }
    return gettext("Paused since %(time)s because %(reason)s. Messages are kept; it is tried again at %(until)s.") % {
        "time": since,
        "reason": reason.label,
        "until": clock(lane.paused_until, seconds=True),
    }


def _is_driven(lane: Lane | None, now: datetime) -> bool:
    if lane is None or lane.lease_token is None or lane.lease_expires_at is None:
        return False
    return lane.lease_expires_at > now


def _seconds_to(moment: datetime | None, now: datetime) -> float:
    """Seconds until `moment`; 0 where it has passed, or there is none."""
    return max(0.0, (moment - now).total_seconds()) if moment else 0.0


def _seen(lane: Lane | None, now: datetime) -> str:
    return _age(lane.session_seen_at, now) if lane else ""


def _age(moment: datetime | None, now: datetime) -> str:
    return span((now - moment).total_seconds()) if moment else ""


def _last_error(found: Found, lane: Lane | None) -> tuple[str, str]:
    if lane is None or not lane.last_error or lane.last_error_at is None:
        return "", ""
    if found.condition.tone == Tone.GOOD and found.now - lane.last_error_at > OLD_ERROR:
        return "", ""
    return lane.last_error, clock(timezone.localtime(lane.last_error_at))
