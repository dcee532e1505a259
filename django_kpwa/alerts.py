"""Tells the people who run the site that a license stopped sending: one line a pause.

The logger is `django_kpwa.alerts` and the level ERROR, so that Django's own `AdminEmailHandler`, Sentry or whatever
the site has carries it on.
"""

from __future__ import annotations

from .logs import get_logger
from .models import License, PauseReason
from .phone import mask
from .store.results import Pause

logger = get_logger("django_kpwa.alerts")

_ADVICE = {
    PauseReason.LOGGED_OUT: "Scan the QR code of this license again (admin, or `manage.py kpwa qr`).",
    PauseReason.UNAUTHORIZED: "Enter the license's present API key in the admin; sending goes on by itself.",
    PauseReason.FAILING: "The gateway, or the way to it, fails; it is asked again. See `manage.py kpwa doctor`.",
    PauseReason.NUMBER_CHANGED: (
        "If the phone that is linked now is the right one, confirm its number (admin, or `manage.py kpwa licenses "
        "confirm-number`); if not, link the one from before again."
    ),
    PauseReason.KEY_UNREADABLE: 'Put the secret key back into KPWA["SECRET_KEYS"], or enter the API key again.',
}


def lane_paused(license_: License, pause: Pause, confirmed_number: str = "", linked_number: str = "") -> None:
    """Alert that `license_` was just paused. Call it once a pause; short waits that end by themselves are no alert.

    The numbers are those of a phone that was exchanged for another; they are masked.
    """
    advice = _ADVICE.get(pause.reason)
    if advice is None:
        logger.info("License %s paused: %s.", license_.name, pause.reason.value)
        return
    words = pause.words
    if pause.reason == PauseReason.KEY_UNREADABLE and words:
        # They say what is wrong with the key, and what helps against just that.
        advice = ""
    if pause.reason == PauseReason.NUMBER_CHANGED:
        words = f"{mask(linked_number)} instead of {mask(confirmed_number)}"
    logger.error(
        "License %s stopped sending (%s%s). Its messages are kept.%s",
        license_.name,
        pause.reason.value,
        f": {words}" if words else "",
        f" {advice}" if advice else "",
    )
