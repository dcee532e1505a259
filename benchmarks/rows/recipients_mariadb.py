"""The row `recipients` on MariaDB."""

from __future__ import annotations

from benchmarks.result import Result, Scale

from .recipients import measured_on


def measure(scale: Scale) -> list[Result]:
    return measured_on("mariadb", scale)
