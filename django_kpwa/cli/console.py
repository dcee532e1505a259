"""What all subcommands share: the output and the errors.

The output is sentences and tables for people, or one JSON document for scripts, never both.

All output goes through the command's own stream, so that `call_command(..., stdout=…)` captures it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TextIO

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management.base import CommandError, OutputWrapper
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, OperationalError, ProgrammingError
from django.utils import timezone, translation

from .. import formatting
from ..exceptions import (
    GatewayError,
    InvalidApiKeyError,
    InvalidMessageError,
    InvalidPhoneNumberError,
    KpwaError,
    LicenseChoiceError,
)
from ..logs import escaped_controls, without_controls
from ..models import write_alias
from ..phone import mask_numbers

EXIT_OK = 0
EXIT_NO = 1
EXIT_USAGE = 2
EXIT_GATEWAY = 3


class Console:
    """The output of one run.

    Args:
        stdout: The command's stream.
        as_json: Write the document only (`--json`).
        is_quiet: Leave out reports of success (`-v 0`).
        stdin: Where a text or an API key is read from; by default `sys.stdin`.
    """

    def __init__(
        self, stdout: OutputWrapper, *, as_json: bool = False, is_quiet: bool = False, stdin: TextIO | None = None
    ) -> None:
        self._stdout = stdout
        self.as_json = as_json
        self.is_quiet = is_quiet
        self.stdin = stdin or sys.stdin

    def say(self, text: str = "") -> None:
        """Write a line for people; nothing under `--json`.

        Control characters are removed: the line may quote the gateway or a customer, who must not control the terminal.
        """
        self.draw(without_controls(text))

    def draw(self, lines: str) -> None:
        """Write our own lines for people unchanged, control characters included; nothing under `--json`."""
        if not self.as_json:
            self._stdout.write(lines)
            self._stdout.flush()

    def report(self, text: str) -> None:
        """Write a line about a success; nothing under `-v 0` or `--json`."""
        if not self.is_quiet:
            self.say(text)

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Write aligned columns for people; nothing under `--json`."""
        cells = [tuple(headings), *(tuple(_cell(value) for value in row) for row in rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
        for row in cells:
            self.say("  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip())

    def document(self, content: Mapping[str, Any] | Sequence[Any]) -> None:
        """Write `content` as JSON on one line; nothing without `--json`. Times are ISO 8601 in UTC."""
        if self.as_json:
            text = json.dumps(content, cls=DjangoJSONEncoder, ensure_ascii=False)
            # Standard output may be a terminal, which control characters could manipulate. Escaped, they are the same
            # characters to a JSON parser.
            self._stdout.write(escaped_controls(text))
            self._stdout.flush()

    def clear_screen(self) -> None:
        """Clear the terminal; does nothing if the output is a file or pipe, or under `--json`."""
        if not self.as_json and self._stdout.isatty():
            self._stdout.write("\x1b[2J\x1b[H", ending="")


@dataclass(frozen=True)
class Subcommand:
    """A subcommand of `manage.py kpwa`.

    Args:
        help: One line for the list of subcommands. It begins with a verb in lower case.
        add_arguments: Adds its arguments to its parser.
        run: Does it, and returns the exit code. It need not catch exceptions: `run_subcommand()` explains them.
    """

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[Console, dict[str, Any]], int]


def moment(at: datetime | None) -> str:
    """Return a time for people, in the site's time zone; "never" for None."""
    return "never" if at is None else timezone.localtime(at).strftime("%Y-%m-%d %H:%M:%S")


def in_english(label: object) -> str:
    """Return a translatable label in English, because the commands' own sentences are English on every site."""
    with translation.override("en"):
        return str(label)


def duration(seconds: float) -> str:
    """Return a duration in English, in the largest unit that fits: `45 s`, `12 min`, `3 h`, `2 days`."""
    with translation.override("en"):
        return formatting.duration(seconds)


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return moment(value)
    return "" if value is None else without_controls(str(value))


_SIGNS_OF_NO_TABLE = ("relation", "no such table", "no such column", "doesn't exist", "Unknown column")


def as_command_error(error: Exception) -> CommandError | None:
    """Return the `CommandError` to show for `error`; None if `error` is a bug, so that its traceback is shown."""
    if isinstance(error, CommandError):
        return error
    if isinstance(error, GatewayError):
        return CommandError(_gateway_words(error), returncode=EXIT_GATEWAY)
    if isinstance(error, InvalidMessageError):
        # The messages begin with "it" or "its" and need a sentence before them, except those about a phone number.
        words = str(error) if isinstance(error, InvalidPhoneNumberError) else f"This cannot be sent: {error}"
        return CommandError(_one_line(words), returncode=EXIT_USAGE)
    if isinstance(error, (InvalidApiKeyError, LicenseChoiceError)):
        return CommandError(_one_line(str(error)), returncode=EXIT_USAGE)
    if isinstance(error, ValidationError):
        return CommandError(_one_line(" ".join(error.messages)), returncode=EXIT_USAGE)
    if isinstance(error, (KpwaError, ImproperlyConfigured)):
        return CommandError(_one_line(str(error)), returncode=EXIT_NO)
    if isinstance(error, (DatabaseError, InterfaceError)):
        return CommandError(_database_words(error), returncode=EXIT_NO)
    return None


def _gateway_words(error: GatewayError) -> str:
    reasons = "; ".join(error.errors)
    words = "" if error.words == str(error) or error.words in str(error) else f" It said: {error.words}"
    return _one_line(f"{error}{words}{f' ({reasons})' if reasons and reasons not in str(error) else ''}")


def _database_words(error: Exception) -> str:
    # Only the first line: PostgreSQL appends the statement, with the customer's data that it was to store.
    # Numbers are masked: MariaDB quotes the duplicate value, which may be a phone number.
    words = mask_numbers((str(error).splitlines() or [type(error).__name__])[0])
    return f"{tables} ({words})" if (tables := missing_tables(error)) else f"The database failed: {words}"


def missing_tables(error: Exception) -> str:
    """Return what to do if `error` says that tables or columns are missing; empty for any other error."""
    is_of_kind = isinstance(error, (ProgrammingError, OperationalError))
    if not (is_of_kind and any(sign in str(error) for sign in _SIGNS_OF_NO_TABLE)):
        return ""
    return f"The database does not have all tables of django-kpwa. Run `{migrate_command()}`."


def migrate_command() -> str:
    """Return the command that creates our tables, also if a router keeps them in a separate database."""
    alias = write_alias()
    return "manage.py migrate" + (f" --database {alias}" if alias != DEFAULT_DB_ALIAS else "")


def _one_line(text: str) -> str:
    return " ".join(without_controls(text).split())
