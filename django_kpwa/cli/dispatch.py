"""`kpwa dispatch`: one round for cron. It sends due messages at each license's pace and processes webhook events.

    * * * * *  python manage.py kpwa dispatch

Rounds may overlap, and may run beside workers: a lane that is being driven is skipped. With `-v 0` a round reports only
problems that do not resolve by themselves, because cron mails all output.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from typing import Any

from .. import webhooks
from ..dispatch import sweep
from ..models import DatabaseNow, Lane, OutboundMessage, Status
from ..store import store
from .choosing import positive_seconds
from .console import EXIT_OK, Console
from .driving import LanePool, stopped_by_signals
from .run import add_threads_argument
from .waiting import why_waiting

HELP = "send due messages once, for cron"

_LOOK_SECONDS = 1.0
_NOW = DatabaseNow()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seconds",
        type=positive_seconds,
        default=50.0,
        help="maximum duration of the round; the next round continues (default: %(default).0f)",
    )
    add_threads_argument(parser)


def run(console: Console, options: dict[str, Any]) -> int:
    until = time.monotonic() + options["seconds"]
    pool = LanePool(options["threads"])
    with stopped_by_signals(pool):
        try:
            events = webhooks.process_due_events(should_stop=lambda: pool.is_stopping() or time.monotonic() >= until)
            _drive_until_done(pool, until)
        finally:
            pool.close()
    waiting = OutboundMessage.objects.filter(status=Status.QUEUED).count()
    found = why_waiting() if waiting else []
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
            wait = _LOOK_SECONDS
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
