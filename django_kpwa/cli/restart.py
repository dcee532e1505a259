"""`kpwa restart`: restarts the license's service at the gateway, then shows its status."""

from __future__ import annotations

import argparse
from typing import Any

from .. import license_actions
from .choosing import add_license_argument, chosen_license
from .console import EXIT_OK, Console
from .status import show_status

HELP = "restart the license's WhatsApp service at the gateway"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_license_argument(parser)


def run(console: Console, options: dict[str, Any]) -> int:
    license_ = chosen_license(options)
    status = license_actions.restart(license_)
    console.say("Restarted.")
    show_status(console, license_, status)
    return EXIT_OK
