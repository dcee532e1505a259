"""Purging a long table: the time of its longest statement, and the effect on a lane that sends meanwhile.

The floor is the same lane, through the in-memory gateway in a separate process, while nothing is purged. Purged are
messages past their retention period, each with its attempt and three webhook events.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import filling
from benchmarks.processes import started
from benchmarks.result import Result, Sample, Scale, in_turn, result_of
from benchmarks.setting import licenses, queue_messages, site

MAX_SECONDS = 1.0
MIN_SPEED = 0.7
MAX_PER_SECOND = 5_000
SENDER = {"GATEWAY": "benchmarks.steady_sender.NotingGateway"}


def measure(scale: Scale) -> list[Result]:
    messages = scale.of(200_000, 5_000, 500)
    seconds = scale.of(6, 1, 1)
    with site("postgres", "purge", kpwa=SENDER):
        from django_kpwa import retention

        sending, *filled = licenses(4)
        filling.link_to_locmem()
        filling.fill(filled, messages, age="400 days")
        statements = _StatementTimes()
        waits: dict[str, list[float]] = {"alone": [], "while purging": []}

        def alone() -> Sample:
            _queue(sending, seconds)
            return _sent(sending, seconds, waits["alone"], lambda is_over: time.sleep(0.01))

        def purge(is_over: Callable[[], bool] = lambda: False) -> None:
            with statements:
                retention.purge(should_stop=is_over)

        def while_purging() -> Sample:
            _queue(sending, seconds)
            return _sent(sending, seconds, waits["while purging"], purge)

        mine, least = in_turn(scale.repeats, while_purging, alone)
        purge()
        left = filling.execute("SELECT count(*) FROM django_kpwa_sendattempt WHERE started_at < now() - interval '1y'")
    # Those that wait for a decision are kept.
    assert left[0][0] <= 120, left
    rows = f"{messages * 5:,} rows purged"
    slowest, words = max(statements.times)
    longest = max(waits["while purging"])
    return [
        Result(
            f"the longest of {len(statements.times):,} statements, {rows}",
            "one second",
            slowest,
            MAX_SECONDS,
            unit="s",
            note=words[:80],
        ),
        result_of(
            f"a lane's messages a second while {rows}",
            "the same lane while nothing is purged",
            mine,
            least,
            lambda sample: 1 / sample.wall_ms,
            MIN_SPEED,
            ">=",
        ),
        Result(
            f"the longest wait of a message of that lane while {rows}",
            "one second",
            longest,
            MAX_SECONDS,
            unit="s",
            figures={"alone_seconds": round(max(waits["alone"]), 3)},
        ),
    ]


class _StatementTimes:
    """Records the time of each statement of this process."""

    def __init__(self) -> None:
        self.times: list[tuple[float, str]] = []

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        began = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            self.times.append((time.perf_counter() - began, sql))

    def __enter__(self) -> None:
        from django.db import connection

        self._wrapped = connection.execute_wrapper(self)
        self._wrapped.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._wrapped.__exit__(*error)


def _queue(license_id: int, seconds: float) -> None:
    """More messages than can be sent in that time."""
    from django_kpwa.models import OutboundMessage

    waiting = OutboundMessage.objects.filter(license_id=license_id, status="queued").count()
    queue_messages([license_id], max(int(MAX_PER_SECOND * seconds) - waiting, 0))


def _sent(license_id: int, seconds: float, waits: list[float], meanwhile: Any) -> Sample:
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        arguments = ["-m", "benchmarks.steady_sender", str(license_id), str(seconds), file.name]
        with started(arguments, ready="sending") as process:
            while process.poll() is None:
                meanwhile(lambda: process.poll() is not None)
                time.sleep(0.01)
        told = json.loads(Path(file.name).read_text())
    waits.append(told["longest"])
    return Sample(told["sent"], told["seconds"])
