"""`kpwa check-number`: asks the gateway whether a number has WhatsApp. The exit code is 1 if it has not."""

from __future__ import annotations

import argparse
from typing import Any

from .. import license_actions, phone
from .choosing import add_license_argument, chosen_license
from .console import EXIT_NO, EXIT_OK, Console

HELP = "ask whether a number has WhatsApp"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("number", help="the phone number, as people write it: 0812…, +62 812…")
    add_license_argument(parser)


def run(console: Console, options: dict[str, Any]) -> int:
    number = phone.parse(options["number"])
    license_ = chosen_license(options)
    check = license_actions.check_number(license_, number)
    masked = phone.mask(number)
    console.document({"license": license_.name, "number": masked, "is_registered": check.is_registered})
    console.say(f"{masked} has WhatsApp." if check.is_registered else f"{masked} has no WhatsApp.")
    return EXIT_OK if check.is_registered else EXIT_NO
