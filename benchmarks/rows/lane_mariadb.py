"""The lane on MariaDB: time and CPU a message, against the same least loop there."""

from __future__ import annotations

from benchmarks.result import Result, Scale, result_of
from benchmarks.site import loops

from .lane import measured

FLOOR = "SELECT + claim UPDATE + session.post + result UPDATE, mysqlclient in autocommit"


def measure(scale: Scale) -> list[Result]:
    count = scale.of(3000, 200, 50)
    mine, least = measured("mariadb", scale, count, loops.mysqlclient_loop)
    name = f"one lane, {count:,} messages, MariaDB"
    return [
        result_of(f"{name}: time a message", FLOOR, mine, least, lambda sample: sample.wall_ms, 1.5),
        result_of(f"{name}: CPU a message", FLOOR, mine, least, lambda sample: sample.cpu_ms, 1.5),
    ]
