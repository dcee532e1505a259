"""The lane on MariaDB: time and CPU per message, compared with the same minimal loop there."""

from __future__ import annotations

from benchmarks.result import Result, Scale
from benchmarks.site import loops

from .lane import time_and_cpu

FLOOR = "SELECT + claim UPDATE + session.post + result UPDATE, mysqlclient in autocommit"


def measure(scale: Scale) -> list[Result]:
    return time_and_cpu("mariadb", "MariaDB", scale, loops.mysqlclient_loop, FLOOR)
