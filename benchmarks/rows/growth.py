"""Operations that must stay quick as the tables grow, compared with 20,000 messages and recipients and 60,000 events.

Both sizes are in one database, a schema each, and are measured in turn. The best of many runs counts, because other
load of the machine only ever adds time. Each theme has one line: its page that grew most. The theme is missed, however
quick it is, if PostgreSQL would read messages, attempts, events or recipients from end to end for one of its pages.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks import filling
from benchmarks.result import Result, Sample, Scale
from benchmarks.setting import queue_messages, site

FEW = "with_few"
MANY = "with_many"
MAX_GROWTH = 1.3

LIST = "/admin/django_kpwa/outboundmessage/"
EVENTS = "/admin/django_kpwa/webhookevent/"
DASHBOARD = "/admin/django_kpwa/dashboard/"
PAGES = {
    "the dashboard": {
        "page": DASHBOARD,
        "its parts, every 5 s": f"{DASHBOARD}fresh/",
        "its parts, once a minute": f"{DASHBOARD}fresh/?days=yes",
    },
    "the message list": {
        "first page": LIST,
        "deepest page": f"{LIST}?p={{deepest}}",
        "in doubt": f"{LIST}?needs_decision=yes",
        "failed": f"{LIST}?status__exact=failed",
        "one license": f"{LIST}?license__id__exact={{license}}",
        "one license, failed": f"{LIST}?license__id__exact={{license}}&status__exact=failed",
        "groups, none": f"{LIST}?recipient_type__exact=group",
        "the last 7 days": f"{LIST}?when=7",
    },
    "the search for messages": {
        "number": f"{LIST}?q=0812-0000-0077",
        "idempotency key": f"{LIST}?q=order-777",
        "gateway id": f"{LIST}?q=gateway-777",
        "three digits": f"{LIST}?q=777",
        "words": f"{LIST}?q=terima+kasih",
    },
    "the list of webhook events": {
        "first page": EVENTS,
        "deepest page": f"{EVENTS}?p={{deepest}}",
        "not understood": f"{EVENTS}?status__exact=unrecognised",
        "answers": f"{EVENTS}?kind__exact=incoming",
        "one license": f"{EVENTS}?license__id__exact={{license}}",
        "number": f"{EVENTS}?q=0812-0000-0077",
        "gateway id": f"{EVENTS}?q=gateway-777",
    },
}
SECRET = "benchmarks-only-secret-of-the-monitors"
PAGES["what machines ask"] = {"health": f"/kpwa/health/{SECRET}/", "metrics": f"/kpwa/metrics/{SECRET}/"}
KPWA = {"GATEWAY": "django_kpwa.gateway.locmem.LocmemGateway", "HEALTH_SECRET": SECRET}


@dataclass(frozen=True)
class Asked:
    """The timed call, given the schema. `prepare` creates the data for it, and is not timed."""

    ask: Callable[[str], object]
    prepare: Callable[[str], object] | None = None


def measure(scale: Scale) -> list[Result]:
    # At least as many as a search for parts reads (`admin.search.READ`).
    few, many = scale.of(20_000, 20_000, 1_000), scale.of(1_000_000, 40_000, 2_000)
    repeats = scale.of(10, 2, 1)
    with site("postgres", "growth", kpwa=KPWA):
        licenses = {}
        for name, size in ((FEW, few), (MANY, many)):
            licenses[name] = filling.schema(name, 3)
            filling.fill(licenses[name], size)
            filling.add_recipients(licenses[name][0], size)
        sizes = f"{many:,} messages, {many * 3:,} events and {many:,} recipients"
        against = f"itself with {few:,}, {few * 3:,} and {few:,}"
        themes = {"claim and record": _driving(licenses), "the beat's sweep": _sweeps(licenses)}
        clients = {name: _client(name) for name in licenses}
        # No page is deeper, because both sizes have at least as many rows as a list shows.
        places = {name: {"deepest": few // 100, "license": licenses[name][0]} for name in licenses}
        for theme, pages in PAGES.items():
            themes[theme] = {
                page: Asked(lambda name, url=url: _get(clients[name], url.format(**places[name])))
                for page, url in list(pages.items())[: scale.of(99, 99, 1)]
            }
        return [_compared(theme, asked, repeats, sizes, against) for theme, asked in themes.items()]


def _compared(theme: str, pages: dict[str, Asked], repeats: int, sizes: str, against: str) -> Result:
    samples: dict[str, tuple[Sample, Sample]] = {}
    scans: dict[str, list[str]] = {}
    for page, asked in pages.items():
        samples[page] = _best(asked, repeats)
        filling.use(MANY)
        scans[page] = filling.scans(_statements(asked))
    grown = {page: many.wall_seconds / few.wall_seconds for page, (many, few) in samples.items()}
    worst = max(grown, key=lambda page: grown[page])
    read_whole = [f"{page}: {statement}" for page, found in scans.items() for statement in found]
    many, few = samples[worst]
    return Result(
        f"{theme}, {sizes}",
        against,
        # A table that is read from end to end is a miss at any size.
        grown[worst] if not read_whole else max(grown[worst], 99.0),
        MAX_GROWTH,
        figures={
            "worst": worst,
            "grew_ms": round(many.wall_ms - few.wall_ms, 2),
            "ours": _figures(many),
            "floor": _figures(few),
            "pages": {page: round(grew, 3) for page, grew in grown.items()},
        },
        ours=[many],
        against=[few],
        note=f"reads a whole table: {'; '.join(read_whole)}" if read_whole else "no sequential scan",
    )


def _best(asked: Asked, repeats: int) -> tuple[Sample, Sample]:
    """The best of `repeats` with many and with few rows; of up to twelve times as many while it seems to have grown."""
    best: dict[str, Sample] = {}
    for turn in range(repeats * 12 + 1):
        for name in (FEW, MANY) if turn % 2 else (MANY, FEW):
            filling.use(name)
            sample = _timed(asked, name)
            # The first of each fills the caches.
            if turn and (name not in best or sample.wall_seconds < best[name].wall_seconds):
                best[name] = sample
        if turn >= repeats and best[MANY].wall_seconds <= best[FEW].wall_seconds * MAX_GROWTH:
            break
    return best[MANY], best[FEW]


def _figures(sample: Sample) -> dict[str, float]:
    cpu_ms = round(sample.cpu_seconds * 1000, 2)
    return {"wall_ms": round(sample.wall_ms, 2), "cpu_ms": cpu_ms, "database_cpu_ms": 0.0, "peak_mib": 0.0}


def _timed(asked: Asked, name: str) -> Sample:
    if asked.prepare is not None:
        asked.prepare(name)
    cpu, began = time.process_time(), time.perf_counter()
    asked.ask(name)
    return Sample(1, time.perf_counter() - began, time.process_time() - cpu)


def _statements(asked: Asked) -> list[str]:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    if asked.prepare is not None:
        asked.prepare(MANY)
    with CaptureQueriesContext(connection) as queries:
        asked.ask(MANY)
    return [query["sql"] for query in queries]


def _driving(licenses: dict[str, list[int]]) -> dict[str, Asked]:
    from django_kpwa.dispatch import drive
    from django_kpwa.gateway import locmem

    def prepare(name: str) -> None:
        queue_messages(licenses[name][:1], 1)
        locmem.clear()

    def one_message(name: str) -> None:
        assert drive(licenses[name][0]).attempts == 1

    return {"one message driven": Asked(one_message, prepare)}


def _sweeps(licenses: dict[str, list[int]]) -> dict[str, Asked]:
    from django_kpwa import webhooks
    from django_kpwa.dispatch import sweep

    def queue(name: str) -> None:
        filling.execute("DELETE FROM django_kpwa_outboundmessage WHERE status = 'queued'")
        queue_messages(licenses[name], 2)

    def little_due(name: str) -> None:
        assert len(sweep().license_ids) == len(licenses[name])

    def store_event(name: str) -> None:
        filling.execute(
            "UPDATE django_kpwa_webhookevent SET status = 'pending', next_try_at = now(), processed_at = NULL "
            "WHERE id = (SELECT max(id) FROM django_kpwa_webhookevent)"
        )

    def event_due(name: str) -> None:
        assert webhooks.process_due_events() == 1

    return {
        "little due": Asked(little_due, queue),
        "webhooks, nothing due": Asked(lambda name: webhooks.process_due_events()),
        "webhooks, one due": Asked(event_due, store_event),
    }


def _client(name: str) -> Any:
    from django.contrib.auth import get_user_model
    from django.test import Client

    filling.use(name)
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("boss"))
    return client


def _get(client: Any, url: str) -> None:
    answer = client.get(url)
    # No worker runs here, which the health address reports with 503.
    assert answer.status_code in (200, 503), (url, answer.status_code)
