"""The subcommands of `manage.py kpwa`. Each is a `Subcommand` in the module of its subject.

`run()` returns the exit code: 0 for success, 1 if the answer is no or the action was not possible, 2 for wrong usage,
3 if the gateway failed.
"""

from __future__ import annotations

from typing import Any

from .alerts import ALERTS
from .console import EXIT_GATEWAY, EXIT_NO, EXIT_OK, EXIT_USAGE, Console, Subcommand, as_command_error
from .doctor import DOCTOR
from .groups import GROUPS
from .licenses import LICENSES
from .linking import CHECK_NUMBER, QR, RESTART, STATUS
from .messages import MESSAGES, SEND, SEND_GROUP
from .missing import MISSING
from .recipients import EXPORT, FORGET, LIFT_STOP
from .run import DISPATCH, PURGE, RUN
from .sandbox import SANDBOX
from .webhook import WEBHOOK

__all__ = ["EXIT_GATEWAY", "EXIT_NO", "EXIT_OK", "EXIT_USAGE", "SUBCOMMANDS", "Console", "Subcommand", "run_subcommand"]

SUBCOMMANDS: dict[str, Subcommand] = {
    "doctor": DOCTOR,
    "alerts": ALERTS,
    "status": STATUS,
    "qr": QR,
    "restart": RESTART,
    "check-number": CHECK_NUMBER,
    "send": SEND,
    "send-group": SEND_GROUP,
    "messages": MESSAGES,
    "missing": MISSING,
    "lift-stop": LIFT_STOP,
    "forget": FORGET,
    "export": EXPORT,
    "licenses": LICENSES,
    "groups": GROUPS,
    "webhook": WEBHOOK,
    "run": RUN,
    "dispatch": DISPATCH,
    "purge": PURGE,
    "sandbox": SANDBOX,
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
