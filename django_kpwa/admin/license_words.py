"""What a license's state means for the shop, and what to do about it, in words."""

from __future__ import annotations

from django.utils import formats
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..conditions import Condition, Help, Words, lane_of
from ..gateway import SessionStatus
from ..models import License, PauseReason

_NEEDS_SCAN = _(
    "WhatsApp is logged out. Messages are kept. Press “Link WhatsApp” and scan the code with the shop's phone; then "
    "they go out."
)
_BY_PAUSE: dict[str, Words] = {
    PauseReason.UNAUTHORIZED.value: _(
        "The gateway does not accept the API key. Messages are kept. Enter the present key below; then they go out."
    ),
    PauseReason.KEY_UNREADABLE.value: _(
        "The stored API key cannot be read: the site's own secret key was changed. Messages are kept. Enter the API "
        "key again below."
    ),
    PauseReason.NUMBER_CHANGED.value: _(
        "Another phone is linked than before. Nothing is sent until somebody says which phone is the right one."
    ),
    PauseReason.LOGGED_OUT.value: _NEEDS_SCAN,
    PauseReason.FAILING.value: _(
        "The gateway cannot be reached, or keeps failing. Messages are kept, and it is asked again by itself."
    ),
    PauseReason.BY_PERSON.value: _("Somebody paused this license. Messages are kept until you press “Resume”."),
    PauseReason.RATE_LIMITED.value: _("The gateway asked to wait. Sending goes on by itself."),
}
_BY_HELP: dict[Help, Words] = {
    Help.ENTER_KEY: _("Nothing can be sent without an API key. Enter it below."),
    Help.LINK: _("Press “Link WhatsApp” and scan the code with the shop's phone. Until then messages are kept."),
    Help.CHECK_STATUS: _("Nothing was sent for a while. Whether the phone is still linked, “Check status” tells."),
}


def meaning_of(license_: License, condition: Condition) -> str:
    """What `condition` of `license_` means, and what to do."""
    if not license_.is_active:
        return gettext("Messages are accepted and kept. Nothing is sent until the license is active.")
    lane = lane_of(license_)
    if lane is not None and lane.pause_reason and license_.api_key_ciphertext:
        if condition.help == Help.NONE and lane.pause_reason == PauseReason.UNAUTHORIZED:
            return gettext("The key before was refused. The new one is tried with the next message.")
        return str(_BY_PAUSE[lane.pause_reason])
    if condition.help == Help.LINK and lane is not None and lane.session_status == SessionStatus.QR.value:
        return str(_NEEDS_SCAN)
    return str(_BY_HELP.get(condition.help, _("Messages go out by themselves.")))


def between(low: float, high: float) -> str:
    """A pause between two messages: `4 to 8 seconds`."""
    if high <= 0:
        return gettext("none")
    low_words, high_words = _seconds(low), _seconds(high)
    if low_words == high_words:
        return gettext("%(seconds)s seconds") % {"seconds": high_words}
    return gettext("%(low)s to %(high)s seconds, at random") % {"low": low_words, "high": high_words}


def pace_of(license_: License) -> str:
    """How fast a license sends: `4 to 8 seconds, at random (about 600 messages an hour)`."""
    low, high = license_.pace_seconds
    if low + high <= 0:
        return gettext("no pause between two messages")
    hourly = formats.number_format(round(7200 / (low + high)), force_grouping=True)
    words = gettext("%(pause)s between two messages; at most about %(count)s an hour")
    return words % {"pause": between(low, high), "count": hourly}


def _seconds(seconds: float) -> str:
    return formats.number_format(round(seconds, 2) if seconds % 1 else int(seconds))
