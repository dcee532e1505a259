"""`kpwa run`: drives lanes, processes webhooks, rolls up statistics and purges in one process, without Celery.

Without a broker it polls the database: every second while there is something to do, less often when idle.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from django.db import DatabaseError, InterfaceError, connections

from .. import retention, statistics, webhooks
from ..dispatch import sweep
from ..models import WebhookEvent
from ..store.heartbeats import note_alive
from .choosing import positive_count
from .console import EXIT_OK, Console
from .driving import LanePool, report, stopped_by_signals

HELP = "send, process webhooks and do housekeeping in one process, without Celery"

SHORTEST_LOOK_SECONDS = 1.0
"""Seconds between two polls while there is something to do."""
LONGEST_LOOK_SECONDS = 3.0
"""Seconds between two polls when idle. A new message waits at most this long before it is noticed."""
STATISTICS_SECONDS = 60.0
PURGE_SECONDS = 3600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_threads_argument(parser)


def add_threads_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threads",
        type=positive_count,
        default=8,
        metavar="N",
        help="maximum number of concurrent calls to the gateway, at most one per license (default: %(default)s)",
    )


def run(console: Console, options: dict[str, Any]) -> int:
    pool = LanePool(options["threads"])
    with stopped_by_signals(pool):
        console.report("Running: sending, processing webhooks and housekeeping. Press Ctrl-C to stop.")
        try:
            _Loop(pool).run()
        finally:
            console.report("Stopping: waiting for the calls in progress.")
            pool.close()
            connections.close_all()
    console.report(f"Stopped. Sends attempted: {pool.attempts}.")
    return EXIT_OK


class _Loop:
    """The main loop: polls the database, starts what is due in the pool, and waits until the next poll."""

    def __init__(self, pool: LanePool) -> None:
        self.pool = pool
        self.look_seconds = SHORTEST_LOOK_SECONDS
        self.next_look = self.next_statistics = self.next_purge = 0.0

    def run(self) -> None:
        while not self.pool.is_stopping():
            now = time.monotonic()
            if now >= self.next_look:
                self._look()
                self.next_look = now + self.look_seconds
            # Statistics and purging may be slow. They run in the pool, so that they do not delay the next poll.
            if now >= self.next_statistics:
                self.pool.start_job("rolling statistics up", statistics.roll_up)
                self.next_statistics = now + STATISTICS_SECONDS
            if now >= self.next_purge:
                self.pool.start_job("purging", lambda: retention.purge(should_stop=self.pool.is_stopping))
                self.next_purge = now + PURGE_SECONDS
            self.pool.wait(self.next_look - time.monotonic())

    def _look(self) -> None:
        """Poll once: start the lanes that a sweep finds, and the processing of due webhook events."""
        note_alive("worker")
        try:
            found = self.pool.start(sweep().license_ids)
            if WebhookEvent.objects.to_process().exists():
                found += 1
                self.pool.start_job("processing webhooks", self._process_webhooks)
        except (DatabaseError, InterfaceError) as error:
            report(error, "looking for due messages")
            # The connection may be broken; the next poll opens a new one.
            connections.close_all()
            found = 0
        is_busy = found or self.pool.is_driving()
        self.look_seconds = SHORTEST_LOOK_SECONDS if is_busy else min(self.look_seconds * 1.25, LONGEST_LOOK_SECONDS)

    def _process_webhooks(self) -> None:
        webhooks.process_due_events(should_stop=self.pool.is_stopping)
