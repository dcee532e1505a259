"""`kpwa qr`: draws the login QR code, a fresh one every 20 seconds, until it has been scanned.

Whoever scans the code controls the account, so it is only written to standard output, or to a file that only its owner
can read.
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
"""Seconds until a new code is requested; WhatsApp changes its code about this often."""
ASK_SECONDS = 2.0
"""Seconds between two status checks while a code is shown."""


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
            # Only the first request reports an error. A later one is repeated, so that a short outage of the gateway
            # does not end the command while somebody holds the phone.
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
    """Write the image to a temporary file and rename it to `output`.

    So `output` is never incomplete, and never keeps the more open permissions of a file that existed before: `mkstemp`
    creates files that only their owner can read.
    """
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
