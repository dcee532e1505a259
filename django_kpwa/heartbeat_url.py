"""The dead man's switch: asks `KPWA["HEARTBEAT_URL"]` after sweeps, for a service that tells somebody when it stops.

It runs in a thread of its own, outside of any transaction, so that an address that hangs delays neither the sweep nor
a send. The thread is no daemon: a round of `kpwa dispatch` waits for it at its end, for `SECONDS` at most.

The path of the address is its secret, so it is in no log line: only the host is.
"""

from __future__ import annotations

import threading
from time import monotonic
from urllib.parse import urlsplit

from .conf import kpwa_settings
from .gateway.addresses import is_in_the_clear, origin_of
from .logs import get_logger, mute_thread
from .rehearsal import is_rehearsal

logger = get_logger("django_kpwa.heartbeats")

SECONDS = 3.0
"""Maximum duration of asking, including the resolver, connecting and a slow answer."""
EVERY_SECONDS = 60.0
"""A process asks at most this often."""
LOG_EVERY_SECONDS = 3600.0
_MAX_ANSWER_BYTES = 64 * 1024
_THREAD = "kpwa-heartbeat-url"


class _Process:
    """When this process last asked, and when it last logged a failure, on the clock of `time.monotonic()`."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        self.asked_at = self.logged_at = float("-inf")

    def may_ask(self) -> bool:
        with self.lock:
            if monotonic() - self.asked_at < EVERY_SECONDS:
                return False
            self.asked_at = monotonic()
            return True

    def may_log(self) -> bool:
        with self.lock:
            if monotonic() - self.logged_at < LOG_EVERY_SECONDS:
                return False
            self.logged_at = monotonic()
            return True


process = _Process()


def is_askable(url: str) -> bool:
    """True if `url` is https, or on this machine, and plain enough to have one meaning."""
    return origin_of(url) is not None and not is_in_the_clear(url)


def ask() -> None:
    """Start asking, if an address is set and was not asked lately. Never raises, and does not wait."""
    url = kpwa_settings().HEARTBEAT_URL
    if not url or is_rehearsal() or not is_askable(url) or not process.may_ask():
        return
    try:
        threading.Thread(target=_ask, args=(url,), name=_THREAD).start()
    except RuntimeError:
        _log(url, "no thread could be started")


def _ask(url: str) -> None:
    # Imported only here: a site that sets no address does not need them.
    from urllib3.exceptions import HTTPError

    from .gateway.http import get_once
    from .gateway.transport import Call

    mute_thread(_THREAD, "urllib3.connectionpool")
    call = Call(_MAX_ANSWER_BYTES)
    try:
        answer = get_once(url, {"User-Agent": "django-kpwa"}, call, SECONDS)
    except (OSError, HTTPError, ValueError) as error:
        _log(url, f"it took longer than {SECONDS:.0f} seconds" if call.timed_out else type(error).__name__)
    else:
        if not 200 <= answer.status < 300:
            _log(url, f"it answered {answer.status}")


def _log(url: str, reason: str) -> None:
    if process.may_log():
        logger.warning(
            "The address of KPWA['HEARTBEAT_URL'] at %s could not be asked: %s. Further failures are not logged for "
            "an hour.",
            urlsplit(url).hostname,
            reason,
        )
