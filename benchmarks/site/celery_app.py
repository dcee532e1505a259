"""The site's Celery app."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, signals

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.site.settings")

app = Celery("benchmarks")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@signals.worker_ready.connect
def _say_so(**_: Any) -> None:
    print("benchmark worker ready", flush=True)


if counts_tasks_in := os.environ.get("BENCH_COUNT_TASKS"):
    # A hash in Redis: how often workers began each task. Only if a row asks, because it costs a round trip per task.
    import redis

    counter = redis.Redis.from_url(os.environ["BENCH_BROKER_URL"])

    @signals.task_prerun.connect
    def _count(task: Any = None, **_: Any) -> None:
        counter.hincrby(counts_tasks_in, task.name)
