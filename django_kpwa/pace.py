"""Wait times in seconds: between messages, before a retry, and before the next status check of a paused lane."""

from __future__ import annotations

import random

from .conf import Settings

MAX_RETRY_SECONDS = 900.0
"""Maximum wait before a retry, without jitter. The default of six attempts does not reach it."""
MAX_RETRY_AFTER_SECONDS = 900.0
"""Maximum Retry-After that is honoured: a gateway's mistake or wrong clock must not stop a shop for a day."""

RESTRICTED_SECONDS = (86_400.0, 172_800.0, 604_800.0)
"""Wait of messages to new customers after WhatsApp restricts the number, and after each further attempt that it
rejects: trying again too soon prolongs a restriction."""
MAX_RESTRICTION_SECONDS = RESTRICTED_SECONDS[-1]

_random = random.SystemRandom()


def next_send(pace_seconds: tuple[float, float]) -> float:
    """Return a random wait in the license's range: WhatsApp bans numbers that send like a machine."""
    low, high = pace_seconds
    return _random.uniform(low, high) if high > 0 else 0.0


def retry(attempts_spent: int, conf: Settings) -> float:
    """Return the wait before a retry after the `attempts_spent`-th failed attempt: exponential backoff with jitter."""
    return _backoff(conf.RETRY_SECONDS, attempts_spent - 1, MAX_RETRY_SECONDS)


def probe(probes: int, conf: Settings) -> float:
    """Return the wait before a paused lane's next status check, after `probes` checks that did not end the pause."""
    return _backoff(conf.PROBE_SECONDS, probes, conf.max_probe_seconds)


def _backoff(first: float, doublings: int, limit: float) -> float:
    # The exponent is bounded because a lane may stay paused for months, and the power would overflow.
    seconds = min(first * 2.0 ** min(max(doublings, 0), 30), limit)
    return seconds * _random.uniform(0.8, 1.2)
