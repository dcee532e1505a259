"""Subcommands that call the gateway for one license: `kpwa status`, `qr`, `restart` and `check-number`.

Whoever scans the QR code controls the account, so it is only written to standard output, or to a file that only its
owner can read. The exit code of `status` is 0 if WhatsApp is linked, else 1, and of `check-number` 0 if the number has
WhatsApp.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from .. import license_actions, phone
from ..exceptions import GatewayError
from ..gateway import LoginQr, ServiceStatus, SessionStatus, session_trouble_of
from ..models import Lane, License, OutboundMessage, PauseReason, Status
from ..phone import mask
from ..words import PAUSES, TROUBLES, quoted
from .arguments import add_license_argument, chosen_license
from .console import EXIT_NO, EXIT_OK, Console, Subcommand, in_english, moment
from .licenses import why_paused

SESSION_WORDS = {
    SessionStatus.CONNECTED: "linked",
    SessionStatus.QR: "not linked: scan the code of `manage.py kpwa qr`",
    SessionStatus.UNKNOWN: "unknown",
}


def _status(console: Console, options: dict[str, Any]) -> int:
    license_ = chosen_license(options)
    status = license_actions.check_status(license_)
    _show_status(console, license_, status)
    return EXIT_OK if status.session_status == SessionStatus.CONNECTED else EXIT_NO


def _show_status(console: Console, license_: License, status: ServiceStatus) -> None:
    """Write the gateway's answer, the reason of a pause, and how many messages wait or are in doubt."""
    lane = Lane.objects.get(pk=license_.pk)
    messages = OutboundMessage.objects.filter(license=license_)
    waiting = messages.filter(status=Status.QUEUED).count()
    undecided = messages.undecided().count()
    console.document(
        {
            "license": license_.name,
            "session_status": status.session_status.value,
            "gateway_word": status.word,
            "linked_number": mask(lane.linked_number),
            "confirmed_number": mask(lane.confirmed_number),
            "is_active": license_.is_active,
            "pause_reason": lane.pause_reason,
            "paused_until": lane.paused_until,
            "last_error": lane.last_error,
            "last_error_at": lane.last_error_at,
            "waiting": waiting,
            "in_doubt": undecided,
        }
    )
    word = f" (the gateway says {status.word!r})" if status.session_status == SessionStatus.UNKNOWN else ""
    number = f", {mask(lane.linked_number)}" if lane.linked_number else ""
    console.say(f"{license_.name}: {SESSION_WORDS[status.session_status]}{word}{number}")
    trouble = session_trouble_of(status.word)
    if trouble is not None:
        row = TROUBLES[trouble]
        console.say(f"{in_english(row.meaning)} {row.command.format(name=quoted(license_.name))}")
    if lane.pause_reason == PauseReason.NUMBER_CHANGED:
        console.say(f"Nothing is sent: {why_paused(license_, lane)}")
    elif lane.pause_reason != PauseReason.NONE:
        until = f"; checked again at {moment(lane.paused_until)}" if lane.paused_until else ""
        console.say(f"Nothing is sent: {in_english(PAUSES[lane.pause_reason].why)}{until}.")
    if lane.last_error:
        console.say(f"Last error, at {moment(lane.last_error_at)}: {lane.last_error}")
    if not license_.is_active:
        console.say("The license is not active: its messages are held.")
    console.say(f"{waiting} waiting, {undecided} in doubt.")


def _add_qr_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", metavar="FILE", type=Path, help="save it as a PNG that only you can read")
    parser.add_argument("--once", action="store_true", help="show one code and do not wait for the scan")
    add_license_argument(parser)


def _qr(console: Console, options: dict[str, Any]) -> int:
    return QrCodes(console, chosen_license(options), options["output"]).show(once=options["once"])


class QrCodes:
    """Shows the codes that link a license, one after the other until one is scanned."""

    REFRESH_SECONDS = 20.0
    """Seconds until a new code is requested; WhatsApp changes its code about this often."""
    ASK_SECONDS = 2.0
    """Seconds between two status checks while a code is shown."""

    def __init__(self, console: Console, license_: License, output: Path | None) -> None:
        self._console, self._license, self._output = console, license_, output

    def show(self, *, once: bool) -> int:
        """Show the codes, or a single one and do not wait for the scan; returns the exit code."""
        shown_before = False
        while True:
            try:
                qr = license_actions.get_login_qr(self._license)
            except GatewayError:
                if not shown_before:
                    raise
                # Only an error of the first request is reported. Later requests are retried, so that a short outage of
                # the gateway does not end the command while somebody holds the phone.
                time.sleep(self.ASK_SECONDS)
                continue
            if qr is None:
                return self._linked()
            self._show(qr)
            shown_before = True
            if once:
                return EXIT_OK
            if self._is_scanned():
                return self._linked()

    def _show(self, qr: LoginQr) -> None:
        console, name = self._console, self._license.name
        if self._output is not None:
            _save(qr, self._output)
            console.document({"license": name, "linked": False, "output": str(self._output)})
            console.say(f"Saved to {self._output}. Scan it with WhatsApp: Linked devices, Link a device.")
            return
        console.document({"license": name, "linked": False, "qr": qr.data_uri()})
        if not console.as_json:
            drawing = qr.terminal()
            console.clear_screen()
            console.draw(drawing)
            console.say(f"Scan it with the phone of {name}: WhatsApp, Linked devices, Link a device.")

    def _is_scanned(self) -> bool:
        until = time.monotonic() + self.REFRESH_SECONDS
        while time.monotonic() < until:
            time.sleep(self.ASK_SECONDS)
            try:
                if license_actions.check_status(self._license).session_status == SessionStatus.CONNECTED:
                    return True
            except GatewayError:
                continue
        return False

    def _linked(self) -> int:
        self._console.document({"license": self._license.name, "linked": True})
        self._console.say(f"{self._license.name} is linked.")
        return EXIT_OK


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


def _restart(console: Console, options: dict[str, Any]) -> int:
    license_ = chosen_license(options)
    status = license_actions.restart(license_)
    console.say("Restarted.")
    _show_status(console, license_, status)
    return EXIT_OK


def _add_check_number_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("number", help="the phone number, as people write it: 0812…, +62 812…")
    add_license_argument(parser)


def _check_number(console: Console, options: dict[str, Any]) -> int:
    number = phone.parse(options["number"])
    license_ = chosen_license(options)
    check = license_actions.check_number(license_, number)
    masked = phone.mask(number)
    console.document({"license": license_.name, "number": masked, "is_registered": check.is_registered})
    console.say(f"{masked} has WhatsApp." if check.is_registered else f"{masked} has no WhatsApp.")
    return EXIT_OK if check.is_registered else EXIT_NO


STATUS = Subcommand("ask the gateway whether WhatsApp is linked", add_license_argument, _status)
QR = Subcommand("show the QR code that links WhatsApp, until it is scanned", _add_qr_arguments, _qr)
RESTART = Subcommand("restart the license's WhatsApp service at the gateway", add_license_argument, _restart)
CHECK_NUMBER = Subcommand("ask whether a number has WhatsApp", _add_check_number_arguments, _check_number)
