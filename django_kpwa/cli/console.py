"""The output of a subcommand: sentences and tables for people, or one JSON document for scripts, never both.

All output goes through the command's own stream, so that `call_command(..., stdout=…)` captures it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TextIO

from django.core.management.base import OutputWrapper
from django.core.serializers.json import DjangoJSONEncoder
from django.utils import timezone, translation

from .. import formatting
from ..logs import escaped_controls, without_controls

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
