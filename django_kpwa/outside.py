"""Requests to URLs of a site's settings (the dead man's switch, alerts), which no send and no web request waits for.

Each runs in its own thread, outside any transaction. The thread is not a daemon: a round of `kpwa dispatch` waits for
it before it exits, so everything in it must be bounded in time. The paths of these URLs are secrets, so they are never
logged.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from time import monotonic

from django.utils import translation
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from .logs import mute_thread

THREAD = "kpwa-outside"
_MAX_ANSWER_BYTES = 64 * 1024


@dataclass(frozen=True)
class Failure:
    """Why a request failed; `str()` gives it in the active language. It quotes nothing of the URL."""

    words: str | Promise
    figures: Mapping[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        return str(self.words) % self.figures

    @property
    def in_english(self) -> str:
        """The same in English, for logs and command lines."""
        with translation.override("en"):
            return str(self)


class Gate:
    """A rate limiter: lets each of several things pass at most once per interval in this process.

    It has no lock, because in a process that was forked at the wrong moment the lock would never be released. Two
    threads that call it at the same time may both pass.
    """

    def __init__(self) -> None:
        self._passed_at: dict[Hashable, float] = {}

    def passes(self, seconds: float, what: Hashable = "") -> bool:
        """Return True if `what` has not passed in the last `seconds`, and remember that it passes now."""
        now = monotonic()
        if now - self._passed_at.get(what, float("-inf")) < seconds:
            return False
        self._passed_at[what] = now
        return True

    def forget(self) -> None:
        """Let everything through again."""
        self._passed_at.clear()


def in_a_thread(work: Callable[[], object]) -> bool:
    """Start `work`, which must not raise, in its own thread. Returns False if no thread could be started."""
    try:
        threading.Thread(target=work, name=THREAD).start()
    except RuntimeError:
        return False
    return True


_unanswered: dict[str, threading.Thread] = {}


def answers(works: Mapping[str, Callable[[], Failure | None]], seconds: float) -> dict[str, Failure | None]:
    """Call all `works` concurrently and return what each returned, or a `Failure` if it took longer than `seconds`.

    If a work raises, its `Failure` is the type of the exception. A work that still runs from an earlier call is not
    started again, so that one that hangs for ever costs the process a single thread.
    """
    done: dict[str, Failure | None] = {}
    threads: dict[str, threading.Thread] = {}
    ends_at = monotonic() + seconds

    def run(name: str, work: Callable[[], Failure | None]) -> None:
        try:
            done[name] = work()
        except Exception as error:
            # Only the type, because messages of mail servers quote addresses, and others may quote anything.
            done[name] = Failure(type(error).__name__)

    for name, work in works.items():
        if name in _unanswered and _unanswered[name].is_alive():
            done[name] = Failure(_("an earlier one still waits for an answer"))
            continue
        threads[name] = _unanswered[name] = threading.Thread(target=run, args=(name, work), name=THREAD, daemon=True)
        threads[name].start()
    for thread in threads.values():
        thread.join(max(ends_at - monotonic(), 0.0))
    return {name: done.get(name, _too_long(seconds)) for name in works}


def ask(url: str, seconds: float, body: bytes | None = None, content_type: str = "application/json") -> Failure | None:
    """GET `url`, or POST `body` to it, for at most `seconds`. Returns what went wrong, or None for a 2xx answer.

    The time includes DNS, connecting and a slow answer. Redirects are not followed, and a proxy from the environment
    is not used.
    """
    # Imported only here, because a site that sets no such URL does not need them.
    from urllib3.exceptions import HTTPError

    from .gateway.http import ask_once
    from .gateway.transport import Call

    mute_thread(THREAD, "urllib3.connectionpool")
    call = Call(_MAX_ANSWER_BYTES)
    headers = {"User-Agent": "django-kpwa"} | ({} if body is None else {"Content-Type": content_type})
    try:
        answer = ask_once(url, headers, call, seconds, body)
    except (OSError, HTTPError, ValueError) as error:
        return _too_long(seconds) if call.timed_out else Failure(type(call.connect_error or error).__name__)
    return None if 200 <= answer.status < 300 else Failure(_("it answered %(status)s"), {"status": answer.status})


def _too_long(seconds: float) -> Failure:
    return Failure(_("it took longer than %(seconds)s seconds"), {"seconds": f"{seconds:.0f}"})
