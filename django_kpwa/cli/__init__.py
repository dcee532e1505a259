"""The subcommands of `manage.py kpwa`: one module per subcommand, each with `HELP`, `add_arguments()` and `run()`.

`run()` returns the exit code: 0 for success, 1 if the answer is no or the action was not possible, 2 for wrong usage,
3 if the gateway failed.
"""

from __future__ import annotations

import argparse
from typing import Any, Protocol

from . import (
    check_number,
    dispatch,
    doctor,
    licenses,
    messages,
    purge,
    qr,
    restart,
    run,
    sandbox,
    send,
    send_group,
    status,
    webhook,
)
from .console import EXIT_GATEWAY, EXIT_NO, EXIT_OK, EXIT_USAGE, Console
from .errors import as_command_error

__all__ = ["EXIT_GATEWAY", "EXIT_NO", "EXIT_OK", "EXIT_USAGE", "SUBCOMMANDS", "Console", "Subcommand", "run_subcommand"]


class Subcommand(Protocol):
    """The interface of a subcommand's module. `run()` need not catch exceptions: `run_subcommand()` explains them."""

    HELP: str
    """One line for the list of subcommands. It begins with a verb in lower case."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, console: Console, options: dict[str, Any]) -> int: ...


SUBCOMMANDS: dict[str, Subcommand] = {
    "doctor": doctor,
    "status": status,
    "qr": qr,
    "restart": restart,
    "check-number": check_number,
    "send": send,
    "send-group": send_group,
    "messages": messages,
    "licenses": licenses,
    "webhook": webhook,
    "run": run,
    "dispatch": dispatch,
    "purge": purge,
    "sandbox": sandbox,
}


def run_subcommand(name: str, console: Console, options: dict[str, Any]) -> int:
    """Run the subcommand `name` and return its exit code.

    Raises:
        CommandError: The subcommand failed for a known reason. The message is one line without secrets, and
            `returncode` is the exit code. Errors for which `as_command_error()` has no text are raised as they are.
    """
    try:
        return SUBCOMMANDS[name].run(console, options)
    except Exception as error:
        explained = as_command_error(error)
        if explained is None:
            raise
        raise explained from error
