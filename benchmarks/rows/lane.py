"""One lane, one worker, PostgreSQL: messages per second, compared with the least code that claims, posts and records.

The floor is a loop over psycopg alone, in autocommit: a claiming UPDATE, `session.post`, an UPDATE with the outcome.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.processes import Watched
from benchmarks.result import Result, Sample, Scale, in_turn, result_of
from benchmarks.setting import licenses, refill, reset_gateway, sent_count, site, stub_gateway
from benchmarks.site import loops


def measure(scale: Scale) -> list[Result]:
    count = scale.of(5000, 300, 50)
    mine, least = measured("postgres", scale, count, loops.psycopg_loop)
    return [
        result_of(
            f"one lane, {count:,} messages, PostgreSQL: messages a second",
            "claim UPDATE + session.post + result UPDATE, psycopg in autocommit",
            mine,
            least,
            lambda sample: 1 / sample.wall_ms,
            1.0,
            ">=",
        )
    ]


def measured(kind: str, scale: Scale, count: int, loop: Callable[[int, str], int]) -> tuple[list[Sample], ...]:
    """Ours and `loop`, on a database of this kind."""
    with stub_gateway() as gateway, site(kind, f"lane_{kind}", gateway_url=gateway):
        (license_id,) = licenses(1)
        return in_turn(
            scale.repeats,
            lambda: _drained(kind, license_id, count, gateway, drive),
            lambda: _drained(kind, license_id, count, gateway, lambda license_id: loop(license_id, gateway)),
        )


def time_and_cpu(kind: str, name: str, scale: Scale, loop: Callable[[int, str], int], floor: str) -> list[Result]:
    """Two lines, time and CPU per message, of a lane on another database, compared with the same `loop` there."""
    count = scale.of(3000, 200, 50)
    mine, least = measured(kind, scale, count, loop)
    name = f"one lane, {count:,} messages, {name}"
    return [
        result_of(f"{name}: time a message", floor, mine, least, lambda sample: sample.wall_ms, 1.5),
        result_of(f"{name}: CPU a message", floor, mine, least, lambda sample: sample.cpu_ms, 1.5),
    ]


def drive(license_id: int) -> None:
    """Drive the lane until nothing is due, as the tasks of one worker do."""
    from django_kpwa.dispatch import drive

    while drive(license_id).has_more:
        pass


def _drained(kind: str, license_id: int, count: int, gateway: str, send: Callable[[int], object]) -> Sample:
    refill([license_id], count)
    reset_gateway(gateway)
    with Watched(database=kind) as watched:
        send(license_id)
    assert sent_count(gateway) == count, sent_count(gateway)
    return watched.sample(count)
