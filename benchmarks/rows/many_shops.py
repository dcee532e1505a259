"""Many small shops: a thousand licenses with one message each, CPU per message through Celery.

It is compared with the same Celery task per message. A lane with one message costs its own task, its lease and its
gateway. Each lane is woken by the product's own wake-up.
"""

from __future__ import annotations

from benchmarks import through_celery
from benchmarks.processes import celery_worker
from benchmarks.result import Result, Scale, in_turn, result_of
from benchmarks.servers import empty_redis
from benchmarks.setting import licenses, site, stub_gateway


def measure(scale: Scale) -> list[Result]:
    count = scale.of(1000, 100, 20)
    with stub_gateway() as gateway, site("postgres", "many_shops", gateway_url=gateway, apps=through_celery.APPS):
        license_ids = licenses(count)
        empty_redis()
        with celery_worker("--pool=prefork", "--concurrency=1") as worker:
            pid = worker.pid
            through_celery.lanes(pid, gateway, license_ids[:5], 1)
            through_celery.task_each(pid, gateway, 5)
            mine, task_each = in_turn(
                scale.repeats,
                lambda: through_celery.lanes(pid, gateway, license_ids, 1),
                lambda: through_celery.task_each(pid, gateway, count),
            )
    return [
        result_of(
            f"through Celery, {count:,} licenses with one message each, PostgreSQL: CPU a message",
            "a Celery task a message that claims, POSTs and records through the ORM",
            mine,
            task_each,
            lambda sample: sample.cpu_ms,
            1.2,
        )
    ]
