"""Processing stored delivery ticks: time and CPU for one of a burst, compared with the least code that does it.

The floor is a loop over psycopg alone, in autocommit: claim an event, read its JSON, find the message that has that id,
move it, record the event. It knows one spelling of a tick where ours knows many, and stores nothing of what it read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from benchmarks import filling
from benchmarks.processes import Watched
from benchmarks.result import Result, Sample, Scale, in_turn, worse_of_both
from benchmarks.setting import empty, licenses, queue_messages, site

LOCMEM = {"GATEWAY": "django_kpwa.gateway.locmem.LocmemGateway"}


def measure(scale: Scale) -> list[Result]:
    count = scale.of(3000, 300, 50)
    with site("postgres", "ticks", kpwa=LOCMEM):
        from django_kpwa.webhooks import process_due_events

        (license_id,) = licenses(1)
        filling.link_to_locmem()
        mine, least = in_turn(
            scale.repeats,
            lambda: _processed(license_id, count, process_due_events),
            lambda: _processed(license_id, count, psycopg_loop),
        )
    floor = "claim, read, find, move, record: psycopg in autocommit"
    return [worse_of_both(f"{count:,} delivery ticks of a burst, processed", floor, mine, least, 2.0)]


def psycopg_loop() -> int:
    import psycopg

    url = os.environ["DATABASE_URL"].replace("postgres://", "postgresql://", 1)
    processed = 0
    with psycopg.connect(url, autocommit=True) as connection:
        while True:
            row = connection.execute(
                "UPDATE django_kpwa_webhookevent SET tries = tries + 1, next_try_at = now() + interval '60 s' "
                "WHERE id = (SELECT id FROM django_kpwa_webhookevent WHERE next_try_at <= now() "
                "ORDER BY next_try_at LIMIT 1) AND next_try_at <= now() RETURNING id, license_id, body"
            ).fetchone()
            if row is None:
                return processed
            event_id, license_id, body = row
            read = json.loads(bytes(body))
            found = connection.execute(
                "SELECT message.id FROM django_kpwa_sendattempt attempt JOIN django_kpwa_outboundmessage message "
                "ON message.id = attempt.message_id WHERE attempt.gateway_id = %s AND message.license_id = %s",
                (read["id"], license_id),
            ).fetchone()
            assert found is not None
            connection.execute(
                "UPDATE django_kpwa_outboundmessage SET status = 'delivered', delivered_at = now() "
                "WHERE id = %s AND status = 'sent'",
                found,
            )
            connection.execute(
                "UPDATE django_kpwa_webhookevent SET status = 'processed', processed_at = now(), next_try_at = NULL, "
                "gateway_id = %s, message_id = %s WHERE id = %s",
                (read["id"], found[0], event_id),
            )
            processed += 1


def _processed(license_id: int, count: int, process: Callable[[], int]) -> Sample:
    from django.db import connection

    from django_kpwa.dispatch import drive
    from django_kpwa.models import OutboundMessage, SendAttempt
    from django_kpwa.webhooks.arrivals import store_event

    empty()
    queue_messages([license_id], count)
    while drive(license_id).has_more:
        pass
    for gateway_id in SendAttempt.objects.values_list("gateway_id", flat=True):
        body = json.dumps({"event": "message.status", "id": gateway_id, "status": "delivered"}).encode()
        store_event(license_id, body, "application/json")
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE django_kpwa_outboundmessage, django_kpwa_sendattempt, django_kpwa_webhookevent")
    with Watched(database="postgres") as watched:
        assert process() == count
    assert OutboundMessage.objects.filter(status="delivered").count() == count
    return watched.sample(count)
