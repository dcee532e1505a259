"""`kpwa send-group`: puts a message to a group into the outbox, and can wait for it."""

from __future__ import annotations

import argparse
from typing import Any

from .. import outbox
from .console import Console
from .send import add_message_arguments, message_arguments, show_message

HELP = "send a message to a group"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("group", help="the group's name, as WhatsApp shows it")
    add_message_arguments(parser)


def run(console: Console, options: dict[str, Any]) -> int:
    message = outbox.send_group_message(options["group"], **message_arguments(console, options))
    return show_message(console, message, options)
