"""Alerts the people who run the site that a license stopped sending, with one log line per pause.

The logger is `django_kpwa.alerts` and the level is ERROR, so that Django's `AdminEmailHandler`, Sentry or whatever the
site has configured forwards it.
"""

from __future__ import annotations

from .logs import get_logger
from .models import License, PauseReason
from .phone import mask
from .store.results import Pause
from .words import PAUSES, Tone, what_to_do

logger = get_logger("django_kpwa.alerts")


def lane_paused(license_: License, pause: Pause, confirmed_number: str = "", linked_number: str = "") -> None:
    """Log that `license_` was just paused. Call it once per pause. A short pause that ends by itself is only an INFO.

    `confirmed_number`, `linked_number`: in digits, for a pause because another phone is linked; they are masked here.
    """
    if PAUSES[pause.reason].tone != Tone.BAD:
        logger.info("License %s paused: %s.", license_.name, pause.reason.value)
        return
    words, advice = pause.words, what_to_do(pause.reason, license_.name)
    if pause.reason == PauseReason.KEY_UNREADABLE and words:
        # These words already say what is wrong with the key and what to do.
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
