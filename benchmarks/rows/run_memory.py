"""The memory of `kpwa run` after its first messages, compared with a bare Django process with the same settings.

The bare process has set Django up, has made one database query, and waits. The site has no Celery.
"""

from __future__ import annotations

import statistics

from benchmarks.processes import memory_mib, started
from benchmarks.result import Result, Scale
from benchmarks.setting import HISTORY, licenses, refill, site, stub_gateway, until

BARE = (
    "import django, time; django.setup(); from django.db import connection; "
    "connection.cursor().execute('SELECT 1'); print('bare process ready', flush=True); time.sleep(3600)"
)
MAX_RATIO = 1.25


def measure(scale: Scale) -> list[Result]:
    messages = scale.of(200, 50, 5)
    mine, least, without = [], [], []
    with stub_gateway() as gateway, site("postgres", "run_memory", gateway_url=gateway):
        from django_kpwa.models import OutboundMessage

        license_ids = licenses(10)
        sent = OutboundMessage.objects.filter(status="sent")
        for _ in range(scale.repeats):
            refill(license_ids, messages // 5)
            with started(["-m", "django", "kpwa", "run"], ready="Running", BENCH_BROKER_URL="") as process:
                until(lambda: sent.count() >= HISTORY + len(license_ids) * (messages // 5))
                mine.append(memory_mib(process.pid))
            for figures, environment in ((least, {}), (without, {"BENCH_WITHOUT": "all"})):
                with started(["-c", BARE], ready="ready", BENCH_BROKER_URL="", **environment) as process:
                    figures.append(memory_mib(process.pid))
    ours, floor, alone = map(statistics.median, (mine, least, without))
    return [
        Result(
            "kpwa run: resident memory after its first messages",
            "a bare Django process with the same settings",
            ours / floor,
            MAX_RATIO,
            figures={"ours_mib": round(ours, 1), "floor_mib": round(floor, 1)},
            note=f"without the app in its settings {alone:.1f} MiB",
        )
    ]
