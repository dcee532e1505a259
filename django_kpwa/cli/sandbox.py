"""`kpwa sandbox`: replaces this process by `python -m django_kpwa.sandbox` with the same arguments.

The sandbox has Django settings of its own, which cannot be loaded into a process that has the site's settings.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from .console import Console

HELP = "start a simulated WhatsApp phone; see `manage.py kpwa sandbox --help`"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("arguments", nargs="*", help="arguments of python -m django_kpwa.sandbox")


def run(console: Console, options: dict[str, Any]) -> int:
    os.execv(sys.executable, [sys.executable, "-m", "django_kpwa.sandbox", *options["arguments"]])  # noqa: S606
