"""CPU per message through Celery: one lane, compared with a Celery task per message and with django-post-office.

One prefork worker of one process does all three, with the settings of our README. The note has the cost of the task per
message under Celery's stock settings, which close the database connection around every task.
"""

from __future__ import annotations

import statistics

from benchmarks import through_celery
from benchmarks.processes import celery_worker
from benchmarks.result import Result, Sample, Scale, in_turn, result_of
from benchmarks.servers import empty_redis
from benchmarks.setting import licenses, site, stub_gateway

WORKER = ("--pool=prefork", "--concurrency=1")


def measure(scale: Scale) -> list[Result]:
    count = scale.of(3000, 100, 20)
    with stub_gateway() as gateway, site("postgres", "celery_cpu", gateway_url=gateway, apps=through_celery.APPS):
        license_ids = licenses(1)
        empty_redis()
        with celery_worker(*WORKER) as worker:
            pid = worker.pid
            # The first of each imports and connects.
            through_celery.lanes(pid, gateway, license_ids, 5)
            through_celery.task_each(pid, gateway, 5)
            through_celery.post_office(pid, gateway, 5)
            mine, task_each, post_office = in_turn(
                scale.repeats,
                lambda: through_celery.lanes(pid, gateway, license_ids, count),
                lambda: through_celery.task_each(pid, gateway, count),
                lambda: through_celery.post_office(pid, gateway, count),
            )
        with celery_worker(*WORKER, BENCH_DB_REUSE_MAX="0") as worker:
            pid = worker.pid
            through_celery.task_each(pid, gateway, 5)
            (stock,) = in_turn(max(1, scale.repeats // 2), lambda: through_celery.task_each(pid, gateway, count))
    return [
        result_of(
            f"through Celery, {count:,} messages of one license, PostgreSQL: CPU a message",
            "a Celery task a message that claims, POSTs and records through the ORM",
            mine,
            task_each,
            cpu,
            0.4,
            note=f"a task a message with Celery's stock settings: CPU {_median(stock):.2f}",
        ),
        result_of(
            f"through Celery, {count:,} messages of one license, PostgreSQL: CPU a message",
            "django-post-office, which saves outcomes once a batch of 100",
            mine,
            post_office,
            cpu,
            0.9,
        ),
    ]


def cpu(sample: Sample) -> float:
    return sample.cpu_ms


def _median(samples: list[Sample]) -> float:
    return statistics.median(map(cpu, samples))
