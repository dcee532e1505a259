"""What the counter reads about a license or a message, in words that need no manual."""

from __future__ import annotations

from datetime import datetime

from django.utils import formats
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from ..conditions import Condition, Help, Words, clock, lane_of
from ..gateway import SessionStatus
from ..gateway.outcome import Cause
from ..models import License, OutboundMessage, PauseReason, Status

_DISCONNECTED = _("WhatsApp disconnected")
_PROBLEM_BY_PAUSE: dict[str, Words] = {
    PauseReason.LOGGED_OUT.value: _DISCONNECTED,
    PauseReason.NUMBER_CHANGED.value: _("WhatsApp stopped because another phone is linked"),
    PauseReason.UNAUTHORIZED.value: _("WhatsApp stopped because the API key is refused"),
    PauseReason.KEY_UNREADABLE.value: _("WhatsApp stopped because the API key cannot be read"),
    PauseReason.FAILING.value: _("WhatsApp cannot be reached"),
    PauseReason.BY_PERSON.value: _("WhatsApp paused"),
}
_WHY: dict[str, Words] = {
    **{cause.value: cause.label for cause in Cause if cause.value},
    "render_error": _("its text could not be written"),
    "withdrawn": _("it was withdrawn"),
}


def problem(license_: License, condition: Condition) -> tuple[str, datetime | None]:
    """What is wrong with a license that needs somebody, and since when, where that is known."""
    lane = lane_of(license_)
    if lane is not None and lane.pause_reason in _PROBLEM_BY_PAUSE:
        return str(_PROBLEM_BY_PAUSE[lane.pause_reason]), lane.paused_at
    if lane is not None and lane.session_status == SessionStatus.QR.value:
        return str(_DISCONNECTED), lane.session_seen_at
    if condition.help == Help.ENTER_KEY:
        return gettext("WhatsApp has no API key yet"), None
    return gettext("WhatsApp is not linked yet"), None


def sentence(problem_: str, since: datetime | None, waiting: str) -> str:
    """The banner's line: `WhatsApp disconnected since 19.04, 37 receipts waiting`."""
    said = problem_
    if since is not None:
        said = gettext("%(problem)s since %(time)s") % {"problem": problem_, "time": clock(since)}
    return gettext("%(problem)s, %(waiting)s") % {"problem": said, "waiting": waiting} if waiting else said


def waiting(count: int, limit: int) -> str:
    """How many receipts wait; above `limit`, `1,000+`. Empty for none."""
    if not count:
        return ""
    shown = formats.number_format(min(count, limit), force_grouping=True) + ("+" if count > limit else "")
    return ngettext("%(count)s receipt waiting", "%(count)s receipts waiting", count) % {"count": shown}


def why(message: OutboundMessage) -> str:
    """Why a message failed, is in doubt or was withdrawn; of a refusal with the gateway's own words."""
    if message.status == Status.QUEUED and message.license_id is None:
        return gettext("waiting: it is not chosen yet which license sends it")
    if message.status not in (Status.FAILED, Status.UNKNOWN, Status.CANCELLED):
        return ""
    if message.status == Status.FAILED and message.reason == Cause.REFUSED and message.reason_words:
        return gettext("the gateway said: %(words)s") % {"words": message.reason_words}
    return str(_WHY.get(message.reason, ""))
