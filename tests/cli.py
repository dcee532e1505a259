"""Calls `manage.py kpwa` inside the test's process. tests/processes.py runs it in a separate process."""

from __future__ import annotations

import io
import json
import sys

from django.core.management import call_command


def kpwa(*arguments: str, stdin: str = "") -> tuple[int, str]:
    """Return the exit code and the output. Raises `CommandError` if the command does."""
    written, before = io.StringIO(), sys.stdin
    sys.stdin = io.StringIO(stdin)
    try:
        call_command("kpwa", *arguments, stdout=written)
    except SystemExit as ended:
        return ended.code, written.getvalue()
    finally:
        sys.stdin = before
    return 0, written.getvalue()


def kpwa_json(*arguments: str, stdin: str = "") -> tuple[int, object]:
    """Return the exit code and the JSON document that the command wrote."""
    code, written = kpwa(*arguments, "--json", stdin=stdin)
    return code, json.loads(written)
