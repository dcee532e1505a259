"""Tables of different sizes, side by side in one PostgreSQL database: a schema for each, filled by the server itself.

There is one message a minute, the newest now, each with its attempt and three webhook events. 60 of the oldest and 60
of the newest messages wait for a decision, and every fiftieth of the newest 10,000 failed. So the small table is the
newest part of the large one: a page shows the same in both, and only the rows that it must not read differ.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from .setting import licenses

LARGE_TABLES = tuple(f"django_kpwa_{name}" for name in ("outboundmessage", "sendattempt", "webhookevent", "recipient"))

MESSAGES = """
INSERT INTO django_kpwa_outboundmessage (uuid, license_id, recipient_type, recipient_typed, recipient, text, image_url,
  renderer, idempotency_key, idempotency_digest, priority, created_at, due_at, source_id, status, reason, reason_words,
  attempts_made, attempts_spent, in_doubt, settled_at, sent_at, dismissed_at)
SELECT gen_random_uuid(), (%(licenses)s)[1 + n %% %(license_count)s], 'number', '0812',
  '62812' || lpad((n %% (%(size)s / 5))::text, 8, '0'),
  'Struk ' || n || E'\\n' || repeat('Kopi Rp 18.000 ', 30), '', '', 'order-' || n,
  encode(sha256(('order-' || n)::bytea), 'hex'), 50, at - interval '7 seconds', at, '',
  status, '', '', 1, 1, status = 'unknown', at, CASE WHEN status = 'sent' THEN at END, NULL
FROM (
  SELECT n, now() - interval '1 minute' * (%(size)s - n) - %(age)s::interval AS at,
    CASE WHEN n <= 60 OR n > %(size)s - 60 THEN 'unknown'
      WHEN n > %(size)s - 10000 AND n %% 50 = 1 THEN 'failed' ELSE 'sent' END AS status
  FROM generate_series(1, %(size)s) n
) dated
"""
ATTEMPTS = """
INSERT INTO django_kpwa_sendattempt (message_id, number, started_at, outcome, cause, code, words, gateway_id, read_as,
  gateway_created_at)
SELECT id, 1, created_at, 'accepted', '', '', '', replace(idempotency_key, 'order', 'gateway'), '', ''
FROM django_kpwa_outboundmessage
"""
# Three events per message: it was delivered, it was read, and the customer answered. The oldest 60 are unrecognised.
EVENTS = """
INSERT INTO django_kpwa_webhookevent (uuid, license_id, body, content_type, digest, received_at, last_received_at,
  times_received, status, tries, processed_at, kind, understood, sender_number, gateway_id, message_id, error)
SELECT gen_random_uuid(), message.license_id, 'x'::bytea, 'application/json',
  encode(sha256((message.id || '-' || part)::bytea), 'hex'),
  message.created_at + part * interval '9 seconds', message.created_at + part * interval '9 seconds', 1,
  CASE WHEN message.status = 'unknown' THEN 'unrecognised' ELSE 'processed' END, 1, message.created_at,
  CASE part WHEN 3 THEN 'incoming' ELSE 'state' END, '{}', CASE part WHEN 3 THEN message.recipient ELSE '' END,
  CASE part WHEN 3 THEN '' ELSE replace(message.idempotency_key, 'order', 'gateway') END, message.id, ''
FROM django_kpwa_outboundmessage message, generate_series(1, 3) part
"""
BACKLOG = """
INSERT INTO django_kpwa_outboundmessage (uuid, license_id, recipient_type, recipient_typed, recipient, text, image_url,
  renderer, idempotency_key, priority, created_at, due_at, source_id, status, reason, reason_words, attempts_made,
  attempts_spent, in_doubt)
SELECT gen_random_uuid(), %(license)s, 'number', '0812', '6281234567890', 'Struk ' || n, '', '', '', 50, now(), now(),
  '', 'queued', '', '', 0, 0, false
FROM generate_series(1, %(size)s) n
"""
STATISTICS = """
INSERT INTO django_kpwa_hourlystatistic (license_id, hour, sent, failed, unknown, cancelled, expired, queued_to_sent)
SELECT license_id, date_trunc('hour', now()) - interval '1 hour' * h, 20, 0, 0, 0, 0, '[0,2,8,6,3,1,0,0,0,0,0,0]'
FROM unnest(%(licenses)s) license_id, generate_series(1, 24 * 40) h
"""

RECIPIENTS = """
INSERT INTO django_kpwa_recipient (license_id, number, first_sent_at, last_sent_at, last_inbound_at,
  sent_since_inbound, lid, stop_reason, stopped_at, decided_at)
SELECT %(license)s, concat('62812', lpad(cast(n AS char(8)), 8, '0')), now(), now(), CASE WHEN n < 1000 THEN now() END,
  1, '', '', CASE WHEN n > 0.99 * %(size)s THEN now() END, CASE WHEN n > 0.99 * %(size)s THEN now() END
FROM {numbers}
"""


def schema(name: str, license_count: int) -> list[int]:
    """Create a schema with the app's tables, and use it. Returns its licenses, for the in-memory gateway."""
    from django.core.management import call_command

    from django_kpwa.models import Heartbeat

    execute(f"CREATE SCHEMA {name}")
    use(name)
    call_command("migrate", verbosity=0)
    Heartbeat.objects.note("sweep")
    license_ids = licenses(license_count)
    link_to_locmem()
    return license_ids


def link_to_locmem() -> None:
    """Every license is linked to the in-memory gateway's number; one that sends from another phone would be paused."""
    from django_kpwa.gateway.locmem import LINKED_NUMBER
    from django_kpwa.models import Lane

    Lane.objects.update(linked_number=LINKED_NUMBER, confirmed_number=LINKED_NUMBER)


def use(name: str) -> None:
    """Use this schema for all statements from here on. MariaDB calls a schema a database."""
    from django.db import connection

    execute(f"SET search_path TO {name}" if connection.vendor == "postgresql" else f"USE {name}")


def number(n: int) -> str:
    """The `n`-th of the numbers that messages and recipients have, in digits."""
    return f"62812{n:08}"


def add_recipients(license_id: int, size: int) -> None:
    """Add `size` recipients to a license, from `number(1)` on. The first 999 have just written, the last of each
    hundred wants no messages."""
    from django.db import connection

    is_postgresql = connection.vendor == "postgresql"
    numbers = f"generate_series(1, {size}) n" if is_postgresql else f"(SELECT seq AS n FROM seq_1_to_{size}) numbers"
    execute(RECIPIENTS.format(numbers=numbers), {"license": license_id, "size": size})
    execute("VACUUM ANALYZE django_kpwa_recipient" if is_postgresql else "ANALYZE TABLE django_kpwa_recipient")


def fill(license_ids: list[int], size: int, *, age: str = "0") -> None:
    """Add `size` messages, their attempts and events, the newest of them `age` old (a PostgreSQL interval)."""
    parameters = {"licenses": license_ids, "license_count": len(license_ids), "size": size, "age": age}
    with _unchecked(), _indexes_made_afterwards():
        for statement in (MESSAGES, ATTEMPTS, EVENTS):
            execute(statement, parameters if statement is MESSAGES else None)
    execute(STATISTICS, parameters)
    execute("VACUUM ANALYZE")


@contextlib.contextmanager
def _unchecked() -> Iterator[None]:
    """Do not check foreign keys, which would take most of the time. Only a superuser may do this."""
    execute("SET session_replication_role = replica")
    yield
    execute("SET session_replication_role = DEFAULT")


@contextlib.contextmanager
def _indexes_made_afterwards() -> Iterator[None]:
    """Without its indexes, a large table is filled in a third of the time."""
    made = execute(
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema() AND tablename = ANY(%s) "
        "AND indexname NOT IN (SELECT conname FROM pg_constraint)",
        [list(LARGE_TABLES)],
    )
    for name, _ in made:
        execute(f'DROP INDEX "{name}"')
    yield
    for _, definition in made:
        execute(definition)


def execute(statement: str, parameters: Any = None) -> list[Any]:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


def scans(statements: list[str]) -> list[str]:
    """Return those of `statements` for which PostgreSQL would read one of the large tables from end to end."""
    found: list[str] = []
    # A table that fits into a few pages may be read completely.
    if execute("SELECT reltuples FROM pg_class WHERE oid = to_regclass(%s)", [LARGE_TABLES[0]])[0][0] < 50_000:
        return found
    for statement in statements:
        is_query = statement.lstrip(" (").split(None, 1)[0].upper() in ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")
        if not is_query or not any(table in statement for table in LARGE_TABLES):
            continue
        # Fetching just any first row does not count as reading the table.
        if " WHERE " not in statement and statement.endswith("LIMIT 1"):
            continue
        plan = "\n".join(line for (line,) in execute("EXPLAIN " + statement.replace("%", "%%"), ()))
        if any(f"Seq Scan on {table}" in plan for table in LARGE_TABLES):
            found.append(statement)
    return found
