"""Two worker machines compared with one, over one PostgreSQL and one broker, with a gateway that takes 200 ms.

A machine is a set of processes: a worker with threads and a prefork worker. The gateway's calls take time but no CPU.
So the rate of two machines shows whether lanes spread and no machine waits for the other. A message goes out once.
"""

from __future__ import annotations

import contextlib
import statistics

from benchmarks.processes import celery_worker
from benchmarks.result import Result, Scale
from benchmarks.setting import (
    distinct_count,
    empty,
    empty_queue,
    is_at_rest,
    licenses,
    queue_messages,
    reset_gateway,
    sent_times,
    site,
    steady_rate,
    stub_gateway,
    until,
    wake,
)

# Five calls at a time: two such machines leave the cores of one real machine idle enough.
MACHINE = (("--pool=threads", "--concurrency=4"), ("--pool=prefork", "--concurrency=1"))
LANES = 20


def measure(scale: Scale) -> list[Result]:
    return measured(scale, "redis")


def measured(scale: Scale, broker: str) -> list[Result]:
    """One machine and two, over `broker`, in turn."""
    each = scale.of(20, 3, 2)
    rates: dict[int, list[float]] = {1: [], 2: []}
    with stub_gateway(200.0) as gateway, site("postgres", f"machines_{broker}", gateway_url=gateway, broker=broker):
        license_ids = licenses(LANES)
        for turn in range(scale.of(3, 1, 1)):
            for machines in (1, 2) if turn % 2 == 0 else (2, 1):
                rates[machines].append(_rate(machines, license_ids, each, gateway))
    one, two = (statistics.median(rates[machines]) for machines in (1, 2))
    return [
        Result(
            f"two worker machines, {LANES} lanes, 200 ms gateway, PostgreSQL, {broker}: messages a second",
            "one worker machine",
            two / one,
            1.8,
            ">=",
            note=f"{one:.0f}/s, then {two:.0f}/s; nothing sent twice",
        )
    ]


def _rate(machines: int, license_ids: list[int], each: int, gateway: str) -> float:
    empty()
    empty_queue()
    queue_messages(license_ids, each)
    reset_gateway(gateway)
    with contextlib.ExitStack() as workers:
        for machine in range(machines):
            for kind, options in enumerate(MACHINE):
                workers.enter_context(celery_worker(*options, f"--hostname=worker{kind}@machine{machine}"))
        wake(license_ids)
        until(is_at_rest, every=0.1)
    times = sent_times(gateway)
    assert len(times) == distinct_count(gateway) == len(license_ids) * each, (len(times), distinct_count(gateway))
    return steady_rate(times)
