"""SQLite with many concurrent writers: two processes of the site, a worker of four threads, and beat.

There must be no "database is locked" in any log or traceback, and every message must be sent once.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path

from benchmarks.processes import celery_worker, started
from benchmarks.result import Result, Scale
from benchmarks.servers import empty_redis
from benchmarks.setting import distinct_count, is_at_rest, licenses, sent_count, site, stub_gateway, until

TILLS = 2
LICENSES = 4
EVERY_SECONDS = 0.1


def measure(scale: Scale) -> list[Result]:
    seconds = scale.of(300, 8, 3)
    with (
        tempfile.TemporaryDirectory(prefix="kpwa-bench-") as folder,
        stub_gateway() as gateway,
        site("sqlite", "sqlite_busy", gateway_url=gateway),
    ):
        logs = Path(folder, "logs")
        os.environ |= {"BENCH_LOGS": str(logs), "BENCH_SWEEP_SECONDS": "2"}
        licenses(LICENSES)
        empty_redis()
        beat = ["-m", "celery", "-A", "benchmarks.site.celery_app", "beat", f"--schedule={folder}/beat"]
        with celery_worker("--pool=threads", "--concurrency=4"), started(beat):
            queued = _queued(seconds, logs)
            until(lambda: sent_count(gateway) >= queued, seconds=120)
            until(is_at_rest, seconds=30, every=0.2)
        said = logs.read_text(errors="replace")
        once = sent_count(gateway) == distinct_count(gateway) == queued
    return [
        Result(
            f"SQLite, {TILLS} tills, a worker and beat for {seconds} s: refused as locked, lost, or sent twice",
            "none",
            len(re.findall("database (?:table )?is locked", said)) + (0 if once else 1),
            0,
            unit="times",
            note=f"{queued:,} messages",
        )
    ]


def _queued(seconds: int, logs: Path) -> int:
    """Run the tills; returns the number of messages that they queued."""
    with contextlib.ExitStack() as tills:
        processes = [
            tills.enter_context(started(["-m", "benchmarks.site.till", str(n), str(seconds), str(EVERY_SECONDS)]))
            for n in range(TILLS)
        ]
        for process in processes:
            process.wait(seconds + 60)
    said = re.findall(r"till \d+ queued (\d+)", logs.read_text(errors="replace"))
    if len(said) != TILLS:
        raise RuntimeError(f"a till ended early:\n{logs.read_text(errors='replace')[-4000:]}")
    return sum(map(int, said))
