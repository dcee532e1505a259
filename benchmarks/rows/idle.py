"""An idle site: its processes' statements to the database, and their CPU time, in an hour without a sale.

Measured are a worker and beat, and `kpwa run` on a site without Celery. They are compared with an idle procrastinate
worker on the same PostgreSQL. Each is alone with the database for a while. Statements, including `BEGIN` and `COMMIT`,
are counted between client and server. CPU is that of all its processes and of the database. The note has the cost of
the row's own Celery without the app.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from benchmarks.processes import ROOT, Watched, celery_worker, started
from benchmarks.result import Result, Sample, Scale, in_turn
from benchmarks.servers import empty_redis
from benchmarks.setting import licenses, site
from benchmarks.statements import counted

LICENSES = 100
FLOOR = "an idle procrastinate worker"


def measure(scale: Scale) -> list[Result]:
    # Whole minutes, so that every part of the schedule has its turn.
    seconds, settling = scale.of(120, 60, 6), scale.of(8, 5, 1)
    counts: dict[str, list[int]] = {}
    with site("postgres", "idle"), counted(os.environ["DATABASE_URL"]) as (url, relay):
        licenses(LICENSES)
        _prepare_procrastinate(os.environ["DATABASE_URL"])

        def idle(name: str, processes: Callable[[str], AbstractContextManager[list[int]]]) -> Sample:
            empty_redis()
            with processes(url) as pids:
                # Until a process has finished its start.
                time.sleep(settling)
                before = relay.count
                with Watched(pids, database="postgres") as watched:
                    time.sleep(seconds)
                counts.setdefault(name, []).append(relay.count - before)
                return watched.sample(1)

        sides = {"celery": _worker_and_beat, "run": _run, "floor": _procrastinate, "bare celery": _bare_celery}
        measured = in_turn(
            max(1, scale.repeats // 2), *(lambda name=name, side=side: idle(name, side) for name, side in sides.items())
        )
    samples = dict(zip(sides, measured, strict=True))
    an_hour = 3600 / seconds
    cpu = {name: [sample.cpu_ms / 1000 * an_hour for sample in samples[name]] for name in sides}
    shown = {name: [count * an_hour for count in counts[name]] for name in sides}
    note = f"its Celery alone {statistics.median(cpu['bare celery']):.1f} s"
    return [
        *_results("worker and beat", "celery", shown, cpu, samples, note),
        *_results("kpwa run", "run", shown, cpu, samples),
    ]


def _results(
    what: str,
    name: str,
    shown: dict[str, list[float]],
    cpu: dict[str, list[float]],
    samples: dict[str, list[Sample]],
    note: str = "",
) -> Iterator[Result]:
    for unit, measured in (("statements an hour", shown), ("seconds of CPU an hour", cpu)):
        mine, least = (statistics.median(measured[side]) for side in (name, "floor"))
        yield Result(
            f"an idle site, {what}: {unit}",
            FLOOR,
            mine / least,
            1.0,
            figures={"ours": round(mine, 1), "floor": round(least, 1)},
            ours=samples[name],
            against=samples["floor"],
            note=note if "CPU" in unit else "",
        )


@contextlib.contextmanager
def _worker_and_beat(url: str) -> Iterator[list[int]]:
    with (
        tempfile.TemporaryDirectory(prefix="kpwa-bench-") as folder,
        celery_worker("--pool=prefork", "--concurrency=1", DATABASE_URL=url) as worker,
        started(_beat(folder), ready="Starting", DATABASE_URL=url) as beat,
    ):
        yield [worker.pid, beat.pid]


@contextlib.contextmanager
def _bare_celery(url: str) -> Iterator[list[int]]:
    """The same site without the app, and so without its schedule."""
    with (
        tempfile.TemporaryDirectory(prefix="kpwa-bench-") as folder,
        celery_worker("--pool=prefork", "--concurrency=1", DATABASE_URL=url, BENCH_WITHOUT="kpwa") as worker,
        started(_beat(folder), ready="Starting", DATABASE_URL=url, BENCH_WITHOUT="kpwa") as beat,
    ):
        yield [worker.pid, beat.pid]


@contextlib.contextmanager
def _run(url: str) -> Iterator[list[int]]:
    with started(["-m", "django", "kpwa", "run"], ready="Running", DATABASE_URL=url, BENCH_BROKER_URL="") as process:
        yield [process.pid]


@contextlib.contextmanager
def _procrastinate(url: str) -> Iterator[list[int]]:
    worker = ["-m", "procrastinate", "--app=benchmarks.site.peers.jobs.app", "worker"]
    with started(worker, ready="Starting worker", BENCH_PROCRASTINATE_URL=url) as process:
        yield [process.pid]


def _prepare_procrastinate(url: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "procrastinate", "--app=benchmarks.site.peers.jobs.app", "schema", "--apply"],
        cwd=ROOT,
        env={**os.environ, "BENCH_PROCRASTINATE_URL": url},
        check=True,
        capture_output=True,
    )


def _beat(folder: str) -> Sequence[str]:
    return ["-m", "celery", "-A", "benchmarks.site.celery_app", "beat", "--loglevel=INFO", f"--schedule={folder}/beat"]
