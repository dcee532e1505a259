"""Bounds the time of one rendering: a site's template or receipt class may never end, and a lane waits for it.

A signal interrupts the main thread, which a prefork child's and a command's are, even where it sleeps. Any other thread
is interrupted by the interpreter between two steps of Python, so not in a call that never returns: who drives in
threads gives those up (`cli.driving`). Greenlets share one thread, so that nothing there can be aimed at: the task's
own time limit and the count of renderings remain.
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
"""A watchdog ends at once; one that died of a lack of memory never says so."""


class TookTooLongError(BaseException):
    """Raised in what took too long. No `Exception`, so that a site's code does not swallow it in passing."""


# Functions, not context managers: an interruption may come at the first step of an `__exit__`, which then never runs.
def call_within(seconds: float, function: Callable[[], Result]) -> Result:
    """Call `function`; raises `TookTooLongError` in it once it takes longer, and again each second until it ends."""
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
    """In the main thread, and where the site has no alarm of its own."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        return False
    return signal.getsignal(signal.SIGALRM) is not None and not signal.getitimer(signal.ITIMER_REAL)[0]


def _call_under_alarm(seconds: float, function: Callable[[], Result]) -> Result:
    is_over = False

    def ring(number: int, frame: FrameType | None) -> None:
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
            # Also where something else strikes at the first step of `end()`, nobody is aimed at for ever.
            watchdog.is_over = True
            watchdog.end()
    except TookTooLongError:
        # It may have struck at the first step of that.
        watchdog.end()
        raise


class _Watchdog:
    """Interrupts the thread that made it, until that ends it. It has no lock that an interruption could leave held."""

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
            # The system has no thread left.
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
                    # CPython 3.11 has one mark for "somebody is aimed at", and while it stands no thread gets beyond a
                    # step that a debugger or a coverage tool traces. A thread that sleeps would leave it there; one
                    # that is struck takes it away, so this one is. The other sets it again as soon as it wakes.
                    aim(me, interruption)
                    while True:
                        time.sleep(0)
                except TookTooLongError:
                    pass
                wait = _AGAIN_SECONDS
        finally:
            self._has_ended = True

    def end(self) -> None:
        """Have it end; what it aimed and has not struck yet strikes here, and is over."""
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
                    # Whatever is still on its way is replaced by one that strikes here, see `_watch()`.
                    self._has_aimed = False
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(self._thread_id, ctypes.py_object(TookTooLongError))
                    while True:
                        time.sleep(0)
            except TookTooLongError:
                continue
            return
