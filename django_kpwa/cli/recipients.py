"""`kpwa lift-stop`: what a person decides about a number that must not be written to."""

from __future__ import annotations

import argparse
from typing import Any

from django.views.decorators.debug import sensitive_variables

from .. import phone
from ..store import store
from .console import EXIT_NO, EXIT_OK, Console, Subcommand


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


LIFT_STOP = Subcommand("write to a customer again who had asked to stop", _add_number_argument, _lift_stop)
