"""Keeps a flood of wrong tokens off the database, and never a right one out.

A wrong token costs one lookup, which is cheap until somebody sends thousands a second. So each process allows some
wrong ones; beyond that it takes a list of the right digests, at most once a second, and looks up no token that is not
on it. Nothing is counted by address: behind a proxy the gateway and the flood have the same one. Nothing is shared
between processes either: a cache would be one more thing that can be down, and slower than what it saves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

WRONG_AT_ONCE = 50
"""So many wrong tokens are looked up before a process takes it for a flood."""
WRONG_A_SECOND = 5.0
"""How fast that number recovers."""
LIST_SECONDS = 1.0
"""How old the list of right digests may be: a token that was made since is asked to come again."""


class FloodGate:
    """One of a process. Safe to use from any thread."""

    def __init__(self, read_digests: Callable[[], frozenset[str]]) -> None:
        self._read_digests = read_digests
        self._lock = threading.Lock()
        self.open()

    def open(self) -> None:
        """Forget what was counted."""
        self._allowed = float(WRONG_AT_ONCE)
        self._counted_at = time.monotonic()
        self._digests: frozenset[str] = frozenset()
        self._read_at = float("-inf")

    def count_wrong(self) -> None:
        """A token was looked up and is none of ours."""
        with self._lock:
            self._refill()
            self._allowed = max(self._allowed - 1, 0.0)

    def lets_pass(self, digest: str) -> bool:
        """Whether a token with this digest is worth a lookup now."""
        with self._lock:
            self._refill()
            if self._allowed >= 1:
                return True
            if self._counted_at - self._read_at >= LIST_SECONDS:
                self._digests, self._read_at = self._read_digests(), self._counted_at
            return digest in self._digests

    def _refill(self) -> None:
        now = time.monotonic()
        self._allowed = min(self._allowed + (now - self._counted_at) * WRONG_A_SECOND, float(WRONG_AT_ONCE))
        self._counted_at = now
