"""From just before a sale's transaction until the receipt is on the phone, on an idle system with a 200 ms gateway.

The row counts the time that we add to the gateway's own: commit, wake-up, lease, claim, and the request up to the
moment when the gateway has all of it. There is one message at a time, after a pause of random length. The worker is a
stock one of two processes, like `celery -A shop worker` on two cores.
"""

from __future__ import annotations

import random
import statistics
import time

from benchmarks.processes import celery_worker
from benchmarks.result import Result, Scale
from benchmarks.servers import empty_redis
from benchmarks.setting import TEXT, licenses, reset_gateway, sent_count, sent_times, site, stub_gateway, until

GATEWAY_MS = 200.0
FLOOR = f"the gateway's own {GATEWAY_MS:.0f} ms"


def measure(scale: Scale) -> list[Result]:
    count = scale.of(150, 12, 3)
    pauses = random.Random(5)
    with stub_gateway(GATEWAY_MS) as gateway, site("postgres", "latency", gateway_url=gateway):
        licenses(1)
        empty_redis()
        with celery_worker("--concurrency=2"):
            # The first ones import and connect, in either process.
            for n in range(1, 7):
                _added_ms(gateway, -n)
            added: list[float] = []
            for n in range(count):
                time.sleep(pauses.uniform(0.05, 0.3))
                added.append(_added_ms(gateway, n))
    added.sort()
    return [
        _result("p50", statistics.median(added), 30.0, added),
        _result("p95", added[min(len(added) - 1, round(len(added) * 0.95))], 80.0, added),
    ]


def _added_ms(gateway: str, n: int) -> float:
    from django.db import transaction

    from django_kpwa.models import OutboundMessage
    from django_kpwa.outbox import send_message

    reset_gateway(gateway)
    before = time.time()
    with transaction.atomic():
        message = send_message("0812 3456 7890", TEXT.format(n=n), idempotency_key=f"sale-{n}")
    time.sleep(GATEWAY_MS / 1000)
    until(lambda: sent_count(gateway) == 1, seconds=30)
    until(lambda: OutboundMessage.objects.filter(pk=message.pk, status="sent").exists(), seconds=30)
    return (sent_times(gateway)[0] - before) * 1000


def _result(name: str, added_ms: float, target: float, added: list[float]) -> Result:
    name = f"sale saved → on the phone, idle, Redis: {name} over the gateway's own time"
    return Result(name, FLOOR, added_ms, target, figures={"worst": round(added[-1], 1)}, unit="ms")
