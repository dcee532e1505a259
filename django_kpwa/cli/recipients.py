"""`kpwa lift-stop`, `forget` and `export`: end the stop of one phone number, empty its data, or export them."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError
from django.views.decorators.debug import sensitive_variables

from .. import personal_data, phone
from ..store import store
from .console import EXIT_NO, EXIT_OK, EXIT_USAGE, Console, Subcommand


def _add_number_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("number", help="a phone number as people write it")


@sensitive_variables()
def _lift_stop(console: Console, options: dict[str, Any]) -> int:
    number = phone.parse(options["number"])
    lifted = store().lift_stop(number)
    console.document({"number": phone.mask(number), "lifted": lifted})
    if not lifted:
        console.say(f"{phone.mask(number)} is not stopped; nothing was changed.")
        return EXIT_NO
    console.report(
        f"{phone.mask(number)} gets messages again. Nothing was sent: `manage.py kpwa messages resend ID` sends what "
        "was cancelled."
    )
    return EXIT_OK


def _add_forget_arguments(parser: argparse.ArgumentParser) -> None:
    _add_number_argument(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")


@sensitive_variables()
def _forget(console: Console, options: dict[str, Any]) -> int:
    number = phone.parse(options["number"])
    if not options["yes"] and not _is_confirmed(console, number):
        raise CommandError("Nothing was emptied.", returncode=EXIT_NO)
    told = personal_data.forget(number)
    console.document({"number": phone.mask(number), "done": told.is_done, **asdict(told)})
    if told.cancelled:
        console.report(f"Messages cancelled, which were waiting: {told.cancelled}.")
    console.report(
        f"Emptied: {told.messages} messages, {told.attempts} attempts, {told.events} webhook events, "
        f"{told.failures} receipt failures."
    )
    if told.is_stopped:
        console.report("Its stop still holds: a keyed digest of the number is kept.")
    if told.left_messages:
        console.say(f"Messages on their way, which keep the number: {told.left_messages}. Try again in a minute.")
    if told.left_events:
        console.say(f"Webhook events that wait to be processed: {told.left_events}. Try again in a minute.")
    return EXIT_OK if told.is_done else EXIT_NO


def _is_confirmed(console: Console, number: str) -> bool:
    if console.as_json:
        raise CommandError("With --json, add --yes: there is no prompt.", returncode=EXIT_USAGE)
    console.say(f"All that is held about {phone.mask(number)} will be emptied, and cannot be brought back.")
    console.say("Type “forget” to go on:")
    return console.stdin.readline().strip().lower() == "forget"


@sensitive_variables()
def _export(console: Console, options: dict[str, Any]) -> int:
    console.as_json = True
    console.document(personal_data.held_about(phone.parse(options["number"])))
    return EXIT_OK


LIFT_STOP = Subcommand("end the stop of a customer who asks for messages again", _add_number_argument, _lift_stop)
FORGET = Subcommand(
    "erase all data about a number, except that its owner asked to stop", _add_forget_arguments, _forget
)
EXPORT = Subcommand("write all data held about a number, as JSON", _add_number_argument, _export)
