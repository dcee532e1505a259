"""1,000 `send_message()` for one license: how many tasks the workers execute for it, beside one a second of driving.

Four threads of one site process send as fast as they can; two workers drive, over a gateway of 200 ms. Once they
are free, once both are busy with something else until the storm is over.
"""

from __future__ import annotations

import threading
import time

from benchmarks.processes import celery_worker
from benchmarks.result import Result, Scale
from benchmarks.servers import empty_redis
from benchmarks.setting import TEXT, empty, licenses, site, stub_gateway
from benchmarks.site.celery_app import app, keep_busy, let_go, tasks_run

MOST_TASKS = 20
SENDERS = 4
WORKERS = 2
DRIVEN_SECONDS = 2.0


def measure(scale: Scale) -> list[Result]:
    calls = scale.of(1000, 1000, 100)
    empty_redis()
    with stub_gateway(200) as gateway, site("postgres", "storm", gateway_url=gateway):
        (license_id,) = licenses(1)
        with celery_worker("--concurrency", str(WORKERS), BENCH_COUNT_TASKS="yes"):
            return [_storm(license_id, calls, is_busy=is_busy) for is_busy in (False, True)]


def _storm(license_id: int, calls: int, *, is_busy: bool) -> Result:
    from django_kpwa import wake
    from django_kpwa.models import OutboundMessage, Status

    empty()
    wake._on_their_way.forget()
    before = tasks_run(wake.DISPATCH_LICENSE)
    began_at = time.monotonic()
    if is_busy:
        keep_busy(WORKERS)
    _send_all(calls)
    stored_at = time.monotonic()
    if is_busy:
        let_go()
    while not OutboundMessage.objects.filter(status=Status.SENT).exists():
        time.sleep(0.05)
    time.sleep(DRIVEN_SECONDS)
    tasks = tasks_run(wake.DISPATCH_LICENSE) - before
    driven_seconds = time.monotonic() - (stored_at if is_busy else began_at)
    empty()
    return Result(
        f"a storm of {calls:,} send_message() for one license, {'all workers busy' if is_busy else 'workers free'}",
        "one task a second of driving",
        tasks,
        min(MOST_TASKS, int(driven_seconds) + 1),
        unit="tasks",
        figures={"storm_seconds": round(stored_at - began_at, 1)},
    )


def _send_all(calls: int) -> None:
    from django.db import connections, transaction

    from django_kpwa.outbox import send_message

    def send(numbers: range) -> None:
        app.set_current()
        try:
            for n in numbers:
                with transaction.atomic():
                    send_message(f"0812 {n:08d}", TEXT.format(n=n))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=send, args=(range(first, calls, SENDERS),)) for first in range(SENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
