"""`send_messages()` of 10,000 different numbers, compared with Django's `bulk_create` of the same rows and batches.

Both create the rows that they store, and keep them. Ours also reads each number, refuses what is wrong, and gives every
row its key and times. Measured are time, and memory in addition to the returned list.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.processes import Watched
from benchmarks.result import Result, Sample, Scale, in_turn, worse_of_both
from benchmarks.servers import empty_redis
from benchmarks.setting import TEXT, empty, licenses, site

BATCH = 500
MAX_RATIO = {"postgres": 1.3, "mariadb": 1.5, "sqlite": 1.5}


def measure(scale: Scale) -> list[Result]:
    count = _count(scale)
    with site("postgres", "send_messages"):
        timed = timed_on("postgres", scale)
        fewer = min(2 * BATCH, count // 2)
        few, many = (_beside_the_list(size) for size in (fewer, count))
    return [
        timed,
        Result(
            f"send_messages(): peak memory beside the list returned, {count:,} against {fewer:,}",
            f"itself with {fewer:,}",
            many / few,
            1.5,
            figures={"few_mib": round(few / 2**20, 2), "many_mib": round(many / 2**20, 2)},
        ),
    ]


def measured_on(kind: str, scale: Scale) -> list[Result]:
    with site(kind, f"send_messages_{kind}"):
        return [timed_on(kind, scale)]


def timed_on(kind: str, scale: Scale) -> Result:
    """Ours and Django's, on this site's database of that kind."""
    count = _count(scale)
    (license_id,) = licenses(1)
    mine, least = in_turn(
        scale.repeats,
        lambda: _timed(kind, lambda: send(count), count),
        lambda: _timed(kind, lambda: create(license_id, count), count),
    )
    return worse_of_both(
        f"send_messages() of {count:,}, {kind}",
        f"bulk_create of the same rows, {BATCH} a statement",
        mine,
        least,
        MAX_RATIO[kind],
    )


def _count(scale: Scale) -> int:
    return scale.of(10_000, 2_000, 500)


def messages(count: int) -> Iterator[Any]:
    from django_kpwa.outbox import Message

    return (Message(f"0812 {n:08d}", TEXT.format(n=n)) for n in range(count))


def send(count: int) -> list[Any]:
    from django_kpwa.outbox import send_messages

    return send_messages(messages(count))


def create(license_id: int, count: int) -> list[Any]:
    from django.db import transaction
    from django.utils import timezone

    from django_kpwa.models import OutboundMessage

    now = timezone.now()
    with transaction.atomic():
        return OutboundMessage.objects.bulk_create(
            [
                OutboundMessage(
                    license_id=license_id,
                    recipient_typed=f"0812 {n:08d}",
                    recipient=f"62812{n:08d}",
                    text=TEXT.format(n=n),
                    created_at=now,
                    due_at=now,
                )
                for n in range(count)
            ],
            batch_size=BATCH,
        )


def _timed(kind: str, store: Callable[[], list[Any]], count: int) -> Sample:
    empty()
    empty_redis()
    with Watched(database=kind) as watched:
        store()
    return watched.sample(count)


def _beside_the_list(count: int) -> int:
    """Bytes at the peak, less those that are kept at the end."""
    empty()
    gc.collect()
    tracemalloc.start()
    kept = send(count)
    gc.collect()
    size, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(kept) == count
    return peak - size
