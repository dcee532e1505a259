"""Limits the time of one rendering: a site's template or receipt class may never end, and its lane waits for it.

- The main thread, of a prefork child or a command, is interrupted by a signal, even while it sleeps.
- Any other thread is interrupted by an asynchronous exception, which takes effect between two steps of Python. It has
  no effect within a call that never returns. The caller that drives in threads gives such threads up (`cli.lane_pool`).
- Greenlets share one thread, so none of them can be interrupted. Only the task's own time limit and the count of
  renderings protect against them.
"""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

Result = TypeVar("Result")

_AGAIN_SECONDS = 1.0
_END_SECONDS = 5.0
"""Maximum wait for a watchdog to end. It ends at once, unless it died for lack of memory without reporting that."""


class TookTooLongError(BaseException):
    """Raised inside a function that takes too long. Not an `Exception`, so that a site's `except` does not catch it."""


# These are functions, not context managers: an interruption may come at the first step of an `__exit__`, whose cleanup
# would then never run.
def call_within(seconds: float, function: Callable[[], Result]) -> Result:
    """Call `function` and return its result.

    After `seconds`, `TookTooLongError` is raised inside `function`, and again every second until it ends.
    """
    if _is_greenlet():
        return function()
    if _may_set_alarm():
        return _call_under_alarm(seconds, function)
    if hasattr(ctypes, "pythonapi"):
        return _call_watched(seconds, function)
    return function()


def _is_greenlet() -> bool:
    greenlet = sys.modules.get("greenlet")
    return greenlet is not None and greenlet.getcurrent().parent is not None


def _may_set_alarm() -> bool:
    """True in the main thread if the site has not set an alarm."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        return False
    return signal.getsignal(signal.SIGALRM) is not None and not signal.getitimer(signal.ITIMER_REAL)[0]


def _call_under_alarm(seconds: float, function: Callable[[], Result]) -> Result:
    is_over = False

    def ring(number: int, frame: FrameType | None) -> None:
        # The alarm may ring after `function` has returned, before the timer is stopped.
        if not is_over:
            raise TookTooLongError

    previous = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_SECONDS)
        try:
            return function()
        finally:
            is_over = True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _call_watched(seconds: float, function: Callable[[], Result]) -> Result:
    watchdog = _Watchdog(seconds)
    try:
        try:
            watchdog.start()
            return function()
        finally:
            # Set here as well: the watchdog then stops even if another exception strikes at the first step of `end()`.
            watchdog.is_over = True
            watchdog.end()
    except TookTooLongError:
        # The interruption may have come at the first step of the `end()` above.
        watchdog.end()
        raise


class _Watchdog:
    """Interrupts the thread that created it, until that thread calls `end()`.

    That thread must not hold a lock here, because an interruption could leave the lock held. So there is no `Event` and
    no `Condition`.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._thread_id = ctypes.c_ulong(threading.get_ident())
        self.is_over = False
        self._is_woken = False
        self._has_ended = True
        self._has_aimed = False
        self._sleeps = threading.Lock()
        self._sleeps.acquire()

    def start(self) -> None:
        self._has_ended = False
        try:
            threading.Thread(target=self._watch, name="kpwa-deadline", daemon=True).start()
        except RuntimeError:
            # The operating system cannot start another thread.
            self._has_ended = True
            raise

    def _watch(self) -> None:
        aim, interruption = ctypes.pythonapi.PyThreadState_SetAsyncExc, ctypes.py_object(TookTooLongError)
        me = ctypes.c_ulong(threading.get_ident())
        try:
            wait = self._seconds
            while not self._sleeps.acquire(timeout=wait) and not self.is_over:
                self._has_aimed = True
                try:
                    aim(self._thread_id, interruption)
                    # CPython 3.11 has one flag for "an asynchronous exception is pending in some thread". While it is
                    # set, no thread gets beyond a step that a debugger or a coverage tool traces. A thread that sleeps
                    # would leave it set; a thread that receives its exception clears it, so this thread also raises
                    # one in itself. The other thread sets the flag again as soon as it wakes.
                    aim(me, interruption)
                    while True:
                        time.sleep(0)
                except TookTooLongError:
                    pass
                wait = _AGAIN_SECONDS
        finally:
            self._has_ended = True

    def end(self) -> None:
        """Stop the watchdog. If it has set an exception that is still pending, that is raised and caught here."""
        latest = time.monotonic() + _END_SECONDS
        while True:
            try:
                self.is_over = True
                if not self._is_woken:
                    self._is_woken = True
                    self._sleeps.release()
                while not self._has_ended and time.monotonic() < latest:
                    time.sleep(0.0002)
                if self._has_aimed:
                    # An exception that is still pending is replaced by one that is raised in the loop below.
                    self._has_aimed = False
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(self._thread_id, ctypes.py_object(TookTooLongError))
                    while True:
                        time.sleep(0)
            except TookTooLongError:
                continue
            return
