"""The site's Celery app; where `BENCH_COUNT_TASKS` is set, its workers count in Redis what they run."""

from __future__ import annotations

import os
import time
from typing import Any

import redis
from celery import Celery, signals

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.site.settings")

app = Celery("benchmarks")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

_COUNTS = "benchmarks-tasks-run"
_FREE = "benchmarks-workers-free"


def tasks_run(name: str) -> int:
    """How many tasks of that name the workers that count have run."""
    return int(_redis().hget(_COUNTS, name) or 0)


def keep_busy(workers: int) -> None:
    """Have so many workers do nothing until `let_go()`."""
    _redis().delete(_FREE)
    for _ in range(workers):
        _occupy.delay()


def let_go() -> None:
    _redis().set(_FREE, "yes")


@app.task(name="benchmarks.occupy", ignore_result=True)
def _occupy() -> None:
    client = _redis()
    while not client.exists(_FREE):
        time.sleep(0.02)


def _redis() -> redis.Redis:
    return redis.Redis.from_url(os.environ["BENCH_BROKER_URL"])


@signals.worker_ready.connect
def _say_so(**_: Any) -> None:
    print("benchmark worker ready", flush=True)


if os.environ.get("BENCH_COUNT_TASKS"):

    @signals.task_prerun.connect
    def _count(task: Any, **_: Any) -> None:
        _redis().hincrby(_COUNTS, task.name, 1)
