"""The row `send_messages` on MariaDB, compared with Django's `bulk_create` there."""

from __future__ import annotations

from benchmarks.result import Result, Scale

from .send_messages import measured_on


def measure(scale: Scale) -> list[Result]:
    return measured_on("mariadb", scale)
