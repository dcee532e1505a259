"""A worker's memory after many messages, compared with its own after the first thousand.

One prefork worker of one process, parent and child together. There is only one run, because the row looks for growth,
and the worker lives through all of it.
"""

from __future__ import annotations

from benchmarks.processes import celery_worker, memory_mib
from benchmarks.result import Result, Scale
from benchmarks.servers import empty_redis
from benchmarks.setting import is_at_rest, licenses, queue_messages, site, stub_gateway, until, wake

FIRST = 1000
LICENSES = 10


def measure(scale: Scale) -> list[Result]:
    more = scale.of(99_000, 1_000, 100)
    first = min(FIRST, more)
    with stub_gateway() as gateway, site("postgres", "memory", gateway_url=gateway):
        license_ids = licenses(LICENSES)
        empty_redis()
        with celery_worker("--pool=prefork", "--concurrency=1") as worker:
            before = _after(worker.pid, license_ids, first)
            after = _after(worker.pid, license_ids, more)
    return [
        Result(
            f"a worker's memory after {first + more:,} messages",
            f"its own after {first:,}",
            after / before,
            1.05,
            note=f"{before:.1f} MiB, then {after:.1f} MiB",
        )
    ]


def _after(worker_pid: int, license_ids: list[int], messages: int) -> float:
    queue_messages(license_ids, messages // len(license_ids))
    wake(license_ids)
    until(is_at_rest, every=0.2, seconds=1200)
    return memory_mib(worker_pid)
