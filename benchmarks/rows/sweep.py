"""The beat's sweep: with many licenses of which few have work, and behind a backlog, compared with a sweep without.

A hundred licenses have one due message each. In the first case there are many more licenses, each with a lane that was
used before. In the second, one of the hundred has the backlog, due, in a lane that may send.
"""

from __future__ import annotations

import statistics
import time

from benchmarks import filling
from benchmarks.processes import Watched
from benchmarks.result import Result, Sample, Scale, in_turn, result_of
from benchmarks.setting import queue_messages, site

AT_WORK = 100
MAX_GROWTH = 1.5


def measure(scale: Scale) -> list[Result]:
    few, many = scale.of(1000, 1000, 150), scale.of(100_000, 10_000, 600)
    backlog = scale.of(300_000, 20_000, 1000)
    rounds = scale.of(30, 15, 2)
    with site("postgres", "sweep"):
        _prepare("few", few, 1)
        _prepare("many", many, 1)
        _prepare("behind", few, backlog)
        against, wide, deep = in_turn(
            scale.repeats, *(lambda name=name: _sweeps(name, rounds) for name in ("few", "many", "behind"))
        )
        filling.use("many")
        whole = filling.scans(_statements())
    floor = f"itself with {few:,} licenses of which {AT_WORK} have work"
    note = f"reads a whole table: {'; '.join(whole)}" if whole else ""
    return [
        result_of(
            f"the beat's sweep, {many:,} licenses of which {AT_WORK} have work",
            floor,
            wide,
            against,
            lambda sample: sample.wall_ms,
            MAX_GROWTH,
            note=note,
        ),
        result_of(
            f"the beat's sweep, {backlog:,} messages due in one of the lanes",
            floor,
            deep,
            against,
            lambda sample: sample.wall_ms,
            MAX_GROWTH,
        ),
    ]


def _prepare(name: str, license_count: int, backlog: int) -> None:
    license_ids = filling.schema(name, license_count)
    # Spread over all of them: beat must find each.
    at_work = license_ids[:: license_count // AT_WORK][:AT_WORK]
    queue_messages(at_work, 1)
    filling.execute(filling.BACKLOG, {"license": at_work[AT_WORK // 2], "size": backlog - 1})
    filling.execute("VACUUM ANALYZE")


def _sweeps(name: str, rounds: int) -> Sample:
    """The median of `rounds` sweeps, after one that fills the caches."""
    from django_kpwa.dispatch import sweep

    filling.use(name)
    assert len(sweep().license_ids) == AT_WORK
    times = []
    with Watched(database="postgres") as watched:
        for _ in range(rounds):
            began = time.perf_counter()
            sweep()
            times.append(time.perf_counter() - began)
    used = watched.sample(rounds)
    cpu, database_cpu = used.cpu_seconds / rounds, used.database_cpu_seconds / rounds
    return Sample(1, statistics.median(times), cpu, database_cpu, used.peak_mib)


def _statements() -> list[str]:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from django_kpwa.dispatch import sweep

    with CaptureQueriesContext(connection) as queries:
        sweep()
    return [query["sql"] for query in queries]
