"""The dead man's switch: asks `KPWA["HEARTBEAT_URL"]` after sweeps, for a service that tells somebody when it stops.

The path of the address is its secret, so it is in no log line: only the host is.
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
"""Maximum duration of asking, including the resolver, connecting and a slow answer."""
EVERY_SECONDS = 60.0
"""A process asks at most this often."""
LOG_EVERY_SECONDS = 3600.0

asking = outside.Gate()
logging = outside.Gate()


def is_askable(url: str) -> bool:
    """True if `url` is https, or on this machine, and plain enough to have one meaning."""
    return origin_of(url) is not None and not is_in_the_clear(url)


def ask() -> None:
    """Start asking, if an address is set and was not asked lately. Never raises, and does not wait."""
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
            "The address of KPWA['HEARTBEAT_URL'] at %s could not be asked: %s. Further failures are not logged for "
            "an hour.",
            urlsplit(url).hostname,
            reason,
        )
