"""200 lanes over a gateway that takes 200 ms, one worker process with a thread per lane: do the latencies overlap?

The maximum rate is lanes ÷ latency, or the rate that the CPU allows: what the same worker, with as many threads, sends
over a gateway that takes no time. Rates are taken between the first and the last tenth of the sends, while all lanes
run. A driver holds its database connection while it waits for the gateway, so PostgreSQL must accept 200 of them.
"""

from __future__ import annotations

import statistics

from benchmarks.processes import Watched, celery_worker
from benchmarks.result import Result, Sample, Scale, figures_of, in_turn
from benchmarks.servers import empty_redis
from benchmarks.setting import (
    distinct_count,
    empty,
    is_at_rest,
    licenses,
    queue_messages,
    reset_gateway,
    sent_count,
    sent_times,
    site,
    steady_rate,
    stub_gateway,
    until,
    wake,
)

LATENCY_MS = 200.0
SPARE_CONNECTIONS = 15


def measure(scale: Scale) -> list[Result]:
    each = scale.of(25, 5, 1)
    with stub_gateway() as quick, stub_gateway(LATENCY_MS) as slow, site("postgres", "latencies", gateway_url=slow):
        lanes = min(scale.of(200, 100, 20), _max_connections() - SPARE_CONNECTIONS)
        slow_ids, quick_ids = licenses(lanes, slow), licenses(lanes, quick)
        empty_redis()
        with celery_worker("--pool=threads", f"--concurrency={lanes}") as worker:
            # Every thread has connected.
            _rate(worker.pid, slow_ids, slow, 1)
            rates: dict[str, list[float]] = {slow: [], quick: []}

            def side(license_ids: list[int], gateway: str) -> Sample:
                rate, sample = _rate(worker.pid, license_ids, gateway, each)
                rates[gateway].append(rate)
                return sample

            mine, at_once = in_turn(scale.repeats, lambda: side(slow_ids, slow), lambda: side(quick_ids, quick))
    by_latency, by_cpu, reached = lanes / LATENCY_MS * 1000, _median(rates[quick]), _median(rates[slow])
    return [
        Result(
            f"{lanes} lanes, one worker of {lanes} threads, {LATENCY_MS:.0f} ms gateway: messages a second",
            "the smaller of lanes ÷ latency and what the same worker sends over a gateway that takes no time",
            reached / min(by_latency, by_cpu),
            0.9,
            ">=",
            {"ours": figures_of(mine), "floor": figures_of(at_once)},
            mine,
            at_once,
            note=f"{reached:.0f}/s; lanes ÷ latency {by_latency:.0f}/s, 0 ms gateway {by_cpu:.0f}/s",
        )
    ]


def _rate(worker_pid: int, license_ids: list[int], gateway: str, each: int) -> tuple[float, Sample]:
    empty()
    queue_messages(license_ids, each)
    count = len(license_ids) * each
    reset_gateway(gateway)
    with Watched([worker_pid], database="postgres") as watched:
        wake(license_ids)
        until(lambda: sent_count(gateway) >= count, every=0.1)
    times = sent_times(gateway)
    assert len(times) == distinct_count(gateway) == count, (len(times), count)
    until(is_at_rest, every=0.1)
    return steady_rate(times), watched.sample(count)


def _max_connections() -> int:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SHOW max_connections")
        return int(cursor.fetchone()[0])


def _median(rates: list[float]) -> float:
    return statistics.median(rates)
