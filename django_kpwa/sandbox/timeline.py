"""Runs delayed actions in one thread: ticks that follow a delivery, late webhooks, retries of failed webhooks.

A thread for each message would mean thousands of them in a benchmark. Since all actions share one, they must be quick.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable

from ..logs import get_logger, lines_of, traceback_of
from ..phone import mask_numbers

logger = get_logger(__name__)


class Timeline:
    """Runs actions when they are due, in the order of their times. The thread is started by the first action."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._thread: threading.Thread | None = None

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Run `action` in the timeline's thread after `seconds`. What it raises is logged."""
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._order), action))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sandbox-timeline", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            try:
                self._next()()
            except Exception as error:
                logger.error("A sandbox action failed.\n%s", lines_of(mask_numbers(traceback_of(error))))

    def _next(self) -> Callable[[], None]:
        with self._changed:
            while True:
                wait = self._due[0][0] - time.monotonic() if self._due else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(wait)
