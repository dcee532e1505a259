"""The dead man's switch: requests `KPWA["HEARTBEAT_URL"]` after sweeps. An external service alerts somebody when the
requests stop.

The path of the URL is a secret, so only its host is logged.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from . import outside
from .conf import kpwa_settings
from .gateway.addresses import is_in_the_clear, origin_of
from .logs import get_logger
from .rehearsal import is_rehearsal

logger = get_logger("django_kpwa.heartbeats")

SECONDS = 3.0
"""Maximum duration of a request, including DNS, connecting and a slow answer."""
EVERY_SECONDS = 60.0
"""Minimum interval between two requests of one process."""
LOG_EVERY_SECONDS = 3600.0

asking = outside.Gate()
logging = outside.Gate()


def is_askable(url: str) -> bool:
    """True if `url` uses https or is on this machine, and has a form that all clients read alike."""
    return origin_of(url) is not None and not is_in_the_clear(url)


def ask() -> None:
    """Start a request, if a URL is set and the last request was long enough ago. Never raises, and does not wait."""
    url = kpwa_settings().HEARTBEAT_URL
    if not url or is_rehearsal() or not is_askable(url) or not asking.passes(EVERY_SECONDS):
        return
    if not outside.in_a_thread(lambda: _ask(url)):
        _log(url, "no thread could be started")


def _ask(url: str) -> None:
    failure = outside.ask(url, SECONDS)
    if failure is not None:
        _log(url, failure.in_english)


def _log(url: str, reason: str) -> None:
    if logging.passes(LOG_EVERY_SECONDS):
        logger.warning(
            "KPWA['HEARTBEAT_URL'] at %s could not be requested: %s. Further failures are not logged for an hour.",
            urlsplit(url).hostname,
            reason,
        )
