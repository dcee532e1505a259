"""Queries about recipients, with a million of them at the license, compared with themselves with a thousand.

Both sizes are in one server, a schema each, and are measured in turn. The best of many runs counts, because other load
of the machine only ever adds time. One recipient in a hundred wants no messages, and those are the newest: a plan that
reads the table until it finds one reads nearly all of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count

from benchmarks import filling
from benchmarks.result import Result, Sample, Scale, result_of
from benchmarks.setting import TEXT, site

FEW, MANY = "kpwa_bench_few", "kpwa_bench_many"
MAX_GROWTH = 1.3
KPWA = {"GATEWAY": "django_kpwa.gateway.locmem.LocmemGateway"}

_turns = count()


@dataclass(frozen=True)
class Asked:
    """The timed call, given the license. `prepare` creates the data for it, and is not timed."""

    ask: Callable[[int], object]
    prepare: Callable[[int], object] = id


def measure(scale: Scale) -> list[Result]:
    return measured_on("postgres", scale)


def measured_on(kind: str, scale: Scale) -> list[Result]:
    few, many, turns = 1_000, scale.of(1_000_000, 1_000_000, 2_000), scale.of(400, 150, 3)
    with site(kind, f"recipients_{kind}", kpwa=KPWA), _schemas():
        licenses = {}
        for name, size in ((FEW, few), (MANY, many)):
            [licenses[name]] = filling.schema(name, 1)
            filling.add_recipients(licenses[name], size)
        results = []
        for what, asked in _asked().items():
            best = {name: min(taken, key=_wall_ms) for name, taken in _samples(asked, licenses, turns).items()}
            name = f"{what}, {many:,} recipients, {kind}"
            against = f"itself with {few:,}"
            results.append(result_of(name, against, [best[MANY]], [best[FEW]], _wall_ms, MAX_GROWTH))
        return results


@contextmanager
def _schemas() -> Iterator[None]:
    """MariaDB calls a schema a database, and this one outlives the row's own."""
    from django.db import connection

    def drop() -> None:
        for name in (FEW, MANY):
            filling.execute(f"DROP SCHEMA IF EXISTS {name}{' CASCADE' if connection.vendor == 'postgresql' else ''}")

    drop()
    yield
    drop()


def _samples(asked: Asked, licenses: dict[str, int], turns: int) -> dict[str, list[Sample]]:
    samples: dict[str, list[Sample]] = {name: [] for name in licenses}
    for turn in range(turns + 1):
        for name in licenses if turn % 2 else reversed(licenses):
            filling.use(name)
            asked.prepare(licenses[name])
            cpu, began = time.process_time(), time.perf_counter()
            asked.ask(licenses[name])
            sample = Sample(1, time.perf_counter() - began, time.process_time() - cpu)
            # The first of each fills the caches.
            samples[name] += [sample] if turn else []
    return samples


def _wall_ms(sample: Sample) -> float:
    return sample.wall_ms


def _number() -> str:
    """One of those that have written and want messages, in both sizes."""
    return filling.number(1 + next(_turns) % 900)


def _asked() -> dict[str, Asked]:
    from django.db import transaction
    from django.utils import timezone

    from django_kpwa.dispatch import drive
    from django_kpwa.gateway import locmem
    from django_kpwa.models import Lane, License, OutboundMessage, Recipient
    from django_kpwa.outbox import send_message
    from django_kpwa.store import store
    from django_kpwa.webhooks import process_due_events
    from django_kpwa.webhooks.arrivals import store_event

    def send(license_id: int) -> None:
        with transaction.atomic():
            send_message(_number(), TEXT)
            # Prevents publishing.
            transaction.set_rollback(True)

    def queue(license_id: int, *, wrote_at: datetime | None = None) -> None:
        locmem.clear()
        number, now = _number(), timezone.now()
        Recipient.objects.filter(license_id=license_id, number=number).update(last_inbound_at=wrote_at)
        times = {"created_at": now, "due_at": now}
        OutboundMessage.objects.create(license_id=license_id, recipient=number, text=TEXT, **times)

    def limit(license_id: int) -> None:
        License.objects.update(cold_limit=1_000_000)
        queue(license_id)

    def restrict(license_id: int) -> None:
        License.objects.update(cold_limit=0)
        store().begin_restriction(license_id, "463")
        queue(license_id, wrote_at=timezone.now())

    def turn(license_id: int) -> None:
        assert drive(license_id).attempts == 1

    def hear(license_id: int) -> None:
        Lane.objects.update(restriction_step=0, restricted_until=None)
        payload = {"id": f"A{next(_turns)}", "from": f"{_number()}@s.whatsapp.net", "message": "Terima kasih"}
        store_event(license_id, json.dumps(payload).encode(), "application/json")

    def process(license_id: int) -> None:
        assert process_due_events() == 1

    return {
        "send_message()": Asked(send),
        "a message driven": Asked(turn, queue),
        "a message driven to a new customer, with a limit": Asked(turn, limit),
        "a message driven to a known one, restricted": Asked(turn, restrict),
        "a customer's message processed": Asked(process, hear),
    }
