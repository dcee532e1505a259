"""Subcommands that work without Celery: `kpwa run`, `dispatch` and `purge`.

`run` is one process that polls the database: every second while there is something to do, less often when idle.
`dispatch` is one round for cron. Rounds may overlap, and may run beside workers: a lane that is being driven is
skipped. With `-v 0` a round reports only problems that do not resolve by themselves, because cron mails all output.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import chain, islice
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, InterfaceError, connections

from .. import retention, statistics
from ..dispatch import Swept, look, sweep
from ..gateway import load_gateway_class
from ..health import unassigned
from ..models import DatabaseNow, Lane, License, OutboundMessage, Status
from ..receipts import looks
from ..store import store
from ..store.heartbeats import note_alive
from ..words import CAUSES, PAUSES, Tone, quoted
from .arguments import positive_count, positive_seconds
from .console import EXIT_OK, Console, Subcommand, duration, in_english
from .lane_pool import LanePool, report, stopped_by_signals

MIN_LOOK_SECONDS = 1.0
"""Seconds between two polls while there is something to do."""
MAX_LOOK_SECONDS = 3.0
"""Seconds between two polls when idle. A new message waits at most this long before it is noticed."""
SWEEP_SECONDS = 15.0
"""Seconds between two polls that also settle what was lost, as often as beat does."""
STATISTICS_SECONDS = 60.0
PURGE_SECONDS = 3600.0


def _add_threads_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threads",
        type=positive_count,
        default=8,
        metavar="N",
        help="maximum number of concurrent calls to the gateway, at most one per license (default: %(default)s)",
    )


def _run(console: Console, options: dict[str, Any]) -> int:
    _import_before_threads()
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


def _import_before_threads() -> None:
    """Import in the main thread what every thread of the pool needs.

    Each thread allocates from its own heap: a module that several threads import at the same time is spread over their
    heaps, and takes more memory for the lifetime of the process.
    """
    from cryptography import fernet  # noqa: F401 - decrypts the API keys

    with contextlib.suppress(ImproperlyConfigured, ImportError):  # raised again where the gateway is needed
        load_gateway_class()


class _Loop:
    """The main loop: polls the database, starts what is due in the pool, and waits until the next poll."""

    def __init__(self, pool: LanePool) -> None:
        self.pool = pool
        self.look_seconds = MIN_LOOK_SECONDS
        self.next_look = self.next_sweep = self.next_statistics = self.next_purge = 0.0

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
                self.pool.start_job("looking for missing receipts", self._look_for_missing)
                self.next_purge = now + PURGE_SECONDS
            self.pool.wait(self.next_look - time.monotonic())

    def _look(self) -> None:
        """Poll once: start the lanes that a sweep finds, and the processing of due webhook events."""
        note_alive("run")
        try:
            swept = self._sweep_or_look()
            found = self.pool.start(swept.license_ids)
            if swept.has_events:
                found += 1
                self.pool.start_job("processing webhooks", self._process_webhooks)
        except (DatabaseError, InterfaceError) as error:
            report(error, "looking for due messages")
            # The connection may be broken; the next poll opens a new one.
            connections.close_all()
            found = 0
        is_busy = found or self.pool.is_driving()
        self.look_seconds = MIN_LOOK_SECONDS if is_busy else min(self.look_seconds * 1.25, MAX_LOOK_SECONDS)

    def _sweep_or_look(self) -> Swept:
        now = time.monotonic()
        if now < self.next_sweep:
            return look(self.pool.license_ids())
        self.next_sweep = now + SWEEP_SECONDS
        return sweep()

    def _look_for_missing(self) -> None:
        looks.look_regularly(should_stop=self.pool.is_stopping)

    def _process_webhooks(self) -> None:
        # Imported here, because a site whose webhook is not registered never needs it.
        from ..webhooks import process_due_events

        process_due_events(should_stop=self.pool.is_stopping)


_ROUND_LOOK_SECONDS = 1.0
_NOW = DatabaseNow()


def _add_dispatch_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seconds",
        type=positive_seconds,
        default=50.0,
        help="maximum duration of the round; the next round continues (default: %(default).0f)",
    )
    _add_threads_argument(parser)


def _dispatch(console: Console, options: dict[str, Any]) -> int:
    from ..webhooks import process_due_events

    until = time.monotonic() + options["seconds"]
    note_alive("dispatch")
    pool = LanePool(options["threads"])
    with stopped_by_signals(pool, is_guest=True):
        try:
            events = process_due_events(should_stop=lambda: pool.is_stopping() or time.monotonic() >= until)
            _drive_until_done(pool, until)
            statistics.roll_up()
            looks.look_regularly(should_stop=pool.is_stopping)
        finally:
            pool.close()
    waiting = OutboundMessage.objects.filter(status=Status.QUEUED).count()
    found = _why_waiting() if waiting else []
    console.document(
        {
            "attempts": pool.attempts,
            "webhook_events": events,
            "waiting": waiting,
            "why_waiting": [asdict(why) for why in found],
        }
    )
    console.report(
        f"Sends attempted: {pool.attempts}. Webhook events processed: {events}. Messages waiting: {waiting}."
    )
    for why in found:
        (console.say if why.is_trouble else console.report)(f"  {why}")
    return EXIT_OK


def _drive_until_done(pool: LanePool, until: float) -> None:
    while not pool.is_stopping() and time.monotonic() < until:
        pool.start(sweep().license_ids)
        if pool.is_driving():
            wait = _ROUND_LOOK_SECONDS
        else:
            # Nothing is driven. Wait for the next send that the pace allows, unless it is after the end of the round.
            paced = _seconds_until_next_send()
            if paced is None or time.monotonic() + paced >= until:
                return
            wait = paced
        pool.wait(min(wait, until - time.monotonic()))


def _seconds_until_next_send() -> float | None:
    """Return the seconds until the pace allows the next send of any lane with a due message; None if there is none.

    It is at least 0.05, so that the caller's loop does not spin.
    """
    waits: list[float] = []
    for license_ids in store().queued_license_ids():
        paced = Lane.objects.startable().free().filter(pk__in=license_ids, next_send_at__isnull=False)
        found = {pk: (next_send_at, now) for pk, next_send_at, now in paced.values_list("pk", "next_send_at", _NOW)}
        for license_id in store().due_license_ids(found):
            next_send_at, now = found[license_id]
            waits.append((next_send_at - now).total_seconds())
    return max(min(waits), 0.05) if waits else None


def _add_purge_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the retention is a setting and not an argument, so that beat and people delete the same rows."""


def _purge(console: Console, options: dict[str, Any]) -> int:
    # On a site that runs from cron, nothing else may have counted the rows that are deleted now.
    statistics.roll_up()
    looks.look_regularly()
    purged = retention.purge()
    console.document(asdict(purged))
    console.report(
        f"Deleted: messages {purged.messages}, webhook events {purged.events}, hours of statistics {purged.statistics}."
    )
    if purged.bodies:
        console.report(f"Dropped: bodies of {purged.bodies} webhook events from people who were never written to.")
    return EXIT_OK


MAX_LICENSES = 20
"""Maximum number of licenses that a round reports: it runs every minute, and each license costs some queries."""


@dataclass(frozen=True)
class Waiting:
    """The waiting messages of one license, and why they wait.

    `license` is the license's name, empty if no license is chosen or it was deleted. `is_trouble` is True if the
    obstacle neither ends by itself nor was set up by a person.
    """

    license: str
    count: int | str
    why: str
    is_trouble: bool = False

    def __str__(self) -> str:
        return f"{self.count} {f'of {self.license}' if self.license else 'without a license'}: {self.why}"


def _why_waiting() -> list[Waiting]:
    """Return why messages wait, for at most `MAX_LICENSES` licenses, and for messages without a license."""
    found = list(_without_license())
    license_ids = list(islice(chain.from_iterable(store().queued_license_ids()), MAX_LICENSES))
    licenses = License.objects.in_bulk(license_ids)
    lanes = Lane.objects.in_bulk(license_ids)
    for license_id in license_ids:
        if (license_ := licenses.get(license_id)) is None:
            found.append(Waiting("", _queued(license_id).count(), _GONE, is_trouble=True))
            continue
        why, is_trouble = _why(license_, lanes.get(license_id))
        found.append(Waiting(license_.name, _queued(license_id).count(), why, is_trouble))
    return [waiting for waiting in found if waiting.count]


_GONE = "their license was deleted while they were being stored; see manage.py kpwa doctor"


def _without_license() -> Iterator[Waiting]:
    if (found := unassigned()) is not None:
        why = f"{in_english(found.figures['why'])}. {found.command}"
        yield Waiting("", in_english(found.figures["count"]), why, is_trouble=True)


def _queued(license_id: int) -> Any:
    return OutboundMessage.objects.filter(license_id=license_id, status=Status.QUEUED).order_by()


def _why(license_: License, lane: Lane | None) -> tuple[str, bool]:
    """Return why the license's messages wait, and True if that is trouble (see `Waiting`)."""
    name = quoted(license_.name)
    if not license_.is_active:
        return "the license is not active", False
    if not license_.api_key_ciphertext:
        return f"there is no API key; enter it: manage.py kpwa licenses set-key {name}", True
    first = _queued(license_.pk).order_by("due_at").annotate(looked_at=DatabaseNow()).first()
    if first is None:
        return "", False
    now: datetime = first.looked_at
    if lane is not None and lane.pause_reason and not lane.has_new_key:
        looked_at = "" if lane.paused_until is None else f"; checked again {_when(lane.paused_until, now)}"
        pause = PAUSES[lane.pause_reason]
        return f"{in_english(pause.why)}{looked_at}", pause.tone == Tone.BAD
    if first.due_at > now:
        return f"{_not_due(first)}; due {_when(first.due_at, now)}", False
    if lane is not None and lane.lease_expires_at is not None and lane.lease_expires_at > now:
        return "another process sends for this license", False
    if lane is not None and lane.next_send_at is not None and lane.next_send_at > now:
        return f"the pace of the license; the next goes out {_when(lane.next_send_at, now)}", False
    return "not reached in this round; the next one continues", False


def _not_due(first: OutboundMessage) -> str:
    if first.is_put_off:
        return f"put off: {in_english(CAUSES[first.reason].label)}"
    if first.attempts_made:
        said = f" ({first.reason_words or first.reason})" if first.reason else ""
        return f"the last attempt sent nothing{said}, and it is tried again"
    return "lines may still be added to its sale" if first.needs_rendering else "it is scheduled for later"


def _when(at: datetime, now: datetime) -> str:
    return f"in {duration(max((at - now).total_seconds(), 1))}" if at > now else "with the next round"


RUN = Subcommand(
    "send, process webhooks and do housekeeping in one process, without Celery", _add_threads_argument, _run
)
DISPATCH = Subcommand("send due messages once, for cron", _add_dispatch_arguments, _dispatch)
PURGE = Subcommand("delete what is older than KPWA['RETENTION_DAYS'] allows", _add_purge_arguments, _purge)
