"""`kpwa alerts`: lists the open alerts, and sends a test notification."""

from __future__ import annotations

import argparse
from typing import Any

from django.conf import settings
from django.utils import translation

from .. import alerts
from ..models import Alert
from .console import EXIT_NO, EXIT_OK, Console, Subcommand

TRY_SECONDS = 15.0


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        nargs="?",
        choices=("list", "test"),
        default="list",
        help="list the open alerts (the default), or send a test notification by all ways",
    )


def _run(console: Console, options: dict[str, Any]) -> int:
    return _test(console) if options["what"] == "test" else _list(console)


def _list(console: Console) -> int:
    rows = Alert.objects.exclude(opened_at=None).filter(closed_at=None).select_related("license").order_by("since")
    shown = [(row.code, row.license.name if row.license else "", row.since, row.opened_at) for row in rows]
    console.document([dict(zip(("code", "license", "since", "opened"), row, strict=True)) for row in shown])
    if shown:
        console.table(("ALERT", "LICENSE", "SINCE", "TOLD"), shown)
    else:
        console.report("Nothing is open.")
    return EXIT_OK


def _test(console: Console) -> int:
    # The notification is in the site's language, which its recipients read; the command's own output is in English.
    with translation.override(settings.LANGUAGE_CODE):
        ways = alerts.try_ways(TRY_SECONDS)
    told = {way.name: way.failure.in_english if way.failure is not None else "" for way in ways}
    console.document([{"way": name, "problem": problem or None} for name, problem in told.items()])
    for name, problem in told.items():
        console.say(f"[{'PROBLEM' if problem else 'ok':^7}] {name}: {problem or 'told'}")
    if not ways:
        console.say("Nobody is notified: set KPWA['ALERT_EMAILS'] or KPWA['ALERT_URLS']; see docs/monitoring.md.")
    return EXIT_OK if ways and not any(told.values()) else EXIT_NO


ALERTS = Subcommand("list the open alerts, or send a test notification", _add_arguments, _run)
