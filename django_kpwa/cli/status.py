"""`kpwa status`: asks the gateway whether WhatsApp is linked, and counts waiting messages.

The exit code is 0 if WhatsApp is linked, else 1.
"""

from __future__ import annotations

import argparse
from typing import Any

from ..gateway import ServiceStatus, SessionStatus
from ..license_actions import check_status
from ..models import Lane, License, OutboundMessage, PauseReason, Status
from ..phone import mask
from ..words import PAUSES
from .choosing import add_license_argument, chosen_license
from .console import EXIT_NO, EXIT_OK, Console, in_english, moment
from .licenses import why_paused

HELP = "ask the gateway whether WhatsApp is linked"

IN_WORDS = {
    SessionStatus.CONNECTED: "linked",
    SessionStatus.QR: "not linked: scan the code of `manage.py kpwa qr`",
    SessionStatus.UNKNOWN: "unknown",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_license_argument(parser)


def run(console: Console, options: dict[str, Any]) -> int:
    license_ = chosen_license(options)
    status = check_status(license_)
    show_status(console, license_, status)
    return EXIT_OK if status.session_status == SessionStatus.CONNECTED else EXIT_NO


def show_status(console: Console, license_: License, status: ServiceStatus) -> None:
    """Write the gateway's answer, why the license is paused if it is, and how many messages wait or are in doubt."""
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
    console.say(f"{license_.name}: {IN_WORDS[status.session_status]}{word}{number}")
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
