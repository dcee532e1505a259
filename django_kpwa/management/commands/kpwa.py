"""`manage.py kpwa`: parses the command line; the subcommands are in `django_kpwa.cli`."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from ...cli import SUBCOMMANDS, Console, run_subcommand
from ...cli.arguments import common_options

_WITHOUT_JSON = {"run", "sandbox"}
_EPILOG = """\
exit codes:
  0  done, or the answer is yes
  1  the answer is no, or it could not be done
  2  wrong usage
  3  the gateway failed or could not be reached
"""


class Command(BaseCommand):
    help = "Link WhatsApp, send messages, inspect the outbox and solve problems from the command line."
    # `doctor` reports the system checks in plain language; before every other subcommand they would be noise.
    requires_system_checks = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(
            prog_name, subcommand, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs
        )

    def add_arguments(self, parser: CommandParser) -> None:
        subparsers = parser.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", required=True)
        for name, added in SUBCOMMANDS.items():
            if name == "sandbox":
                # With this prefix no argument looks like an option, so that all arguments, including --help, are
                # passed on to the sandbox unchanged.
                added.add_arguments(subparsers.add_parser(name, help=added.help, prefix_chars="\0", add_help=False))
                continue
            common = common_options(with_json=name not in _WITHOUT_JSON)
            description = f"{added.help[0].upper()}{added.help[1:]}."
            subparser = subparsers.add_parser(name, help=added.help, description=description, parents=[common])
            added.add_arguments(subparser)

    def handle(self, *args: Any, **options: Any) -> None:
        self._write_what_the_terminal_can()
        console = Console(self.stdout, as_json=options.get("json", False), is_quiet=not options["verbosity"])
        try:
            code = run_subcommand(options["subcommand"], console, options)
            sys.stdout.flush()
        except KeyboardInterrupt:
            sys.exit(130)
        except BrokenPipeError:
            # The reader has closed the pipe, for example `| head`. Without the redirection, flushing the rest of the
            # buffer would fail again when the interpreter exits.
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        if code:
            sys.exit(code)

    def _write_what_the_terminal_can(self) -> None:
        """Write `?` for characters that the terminal's encoding lacks, instead of failing with a UnicodeEncodeError."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, ValueError):
                stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a caller's stream may lack it
