"""`kpwa send`, and what it shares with `kpwa send-group`: puts a message into the outbox, and can wait for it."""

from __future__ import annotations

import argparse
import time
from typing import Any

from django.utils import translation

from .. import broker, outbox
from ..models import ARRIVED, UNSETTLED, OutboundMessage
from ..words import STATUSES, reason_row
from .choosing import add_license_argument, chosen_license, positive_seconds, text_argument
from .console import EXIT_NO, EXIT_OK, Console

HELP = "send a message to a number"

_POLL_SECONDS = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("number", help="the phone number, as people write it: 0812…, +62 812…")
    add_message_arguments(parser)


def run(console: Console, options: dict[str, Any]) -> int:
    message = outbox.send_message(options["number"], **message_arguments(console, options))
    return show_message(console, message, options)


def add_message_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", nargs="?", help="the text; - reads it from standard input; not needed with --image")
    parser.add_argument("--image", metavar="URL", help="the http(s) URL from which the gateway fetches the image")
    parser.add_argument("--key", metavar="KEY", help="idempotency key; a key that was used before sends nothing")
    parser.add_argument("--wait", action="store_true", help="wait until the message has been sent, or cannot be")
    parser.add_argument(
        "--timeout",
        type=positive_seconds,
        default=120.0,
        metavar="SECONDS",
        help="how long --wait waits (default: %(default).0f)",
    )
    add_license_argument(parser)


def message_arguments(console: Console, options: dict[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments for `outbox.send_message()` or `outbox.send_group_message()`.

    Raises:
        LicenseChoiceError: No license can be chosen.
    """
    return {
        "text": text_argument(console, options["text"]),
        "image_url": options["image"],
        "license": chosen_license(options),
        "idempotency_key": options["key"],
    }


def show_message(console: Console, message: OutboundMessage, options: dict[str, Any]) -> int:
    """Show the status of `message`, after waiting for it if `--wait` was given, and return the exit code.

    The exit code is `EXIT_NO` if the message was not sent, or not within the `--timeout` of `--wait`.
    """
    if options["wait"]:
        _wait_until_settled(message, options["timeout"])
    console.document(
        {
            "id": message.pk,
            "uuid": message.uuid,
            "license": message.license.name if message.license else None,
            "recipient": message.masked_recipient,
            "status": message.status,
            "reason": message.reason,
            "reason_words": message.reason_words,
        }
    )
    reason = ": ".join(part for part in (message.reason, message.reason_words) if part)
    shown = f"{message.status} ({reason})" if reason else message.status
    console.say(f"Message {message.uuid} to {message.masked_recipient}: {shown}")
    if message.status in ARRIVED:
        return EXIT_OK
    row = STATUSES[message.status]
    if message.status not in UNSETTLED:
        with translation.override("en"):
            said = " ".join(filter(None, (str(row.meaning), reason_row(message).explained)))
        console.say(f"{said} {row.command.format(id=message.pk)}")
        return EXIT_NO
    if options["wait"]:
        console.say(f"It is still waiting. {row.command}")
        return EXIT_NO
    if not broker.is_configured():
        console.say("This site has no broker: `manage.py kpwa run` or `manage.py kpwa dispatch` sends it.")
    return EXIT_OK


def _wait_until_settled(message: OutboundMessage, seconds: float) -> None:
    until = time.monotonic() + seconds
    while message.status in UNSETTLED and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
        message.refresh_from_db()
