"""`kpwa purge`: deletes what is older than `KPWA["RETENTION_DAYS"]` allows."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from .. import retention
from .console import EXIT_OK, Console

HELP = "delete what is older than KPWA['RETENTION_DAYS'] allows"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the retention is a setting and no argument, so that beat and people delete the same rows."""


def run(console: Console, options: dict[str, Any]) -> int:
    purged = retention.purge()
    console.document(asdict(purged))
    console.report(
        f"Deleted: messages {purged.messages}, webhook events {purged.events}, hours of statistics {purged.statistics}."
    )
    return EXIT_OK
