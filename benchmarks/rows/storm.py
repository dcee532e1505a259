"""A storm: 1,000 `send_message()` calls for one license. How many tasks do the workers execute for it?

The wake-ups after the first are redundant, because the driver of a lane looks once more before it leaves. The row
counts the tasks that the workers ran in three cases: with a gateway that takes 200 ms (the lane has a backlog at once),
with one that takes no time (the lane is empty again after each message), and for calls made while no worker ran.
"""

from __future__ import annotations

import math
import time
from typing import Any

from benchmarks.processes import celery_worker
from benchmarks.result import Result, Scale
from benchmarks.servers import address, empty_redis
from benchmarks.setting import TEXT, empty, is_at_rest, licenses, site, stub_gateway, until

WORKER = ("--pool=prefork", "--concurrency=2")
COUNTS = "benchmarks:tasks"
TASK = "django_kpwa.dispatch_license"
FLOOR = "one task a second of driving"


def measure(scale: Scale) -> list[Result]:
    calls = scale.of(1000, 1000, 50)
    results: list[Result] = []
    with stub_gateway() as quick, stub_gateway(200.0) as slow, site("postgres", "storm", gateway_url=quick):
        (at_once,), (busy,) = licenses(1), licenses(1, slow)
        empty_redis()
        with celery_worker(*WORKER, BENCH_COUNT_TASKS=COUNTS):
            # The first imports and connects.
            _call(1, at_once)
            until(is_at_rest)
            began_at = time.monotonic()
            _call(calls, at_once)
            until(is_at_rest, every=0.1)
            results += _results(f"{calls:,} calls, 0 ms gateway", began_at)
            began_at = time.monotonic()
            _call(calls, busy)
            # The row does not wait until all of them are sent, which takes minutes.
            results += _results(f"{calls:,} calls, 200 ms gateway", began_at)
        empty_redis()
        _call(calls, at_once)
        with celery_worker(*WORKER, BENCH_COUNT_TASKS=COUNTS):
            began_at = time.monotonic()
            until(is_at_rest, every=0.1)
            results += _results(f"{calls:,} calls before a worker starts, 0 ms gateway", began_at)
    return results


def _call(calls: int, license_id: int) -> None:
    from django_kpwa.models import License
    from django_kpwa.outbox import send_message

    empty()
    license_ = License.objects.get(pk=license_id)
    _counter().delete(COUNTS)
    for n in range(calls):
        send_message("0812 3456 7890", TEXT.format(n=n), license=license_, idempotency_key=f"sale-{n}")


def _results(name: str, began_at: float) -> list[Result]:
    # Wake-ups that are still in the broker are superfluous, and will be executed.
    until(lambda: not _counter().llen("kpwa-benchmarks"))
    time.sleep(0.5)
    seconds = time.monotonic() - began_at
    tasks = int(_counter().hget(COUNTS, TASK) or 0)  # type: ignore[arg-type]
    return [
        Result(f"a storm, {name}: tasks", FLOOR, tasks, 20, unit="tasks"),
        # One at the beginning of each second: a storm of half a second still has one task, and one of 1.7 s has two.
        Result(f"a storm, {name}: tasks a second", FLOOR, tasks / math.ceil(seconds), 1.0, unit="a second"),
    ]


def _counter() -> Any:
    import redis

    return redis.Redis.from_url(address("redis"))
