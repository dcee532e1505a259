"""The lane on SQLite: time and CPU per message, compared with the same minimal loop there."""

from __future__ import annotations

from benchmarks.result import Result, Scale
from benchmarks.site import loops

from .lane import time_and_cpu

FLOOR = "claim UPDATE + session.post + result UPDATE, sqlite3 in autocommit, WAL"


def measure(scale: Scale) -> list[Result]:
    return time_and_cpu("sqlite", "SQLite", scale, loops.sqlite_loop, FLOOR)
