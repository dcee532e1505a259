"""Tells the people who run the site that a license stopped sending: one line a pause.

The logger is `django_kpwa.alerts` and the level ERROR, so that Django's own `AdminEmailHandler`, Sentry or whatever
the site has carries it on.
"""

from __future__ import annotations

from .logs import get_logger
from .models import License, PauseReason
from .phone import mask
from .store.results import Pause
from .words import PAUSES, Tone, what_to_do

logger = get_logger("django_kpwa.alerts")


def lane_paused(license_: License, pause: Pause, confirmed_number: str = "", linked_number: str = "") -> None:
    """Alert that `license_` was just paused. Call it once a pause; short waits that end by themselves are no alert.

    The numbers are those of a phone that was exchanged for another; they are masked.
    """
    if PAUSES[pause.reason].tone != Tone.BAD:
        logger.info("License %s paused: %s.", license_.name, pause.reason.value)
        return
    words, advice = pause.words, what_to_do(pause.reason, license_.name)
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
