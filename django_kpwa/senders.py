"""Determines which of the processes that send are alive, by their heartbeats in the database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from . import broker
from .models import SILENT_SECONDS, STRANGERS, DatabaseNow, Heartbeat
from .store.heartbeats import NOTE_EVERY_SECONDS
from .words import Problem

MISSED_BEAT_SECONDS = 1.5 * NOTE_EVERY_SECONDS
"""Seconds without a heartbeat of beat after which it is considered dead, if there is a worker but no sweep."""
STARTING_SECONDS = 60.0
"""Seconds after a worker's start during which a missing beat is not reported."""


class Senders(NamedTuple):
    """The heartbeats of each kind of process, by the names of `Heartbeat`.

    `seen`: seconds since its last heartbeat. `up`: seconds for which it has been seen without a gap.
    `problem`: what is missing; None if nothing is.
    """

    seen: Mapping[str, float]
    up: Mapping[str, float]
    has_broker: bool
    problem: Problem | None

    def is_alive(self, name: str) -> bool:
        return self.was_seen(name, SILENT_SECONDS)

    def was_seen(self, name: str, seconds: float) -> bool:
        """True if that kind of process was seen in the last `seconds`."""
        return name in self.seen and self.seen[name] <= seconds

    @property
    def has_beat(self) -> bool:
        """True if beat runs, with our tasks or without them."""
        return self.is_alive("beat") or self.is_alive("other beat")

    @property
    def is_without_broker(self) -> bool:
        """True if `kpwa run` or cron sends, whether or not the site has a broker."""
        return not self.has_broker or self.is_alive("run") or self.is_alive("dispatch")


def senders() -> Senders:
    """Read the heartbeats, and find out what is missing."""
    seen: dict[str, float] = {}
    up: dict[str, float] = {}
    beats = Heartbeat.objects.exclude(name=STRANGERS)
    for name, seen_at, since, now in beats.values_list("name", "seen_at", "since", DatabaseNow()):
        silence = (now - seen_at).total_seconds()
        # A heartbeat from the future was stored while the database's clock was ahead, and proves nothing about now.
        if silence > -SILENT_SECONDS:
            seen[name], up[name] = silence, (now - (since or seen_at)).total_seconds()
    found = Senders(seen, up, broker.is_configured(), None)
    return Senders(seen, up, found.has_broker, _missing(found))


def _missing(found: Senders) -> Problem | None:
    if found.is_alive("sweep"):
        return None
    if found.is_without_broker:
        return None if found.is_alive("run") or found.is_alive("dispatch") else Problem.NO_SENDER
    if found.is_alive("worker"):
        if found.up["worker"] <= STARTING_SECONDS:
            return Problem.STARTING
        if found.was_seen("beat", MISSED_BEAT_SECONDS):
            return Problem.NO_WORKER  # none for our tasks: the worker is busy with others, or hangs
        return Problem.OTHER_SCHEDULE if found.was_seen("other beat", MISSED_BEAT_SECONDS) else Problem.NO_BEAT
    if found.is_alive("publish failed"):
        return Problem.BROKER_DOWN
    if found.is_alive("other worker"):
        return Problem.OTHER_QUEUE
    return Problem.NO_WORKER if found.has_beat else Problem.NO_WORKER_AND_NO_BEAT
