"""`kpwa missing`: reports what became of the receipts of each class, and queues those that are missing."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import CommandError
from django.utils import timezone, translation

from ..receipts.looks import look_again
from ..receipts.missing import Found, classes, look_for_missing, send_missing
from ..words import FATES, Fate
from .arguments import point_in_time, positive_count
from .console import EXIT_NO, EXIT_OK, EXIT_USAGE, Console, Subcommand, in_english, moment

_PROGRESS_SECONDS = 5.0


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--since",
        type=point_in_time,
        default=timedelta(days=2),
        metavar="WHEN",
        help="sales since then: 30m, 2h, 3d ago, or a date like 2016-11-05 (default: 2d)",
    )
    parser.add_argument("--until", type=point_in_time, metavar="WHEN", help="sales before then (default: now)")
    parser.add_argument(
        "--receipt", default="", metavar="NAME", help="only this receipt: PaidReceipt, or sales.sale.PaidReceipt"
    )
    parser.add_argument(
        "--send", action="store_true", help="queue the receipts that are missing; nothing is sent a second time"
    )
    parser.add_argument(
        "--limit",
        type=positive_count,
        default=20,
        metavar="N",
        help=f"list at most N missing receipts, up to {Found.MAX_NAMED} (default: %(default)s)",
    )


def _run(console: Console, options: dict[str, Any]) -> int:
    until: datetime = options["until"] or timezone.now()
    since = options["since"]
    since = until - since if isinstance(since, timedelta) else since
    if since >= until:
        raise CommandError("--since is not before --until.", returncode=EXIT_USAGE)
    try:
        chosen = classes(options["receipt"])
    except LookupError as error:
        raise CommandError(str(error), returncode=EXIT_USAGE) from None
    if not chosen:
        raise CommandError(
            "No receipt class says which objects could have had a receipt: define get_candidates(since, until) in it."
        )
    find = send_missing if options["send"] else look_for_missing
    results = [find(each, since, until, tell=_progress(console)) for each in chosen]
    if options["send"]:
        for each in chosen:
            look_again(each)
    with translation.override("en"):
        console.document({"since": since, "until": until, "receipts": [_described(found) for found in results]})
        for found in results:
            _show(console, found, options["limit"], was_sent=options["send"])
    return EXIT_NO if any(found.missing or found.error for found in results) else EXIT_OK


def _progress(console: Console) -> Callable[[Found], None]:
    """Return a function that reports the progress of a long search every few seconds."""
    next_at = time.monotonic() + _PROGRESS_SECONDS

    def tell(found: Found) -> None:
        nonlocal next_at
        if time.monotonic() >= next_at:
            next_at = time.monotonic() + _PROGRESS_SECONDS
            queued = f", queued {found.queued:,}" if found.queued else ""
            console.report(
                f"{found.registration.name}: {found.looked_at:,} looked at, {found.missing:,} missing{queued} …"
            )

    return tell


def _described(found: Found) -> dict[str, Any]:
    return {
        "receipt": found.registration.label,
        "looked_at": found.looked_at,
        "counts": {fate.value: found.counts[fate] for fate in Fate},
        "missing": found.missing,
        "queued": found.queued,
        "error": found.error,
        "named": [
            {"id": named.source_id, "reference": named.reference, "fate": named.fate.value} for named in found.named
        ],
    }


def _show(console: Console, found: Found, limit: int, *, was_sent: bool) -> None:
    registration = found.registration
    console.say(f"{registration.name} ({registration.label}), {moment(found.since)} to {moment(found.until)}")
    if found.error:
        console.say(f"  get_candidates() cannot be used: {found.error}")
    rows = [(f"{count:,}".rjust(9), in_english(FATES[fate].label)) for fate in Fate if (count := found.counts[fate])]
    console.table(("    COUNT", "RECEIPT"), [*rows, (f"{found.looked_at:,}".rjust(9), "in all")])
    if found.queued:
        console.say(f"Queued now: {found.queued:,}.")
    if found.missing:
        console.say("Missing:" if not was_sent else "Still missing:")
        for named in found.named[:limit]:
            words = f" ({named.words})" if named.words else ""
            console.say(f"  {named.reference}: {in_english(FATES[named.fate].label)}{words}")
        if (more := found.missing - min(len(found.named), limit)) > 0:
            console.say(f"  … and {more:,} more")
        failures = "See WhatsApp › Receipt failures for the reason of each."
        console.say(failures if was_sent else "Queue them: the same command with --send.")
    if too_old := found.counts[Fate.TOO_OLD]:
        console.say(
            f"{too_old:,} without a receipt are older than max_age of the class, and not sent: send them one by one."
        )
    console.say()


MISSING = Subcommand("find sales whose receipt was never queued, and send what is missing", _add_arguments, _run)
