"""`manage.py demo`: parses the options; `demo.stage` runs the demo.

This process does not use the database, because the demo's processes have their own settings and database.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentTypeError
from datetime import date
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from example_project.demo.till_export import TillExportError, sales_of_export


class Command(BaseCommand):
    help = (
        "Show everything on this machine: a till, a Celery worker, and the receipts on a simulated phone. "
        "Needs no account, no broker and no database server."
    )
    requires_system_checks = []

    def add_arguments(self, parser: Any) -> None:
        sales = parser.add_mutually_exclusive_group()
        sales.add_argument(
            "--sales", type=_positive, metavar="N", help="ring up this many sales and check their receipts"
        )
        sales.add_argument("--csv", type=Path, metavar="FILE", help="ring up the sales of a till's export instead")
        parser.add_argument("--day", type=_day, help="with --csv: only the sales of this day (YYYY-MM-DD)")
        parser.add_argument(
            "--exit",
            action="store_true",
            help="exit after the sales, with code 0 only if every receipt arrived exactly once",
        )
        parser.add_argument(
            "--timeout",
            type=_positive,
            metavar="SECONDS",
            help="time limit for the sales (default: 120, plus 1 for each sale)",
        )
        parser.add_argument("--no-browser", action="store_true", help="do not open the demo page")
        parser.add_argument("--fresh", action="store_true", help="delete the state of earlier demos")
        parser.add_argument("--home", type=Path, help="folder for its state (default: $KPWA_DEMO_HOME, or var/demo)")

    def handle(self, *args: Any, **options: Any) -> None:
        if os.name == "nt":
            raise CommandError("The demo needs Linux, macOS or WSL: it manages its processes by process groups.")
        from example_project.demo import stage
        from example_project.demo.home import HomeInUseError

        has_sales = options["sales"] is not None or options["csv"] is not None
        if options["exit"] and not has_sales:
            raise CommandError("--exit needs --sales or --csv: it ends the demo after them.")
        if options["day"] and options["csv"] is None:
            raise CommandError("--day needs --csv.")
        named = options["home"] or os.environ.get("KPWA_DEMO_HOME")
        home = Path(named) if named else stage.ROOT / "var" / "demo"
        wishes = stage.Wishes(
            home=home.absolute(),
            may_take_next_home=not named,
            starts_fresh=options["fresh"],
            sales_run=tuple(_sales_arguments(options)) if has_sales else (),
            ends_after_sales=options["exit"],
            opens_browser=not (options["exit"] or options["no_browser"]) and stage.can_open_browser(),
        )
        try:
            sys.exit(stage.perform(wishes))
        except HomeInUseError as error:
            raise CommandError(str(error)) from None


def _sales_arguments(options: dict[str, Any]) -> list[str]:
    if options["csv"] is None:
        arguments = ["--sales", str(options["sales"])]
    else:
        day = options["day"] or ""
        try:
            sales_of_export(options["csv"], day)
        except TillExportError as error:
            raise CommandError(str(error)) from None
        arguments = ["--csv", str(options["csv"].absolute()), "--day", day]
    if options["timeout"] is not None:
        arguments += ["--timeout", str(options["timeout"])]
    return arguments


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) == 0:
        raise ArgumentTypeError(f"{text!r} is not a whole number above 0.")
    return int(text)


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a day like 2016-11-05.") from None
