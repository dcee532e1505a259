"""`kpwa qr`: draws the login QR code, a fresh one every 20 seconds, until somebody has scanned it.

Whoever scans it owns the account: it goes to the terminal or into a file that its owner alone can read, nowhere else.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from .. import license_actions
from ..exceptions import GatewayError
from ..gateway import LoginQr, SessionStatus
from ..models import License
from .choosing import add_license_argument, chosen_license
from .console import EXIT_NO, EXIT_OK, Console

HELP = "show the QR code that links WhatsApp, until it is scanned"

REFRESH_SECONDS = 20.0
"""WhatsApp changes its code about so often."""
ASK_SECONDS = 2.0
"""How often the status is asked meanwhile."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", metavar="FILE", type=Path, help="save it as a PNG that only you can read")
    parser.add_argument("--once", action="store_true", help="show one code and do not wait for the scan")
    add_license_argument(parser)


def run(console: Console, options: dict[str, Any]) -> int:
    license_ = chosen_license(options)
    shown_before = False
    while True:
        try:
            qr = license_actions.get_login_qr(license_)
        except GatewayError:
            if not shown_before:
                raise
            # One that fails between two codes is asked again; the first says what is wrong.
            time.sleep(ASK_SECONDS)
            continue
        if qr is None:
            return _linked(console, license_)
        _show(console, license_, qr, options["output"])
        shown_before = True
        if options["once"]:
            return EXIT_OK
        if _is_scanned_within(license_, REFRESH_SECONDS):
            return _linked(console, license_)


def _show(console: Console, license_: License, qr: LoginQr, output: Path | None) -> None:
    if output is not None:
        _save(qr, output)
        console.document({"license": license_.name, "linked": False, "output": str(output)})
        console.say(f"Saved to {output}. Scan it with WhatsApp: Linked devices, Link a device.")
        return
    console.document({"license": license_.name, "linked": False, "qr": qr.data_uri()})
    if not console.as_json:
        drawing = qr.terminal()
        console.clear_screen()
        console.draw(drawing)
        console.say(f"Scan it with the phone of {license_.name}: WhatsApp, Linked devices, Link a device.")


def _save(qr: LoginQr, output: Path) -> None:
    """Write aside and rename: never half a file, and never one with the mode of the file before it."""
    image = qr.png()
    try:
        descriptor, aside = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(image)
            Path(aside).replace(output)
        except BaseException:
            Path(aside).unlink()
            raise
    except OSError as error:
        raise CommandError(f"{output} cannot be written: {error.strerror}.", returncode=EXIT_NO) from error


def _is_scanned_within(license_: License, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(ASK_SECONDS)
        try:
            if license_actions.check_status(license_).session_status == SessionStatus.CONNECTED:
                return True
        except GatewayError:
            continue
    return False


def _linked(console: Console, license_: License) -> int:
    console.document({"license": license_.name, "linked": True})
    console.say(f"{license_.name} is linked.")
    return EXIT_OK
