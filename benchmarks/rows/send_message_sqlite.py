"""The row `send_message` on SQLite, compared with the same INSERT there."""

from __future__ import annotations

from benchmarks.result import Result, Scale

from .send_message import measured_on


def measure(scale: Scale) -> list[Result]:
    return measured_on("sqlite", scale)
