"""Keeps a flood of wrong tokens from the database without ever refusing a valid one.

Nobody is blocked by address: behind a proxy all requests come from the proxy, and anybody can write `X-Forwarded-For`.
So valid tokens must be told from wrong ones even during a flood. While wrong tokens are few, each costs a query. Beyond
that, tokens are compared with a copy of the stored digests, which is reloaded at most ten times a second. A token is
stored before the gateway learns it by an HTTP call, so the copy contains it before its first webhook.
"""

from __future__ import annotations

import threading
import time

from django.db.models import Q

from ..logs import get_logger
from ..models import DatabaseNow, WebhookToken, outbox_key

logger = get_logger("django_kpwa.webhooks")

COPY_SECONDS = 0.1
"""Maximum age of the copy of the stored digests, in seconds."""

_WARNING_SECONDS = 60.0
_MOST_COPIES = 100
_NONE: tuple[frozenset[str], float] = (frozenset(), 0.0)


class Flood:
    """Counts the wrong tokens that this process received in the current second."""

    lookups_per_second = 20
    """Maximum number of wrong tokens per second that this process looks for in the database."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Return to the initial state, without wrong tokens and without copies."""
        self._lock = threading.Lock()
        self._second = 0
        self._wrong = 0
        # Per outbox: the digests, and the monotonic time until which they are fresh.
        self._copies: dict[tuple[str, str], tuple[frozenset[str], float]] = {}
        self._quiet_until = 0.0

    def refuses(self, digest: str) -> bool:
        """True if the token is known to be wrong and need not be looked up; always False while wrong tokens are few."""
        if not self._is_on():
            return False
        # A token in the present copy, even a stale one, does not wait for a reload: the lookup tells if it is valid.
        key = outbox_key()
        return digest not in self._copies.get(key, _NONE)[0] and digest not in self._read_digests(key)

    def note_wrong(self) -> None:
        """Count a token that the lookup did not find."""
        with self._lock:
            second = int(time.monotonic())
            self._wrong = self._wrong + 1 if second == self._second else 1
            self._second = second
            is_new = self._wrong == self.lookups_per_second and time.monotonic() >= self._quiet_until
            if is_new:
                self._quiet_until = time.monotonic() + _WARNING_SECONDS
        if is_new:
            logger.warning(
                "%s webhooks a second come with wrong tokens; more than that are refused without asking the database.",
                self.lookups_per_second,
            )

    def _is_on(self) -> bool:
        return self._wrong >= self.lookups_per_second and int(time.monotonic()) == self._second

    def _read_digests(self, key: tuple[str, str]) -> frozenset[str]:
        with self._lock:
            began = time.monotonic()
            digests, fresh_until = self._copies.get(key, _NONE)
            if began >= fresh_until:
                alive = Q(expires_at=None) | Q(expires_at__gt=DatabaseNow())
                tokens = WebhookToken.objects.filter(alive)
                digests = frozenset(tokens.values_list("digest", flat=True))
                if len(self._copies) >= _MOST_COPIES:
                    self._copies.clear()
                self._copies[key] = (digests, began + COPY_SECONDS)
            return digests


flood = Flood()
