"""`send_message()` inside a site's transaction, with commit and wake-up, compared with the least code for the job.

The floor is one INSERT of the same row, written out, in a transaction, and one Celery publish after it. There is one
license and no worker: each message is the first since a driver last looked at the lane, so each one publishes. (A
license whose wake-up is still pending costs less: see the row `storm`.)
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from itertools import count

from benchmarks.processes import Watched
from benchmarks.result import Result, Sample, Scale, in_turn, worse_of_both
from benchmarks.servers import empty_redis
from benchmarks.setting import TEXT, empty, licenses, site

COLUMNS = (
    "uuid", "license_id", "recipient_type", "recipient_typed", "recipient", "text", "image_url", "renderer",
    "idempotency_key", "idempotency_digest", "priority", "created_at", "due_at", "source_id", "status", "reason",
    "reason_words", "attempts_made", "attempts_spent", "in_doubt",
)  # fmt: skip
INSERT = f"INSERT INTO django_kpwa_outboundmessage ({', '.join(COLUMNS)}) VALUES ({', '.join(['%s'] * len(COLUMNS))})"
MAX_RATIO = {"postgres": 1.3, "mariadb": 1.5, "sqlite": 1.5}

_numbers = count(1)


def measure(scale: Scale) -> list[Result]:
    return measured_on("postgres", scale)


def measured_on(kind: str, scale: Scale) -> list[Result]:
    calls = scale.of(4000, 150, 50)
    with site(kind, f"send_{kind}"):
        (license_id,) = licenses(1)
        results = []
        for name, key in (("without a key", ""), ("with an idempotency key", "sale-")):

            def ours(key: str = key) -> Sample:
                return _timed(kind, calls, lambda n: send(n, key and f"{key}{n}"))

            def floor(key: str = key) -> Sample:
                return _timed(kind, calls, lambda n: insert_and_publish(license_id, n, key and f"{key}{n}"))

            mine, least = in_turn(scale.repeats, ours, floor)
            results.append(
                worse_of_both(
                    f"send_message() {name}, {kind}",
                    "one INSERT of the same row in a transaction + one Celery publish",
                    mine,
                    least,
                    MAX_RATIO[kind],
                )
            )
    return results


def send(n: int, key: str) -> None:
    from django.db import transaction

    from django_kpwa import wake
    from django_kpwa.outbox import send_message

    wake.publisher._on_their_way.clear()
    with transaction.atomic():
        send_message(f"0812 {n % 10_000_000:08d}", TEXT.format(n=n), idempotency_key=key or None)


def insert_and_publish(license_id: int, n: int, key: str) -> None:
    from django.db import connection, transaction
    from django.utils import timezone

    from benchmarks.site.celery_app import app
    from django_kpwa.models import idempotency_digest

    now = timezone.now()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            INSERT,
            (
                uuid.uuid4() if connection.vendor == "postgresql" else uuid.uuid4().hex,
                license_id, "number", f"0812 {n % 10_000_000:08d}", f"62812{n % 10_000_000:08d}", TEXT.format(n=n), "",
                "", key, idempotency_digest(key) if key else None, 50, now, now, "", "queued", "", "", 0, 0, False,
            ),
        )  # fmt: skip
    app.send_task("django_kpwa.dispatch_license", (license_id,), ignore_result=True)


def _timed(kind: str, calls: int, call: Callable[[int], None]) -> Sample:
    empty()
    empty_redis()
    for _ in range(20):
        call(next(_numbers))
    with Watched(database=kind) as watched:
        for _ in range(calls):
            call(next(_numbers))
    return watched.sample(calls)
