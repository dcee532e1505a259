"""Arguments that several subcommands share, and functions that resolve them: to a license, a message, a time."""

from __future__ import annotations

import argparse
import re
import uuid
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from django.core.management.base import CommandParser
from django.db.models.expressions import CombinedExpression
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from ..conf import kpwa_settings
from ..exceptions import LicenseChoiceError
from ..models import License, OutboundMessage, in_seconds
from ..outbox import choose_license
from .console import Console

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@cache  # parsers only read from their parents, and there are dozens of parsers
def common_options(*, with_json: bool = True, is_nested: bool = False) -> CommandParser:
    """Return a parent parser with the options that every subcommand takes: `--json`, and Django's own.

    Without Django's options in each subparser, they would only be accepted before the subcommand's name.

    Args:
        with_json: False for subcommands that have no JSON output.
        is_nested: True for the parser of an action. A nested parser must not set defaults: they would overwrite what
            the parser above it has read.
    """
    common = CommandParser(add_help=False)
    if with_json:
        common.add_argument(
            "--json",
            action="store_true",
            default=argparse.SUPPRESS if is_nested else False,
            help="write one JSON document, for scripts",
        )
    for option in ("--settings", "--pythonpath"):
        common.add_argument(option, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    for option in ("--traceback", "--no-color", "--force-color"):
        common.add_argument(option, action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    common.add_argument("-v", "--verbosity", type=int, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return common


def add_action(actions: Any, name: str, explained: str) -> argparse.ArgumentParser:
    """Add an action to a subcommand's subparsers and return the action's parser.

    Args:
        explained: One line for the help. It begins with a verb in lower case.
    """
    description = f"{explained[0].upper()}{explained[1:]}."
    parents = [common_options(is_nested=True)]
    parser: argparse.ArgumentParser = actions.add_parser(name, help=explained, description=description, parents=parents)
    return parser


def add_license_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--license",
        metavar="NAME",
        help="the license's name (default: the one that sends messages for which none is given)",
    )


def chosen_license(options: dict[str, Any]) -> License:
    """Return the license that a subcommand works on.

    This is the license given by `--license`, else the one for messages without a license, else the only license.

    Raises:
        LicenseChoiceError: No such license exists, or none can be chosen.
    """
    if name := options["license"]:
        return license_named(name)
    try:
        return choose_license()
    except LicenseChoiceError as error:
        first_two = list(License.objects.filter(archived_at=None).order_by("pk")[:2])
        if len(first_two) == 1 and not kpwa_settings().DEFAULT_LICENSE:
            return first_two[0]  # it may be inactive: it sends nothing, but it can be inspected and repaired
        raise LicenseChoiceError(f"{error} Or name one with --license. Known: {_known()}.") from None


def license_named(name: str) -> License:
    """Return the license called `name`.

    Raises:
        LicenseChoiceError: There is no such license; the message lists the names that exist.
    """
    found = License.objects.filter(name=name).first()
    if found is None:
        raise LicenseChoiceError(f"There is no license {name!r}. Known: {_known()}.")
    return found


def _known() -> str:
    return ", ".join(License.objects.values_list("name", flat=True)[:20]) or "none yet"


def message_with_id(given: str) -> OutboundMessage | None:
    """Return the message whose primary key or UUID is `given`; None if there is none."""
    messages = OutboundMessage.objects.select_related("license")
    if given.isascii() and given.isdecimal() and len(given) <= 18:
        return messages.filter(pk=int(given)).first()
    try:
        return messages.filter(uuid=uuid.UUID(given)).first()
    except ValueError:
        return None


def text_argument(console: Console, given: str | None) -> str:
    """Return a message's text: `given`, or standard input without its final line break if `given` is `-`."""
    if given == "-":
        return console.stdin.read().rstrip("\r\n")
    return given or ""


def since(given: str) -> datetime | CombinedExpression:
    """Parse an argument: `90s`, `30m`, `2h` or `3d` ago, or a date or time (`2016-11-05`, `2016-11-05 09:30`).

    Returns:
        An aware datetime (naive input is in the site's time zone), or for a duration an expression of the database's
        clock, because the times that are compared with it were set by that clock.

    Raises:
        argparse.ArgumentTypeError: `given` is neither.
    """
    ago = _ago(given)
    return point_in_time(given) if ago is None else in_seconds(-ago.total_seconds())


def point_in_time(given: str) -> datetime:
    """Parse the same argument for comparison with the site's own times, which this process's clock sets.

    Returns an aware datetime. Raises `argparse.ArgumentTypeError`.
    """
    ago = _ago(given)
    if ago is not None:
        return timezone.now() - ago
    try:
        day = parse_date(given)
        read = datetime(day.year, day.month, day.day) if day else parse_datetime(given)
    except ValueError:
        read = None
    if read is None:
        raise argparse.ArgumentTypeError(
            f"{given!r} is neither a duration like 30m, 2h or 3d nor a date like 2016-11-05."
        )
    return timezone.make_aware(read) if timezone.is_naive(read) else read


def _ago(given: str) -> timedelta | None:
    ago = re.fullmatch(r"(\d{1,6})([smhd])", given)
    return timedelta(**{_UNITS[ago[2]]: int(ago[1])}) if ago else None


def positive_seconds(given: str) -> float:
    """Parse an argument: a number of seconds above 0. Raises `argparse.ArgumentTypeError` for anything else."""
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise argparse.ArgumentTypeError(f"{given!r} is not a number of seconds above 0.")
    return seconds


def positive_count(given: str) -> int:
    """Parse an argument: a whole number from 1 to 1,000,000. Raises `argparse.ArgumentTypeError` for anything else."""
    if not (given.isascii() and given.isdecimal() and 0 < int(given) <= 1_000_000):
        raise argparse.ArgumentTypeError(f"{given!r} is not a whole number above 0.")
    return int(given)
