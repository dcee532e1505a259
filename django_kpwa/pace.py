"""How long to wait: between messages, before another try, before the next look at a paused lane. Seconds throughout."""

from __future__ import annotations

import random

from .conf import Settings

MAX_RETRY_SECONDS = 900.0
"""The longest wait before another try: six tries do not get there, a site that allows more is spared long ones."""
MAX_RETRY_AFTER_SECONDS = 900.0
"""A gateway's Retry-After is honoured up to this: a wrong clock or a slip must not stop a shop for a day."""

_random = random.SystemRandom()


def next_send(pace_seconds: tuple[float, float]) -> float:
    """A random wait in the license's range: a machine's even beat is what gets numbers banned."""
    low, high = pace_seconds
    return _random.uniform(low, high) if high > 0 else 0.0


def retry(attempts_spent: int, conf: Settings) -> float:
    """Exponential backoff with jitter after the `attempts_spent`-th failure that sent nothing."""
    return _backoff(conf.RETRY_SECONDS, attempts_spent - 1, MAX_RETRY_SECONDS)


def probe(probes: int, conf: Settings) -> float:
    """The wait before a paused lane is asked again, after `probes` fruitless questions."""
    return _backoff(conf.PROBE_SECONDS, probes, conf.max_probe_seconds)


def _backoff(first: float, doublings: int, most: float) -> float:
    # The exponent is bounded because a float's is: a lane may stay paused for months.
    seconds = min(first * 2.0 ** min(max(doublings, 0), 30), most)
    return seconds * _random.uniform(0.8, 1.2)
