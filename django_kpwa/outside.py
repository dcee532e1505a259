"""Asks addresses of a site's settings (the dead man's switch, alerts), never in the time of a send or a request.

What is to be asked runs in a thread of its own, outside of any transaction. The thread is no daemon: a round of
`kpwa dispatch` waits for it at its end, so everything in it has to be bounded. The paths of these addresses are their
secrets, so they are in no log line.
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
    """Why an address could not be asked; as text in the active language. It quotes nothing of the address."""

    words: str | Promise
    figures: Mapping[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        return str(self.words) % self.figures

    @property
    def in_english(self) -> str:
        """The same for logs and command lines."""
        with translation.override("en"):
            return str(self)


class Gate:
    """Lets each of several things through at most once in a time in this process.

    It has no lock, which a process that is forked in the wrong moment would find locked for ever. Two threads that come
    at once may both pass.
    """

    def __init__(self) -> None:
        self._passed_at: dict[Hashable, float] = {}

    def passes(self, seconds: float, what: Hashable = "") -> bool:
        """True if `what` has not passed in the last `seconds`."""
        now = monotonic()
        if now - self._passed_at.get(what, float("-inf")) < seconds:
            return False
        self._passed_at[what] = now
        return True

    def forget(self) -> None:
        """Let everything through again."""
        self._passed_at.clear()


def in_a_thread(work: Callable[[], object]) -> bool:
    """Start `work`, which must not raise, in a thread of its own; False if no thread could be started."""
    try:
        threading.Thread(target=work, name=THREAD).start()
    except RuntimeError:
        return False
    return True


_unanswered: dict[str, threading.Thread] = {}


def answers(works: Mapping[str, Callable[[], Failure | None]], seconds: float) -> dict[str, Failure | None]:
    """Call all `works` at once and return what each returned; a work that takes longer than `seconds` is left.

    A work that raises has failed by the type of its exception. One that was left and still runs is not begun
    again, so that something that hangs for ever costs a process one thread.
    """
    done: dict[str, Failure | None] = {}
    threads: dict[str, threading.Thread] = {}
    ends_at = monotonic() + seconds

    def run(name: str, work: Callable[[], Failure | None]) -> None:
        try:
            done[name] = work()
        except Exception as error:
            # Only its type: messages of mail servers quote addresses, and those of others may quote anything.
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
    """GET `url`, or POST `body` to it, for at most `seconds`. Return what went wrong; None: nothing.

    The time includes the resolver, connecting and a slow answer. Redirects are not followed, and a proxy of the
    environment is not used.
    """
    # Imported only here: a site that sets no address does not need them.
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
