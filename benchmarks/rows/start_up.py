"""The app's share of a process's start: importing it, `check`, and `migrate` from nothing.

Every process of a site without Celery sets Django up; this is compared with the same site without the app. With the
URLs, the site without the app has Celery and DRF, because a site that uses the app has them. The processes are fresh,
and the byte code exists. Measured is their CPU time until the code has run, because wall-clock time depends on other
load of the machine. The end of Python is not counted: a process of a site ends once, after hours.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.processes import ROOT
from benchmarks.result import Result, Sample, Scale, in_turn

MAX_MS = 80.0

_IMPORTED = "import benchmarks.site.celery_app, django; django.setup(); from django.urls import get_resolver; "
CODE = {
    "import": _IMPORTED + "get_resolver().url_patterns",
    "check": _IMPORTED + "from django.core.management import call_command; call_command('check')",
    "migrate": _IMPORTED + "from django.core.management import call_command; call_command('migrate', verbosity=0)",
}
SET_UP = "import django; django.setup()"
DJANGO_ALONE = f"{SET_UP}; from django.urls import get_resolver; get_resolver().url_patterns"


def measure(scale: Scale) -> list[Result]:
    runs = scale.of(5, 1, 1)
    with tempfile.TemporaryDirectory(prefix="kpwa-bench-") as folder:
        start = _Start(Path(folder))
        for without in ("", "kpwa", "all"):
            # Writes the byte code, whatever the environment says.
            start.timed(CODE["import"] if without != "all" else DJANGO_ALONE, 1, without)
        added, sides = {}, {}
        for name, code in CODE.items():
            mine, least = in_turn(
                scale.repeats,
                lambda code=code: start.timed(code, runs),
                lambda code=code: start.timed(code, runs, "kpwa"),
            )
            sides[name] = (mine, least)
            added[name] = _median(mine) - _median(least)
        set_up, bare = in_turn(
            scale.repeats, lambda: start.timed(SET_UP, runs), lambda: start.timed(SET_UP, runs, "all")
        )
        beside_django = _median(sides["import"][0]) - start.timed(DJANGO_ALONE, runs, "all").wall_ms
    mine, least = sides["import"]
    return [
        Result(
            "setting Django up: milliseconds of CPU that the app adds",
            "the same site without it, and without Celery",
            _median(set_up) - _median(bare),
            MAX_MS,
            unit="ms",
            figures={"ours_ms": round(_median(set_up)), "floor_ms": round(_median(bare))},
            ours=set_up,
            against=bare,
        ),
        Result(
            "importing the app and its URLs: milliseconds of CPU that it adds",
            "the same site without it, with Celery and DRF",
            added["import"],
            MAX_MS,
            unit="ms",
            figures={"ours_ms": round(_median(mine)), "floor_ms": round(_median(least))},
            ours=mine,
            against=least,
            note=f"{beside_django:+.0f} ms against Django alone; check {added['check']:+.0f} ms; "
            f"migrate from nothing, on SQLite, {added['migrate']:+.0f} ms",
        ),
    ]


class _Start:
    """Starts processes that find their byte code in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def timed(self, code: str, runs: int, without: str = "") -> Sample:
        seconds = []
        for _ in range(runs):
            database = self._folder / "site.sqlite3"
            database.unlink(missing_ok=True)
            environment = {
                **os.environ,
                "PYTHONPYCACHEPREFIX": str(self._folder / "byte-code"),
                "PYTHONDONTWRITEBYTECODE": "",
                "DJANGO_SETTINGS_MODULE": "benchmarks.site.settings",
                "DATABASE_URL": f"sqlite:///{database}",
                "BENCH_BROKER_URL": "redis://127.0.0.1:1/0",
                "BENCH_WITHOUT": without,
            }
            timed = f"{code}; import time; print(time.process_time())"
            run = subprocess.run(
                [sys.executable, "-c", timed], cwd=ROOT, env=environment, check=True, capture_output=True
            )
            seconds.append(float(run.stdout.split()[-1]))
        return Sample(1, statistics.median(seconds))


def _median(samples: list[Sample]) -> float:
    return statistics.median(sample.wall_ms for sample in samples)
