"""What the app adds to a process' start: importing it, `check`, and `migrate` from nothing.

The same site without it has Django, Celery and DRF, because a site that uses the app has them. Fresh processes, with
the byte code there.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.processes import ROOT
from benchmarks.result import Result, Sample, Scale, in_turn

MOST_MS = 150.0

_IMPORTED = "import benchmarks.site.celery_app, django; django.setup(); from django.urls import get_resolver; "
CODE = {
    "import": _IMPORTED + "get_resolver().url_patterns",
    "check": _IMPORTED + "from django.core.management import call_command; call_command('check')",
    "migrate": _IMPORTED + "from django.core.management import call_command; call_command('migrate', verbosity=0)",
}
DJANGO_ALONE = "import django; django.setup(); from django.urls import get_resolver; get_resolver().url_patterns"


def measure(scale: Scale) -> list[Result]:
    runs = scale.of(7, 2, 1)
    results = []
    for name, code in CODE.items():
        mine, least = in_turn(
            scale.repeats, lambda code=code: _timed(code, runs), lambda code=code: _timed(code, runs, without="kpwa")
        )
        added = _median(mine) - _median(least)
        note = ""
        if name == "import":
            alone = _timed(DJANGO_ALONE, runs, without="all").wall_ms
            note = f"{_median(mine) - alone:+.0f} ms against Django alone"
        results.append(
            Result(
                f"{name}: milliseconds that the app adds",
                "the same site without it, with Celery and DRF",
                added,
                MOST_MS if name == "import" else float("inf"),
                unit="ms",
                figures={"ours_ms": round(_median(mine)), "floor_ms": round(_median(least))},
                ours=mine,
                against=least,
                note=note,
            )
        )
    return results


def _timed(code: str, runs: int, without: str = "") -> Sample:
    seconds = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            environment = {
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "benchmarks.site.settings",
                "DATABASE_URL": f"sqlite:///{Path(folder) / 'site.sqlite3'}",
                "BENCH_BROKER_URL": "redis://127.0.0.1:1/0",
                "BENCH_WITHOUT": without,
            }
            began_at = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, capture_output=True)
            seconds.append(time.perf_counter() - began_at)
    return Sample(1, statistics.median(seconds))


def _median(samples: list[Sample]) -> float:
    return statistics.median(sample.wall_ms for sample in samples)
