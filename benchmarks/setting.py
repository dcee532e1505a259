"""Shared parts of the rows: a database with the app in it, a stub gateway, licenses, and queued messages."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from .processes import started
from .servers import address, database

if TYPE_CHECKING:
    from django_kpwa.models import OutboundMessage


@contextlib.contextmanager
def site(
    kind: str,
    row: str,
    *,
    gateway_url: str = "",
    apps: str = "",
    kpwa: dict[str, Any] | None = None,
    broker: str = "redis",
) -> Iterator[None]:
    """Set Django up on a fresh, migrated database of `kind`; once per process. Workers inherit its environment."""
    with database(kind, row) as url:
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "benchmarks.site.settings",
            "DATABASE_URL": url,
            "BENCH_BROKER_URL": address(broker),
            "BENCH_GATEWAY_URL": gateway_url or "http://127.0.0.1:9",
            "BENCH_APPS": apps,
            "BENCH_KPWA": json.dumps(kpwa or {}),
        }
        import django
        from django.core.management import call_command
        from django.db import connections

        import benchmarks.site.celery_app  # noqa: F401 - as the site's own __init__ would

        django.setup()
        # The peers' app has no migrations.
        call_command("migrate", run_syncdb=True, verbosity=0)
        try:
            yield
        finally:
            connections.close_all()


@contextlib.contextmanager
def stub_gateway(latency_ms: float = 0.0) -> Iterator[str]:
    """The URL of a stub gateway in a separate process."""
    port = free_port()
    with started(["-m", "benchmarks.gateway", str(port), str(latency_ms)], ready="gateway ready"):
        yield f"http://127.0.0.1:{port}"


def sent_count(gateway_url: str) -> int:
    return int(_asked(gateway_url, "/count"))


def sent_times(gateway_url: str) -> list[float]:
    """The times at which the gateway was asked to send, by this machine's clock."""
    return list(_asked(gateway_url, "/times"))


def distinct_count(gateway_url: str) -> int:
    """Number of sends with different recipients or texts. It is the number of all sends if nothing was sent twice."""
    return int(_asked(gateway_url, "/distinct"))


def reset_gateway(gateway_url: str) -> None:
    _asked(gateway_url, "/reset")


def steady_rate(times: list[float]) -> float:
    """Sends per second between the first and the last tenth of them, while everything is running."""
    times = sorted(times)
    edge = len(times) // 10
    return (len(times) - 2 * edge - 1) / (times[len(times) - 1 - edge] - times[edge])


def _asked(gateway_url: str, path: str) -> Any:
    with urllib.request.urlopen(gateway_url + path, timeout=10) as answer:
        return json.load(answer)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def licenses(count: int, gateway_url: str = "") -> list[int]:
    """Add `count` linked licenses with no reason to wait, and return their ids.

    Each has written to `NUMBER` before, as to most customers of a shop: the row `recipients` measures first messages.
    `gateway_url`: a gateway other than the site's.
    """
    from django.utils import timezone

    from django_kpwa.models import Lane, License, Recipient, Registration

    model = License(name="template", base_url=gateway_url)
    model.set_api_key("a-key-of-the-benchmarks")
    have = License.objects.count()
    rows = [
        License(
            name=f"Outlet {have + n}",
            api_key_ciphertext=model.api_key_ciphertext,
            api_key_version=1,
            base_url=gateway_url,
        )
        for n in range(count)
    ]
    made = License.objects.bulk_create(rows, batch_size=1000)
    Lane.objects.bulk_create(
        [
            Lane(
                license_id=row.pk,
                session_status="connected",
                confirmed_number=NUMBER,
                linked_number=NUMBER,
            )
            for row in made
        ],
        batch_size=1000,
    )
    known = {"number": NUMBER, "registered": Registration.YES}
    known |= dict.fromkeys(("first_sent_at", "last_sent_at", "checked_at"), timezone.now())
    Recipient.objects.bulk_create([Recipient(license_id=row.pk, **known) for row in made], batch_size=1000)
    return [row.pk for row in made]


NUMBER = "6281234567890"
TEXT = "Toko Sederhana\nStruk {n}\n" + "2 x Kopi Susu Gula Aren    Rp 36.000\n" * 8 + "Terima kasih!"


def queue_messages(license_ids: list[int], each: int) -> None:
    """Queue `each` due messages for every license; no two of them are alike."""
    from django.utils import timezone

    from django_kpwa.models import OutboundMessage

    now = timezone.now()
    rows = (_message(license_id, n, now) for license_id in license_ids for n in range(each))
    while batch := list(islice(rows, 1000)):
        OutboundMessage.objects.bulk_create(batch)


def _message(license_id: int, n: int, now: datetime, **columns: Any) -> OutboundMessage:
    from django_kpwa.models import OutboundMessage

    return OutboundMessage(
        license_id=license_id,
        recipient=NUMBER,
        text=TEXT.format(n=f"{license_id}-{n}"),
        created_at=now,
        due_at=now,
        **{"recipient_typed": "0812 3456 7890", **columns},
    )


HISTORY = 5_000
"""Messages that were sent before, so that no table is empty and the database has statistics about them."""
_BEFORE = "sent before"


def refill(license_ids: list[int], each: int) -> None:
    """Messages that were sent before, created once, and only `each` due messages for every license."""
    from django.db import connection

    from django_kpwa.models import OutboundMessage, SendAttempt

    messages = OutboundMessage.objects.exclude(recipient_typed=_BEFORE)
    SendAttempt.objects.filter(message__in=messages.values("pk"))._raw_delete(connection.alias)
    messages._raw_delete(connection.alias)
    if not OutboundMessage.objects.exists():
        _add_history(license_ids[0], HISTORY)
    queue_messages(license_ids, each)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("VACUUM ANALYZE django_kpwa_outboundmessage, django_kpwa_sendattempt, django_kpwa_lane")
        elif connection.vendor == "sqlite":
            cursor.execute("ANALYZE")
        else:
            cursor.execute("ANALYZE TABLE django_kpwa_outboundmessage, django_kpwa_sendattempt")
            cursor.fetchall()


def _add_history(license_id: int, count: int) -> None:
    from django.utils import timezone

    from django_kpwa.models import OutboundMessage, SendAttempt

    now = timezone.now()
    sent = {"status": "sent", "attempts_made": 1, "attempts_spent": 1, "sent_at": now, "settled_at": now}
    messages = OutboundMessage.objects.bulk_create(
        (_message(license_id, n, now, recipient_typed=_BEFORE, **sent) for n in range(count)), batch_size=1000
    )
    if messages[0].pk is None:
        messages = list(OutboundMessage.objects.only("pk"))
    SendAttempt.objects.bulk_create(
        (
            SendAttempt(
                message_id=row.pk, number=1, started_at=now, finished_at=now, outcome="accepted", gateway_id=f"h{n}"
            )
            for n, row in enumerate(messages)
        ),
        batch_size=1000,
    )


def empty() -> None:
    """Delete every message and event, and the database's statistics about them."""
    from django.db import connection

    tables = ("django_kpwa_sendattempt", "django_kpwa_webhookevent", "django_kpwa_outboundmessage")
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"TRUNCATE {', '.join(tables)}")
            return
        for table in tables:
            cursor.execute(f"DELETE FROM {table}")


def wake(license_ids: list[int]) -> None:
    """Publish a drive of each lane, as a sale's commit does."""
    from django_kpwa.wake import publish_dispatch

    for license_id in license_ids:
        assert publish_dispatch(license_id), "the broker did not take it"


def empty_queue() -> None:
    """Delete all waiting messages of the site's queue, on any broker."""
    from .site.celery_app import app

    with app.connection_for_write() as connection, connection.channel() as channel:
        queue = app.amqp.queues[app.conf.task_default_queue](channel)
        queue.declare()
        queue.purge()


def is_at_rest() -> bool:
    """True if everything is sent and no lane is driven."""
    from django_kpwa.models import Lane, OutboundMessage

    return not (
        OutboundMessage.objects.exclude(status="sent").exists() or Lane.objects.exclude(lease_token=None).exists()
    )


def until(is_so: Callable[[], bool], seconds: float = 600.0, every: float = 0.02) -> None:
    """Wait until `is_so()` is true. It is polled from outside and seldom, so that the polling is not measured."""
    gives_up_at = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < gives_up_at, "the condition did not become true in time"
        time.sleep(every)
