"""What the list of messages costs with 10,000 and with 1,000,000 of them: it should be the same.

    DATABASE_URL=postgres://…/scratch python benchmarks/messages.py

It empties and fills the messages of that database, which must be PostgreSQL and named `…scratch`; nothing else may use
it. Prints the best of several requests of each page at both sizes, and fails where one grew by more than 30 % and 5 ms.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

import django

django.setup()

from django.contrib.auth import get_user_model  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.test import Client  # noqa: E402

from django_kpwa.models import License  # noqa: E402

SIZES = (10_000, 1_000_000)
REPEATS = 15
GROWTH = 1.3
NOISE_SECONDS = 0.005
LIST = "/admin/django_kpwa/outboundmessage/"
PAGES = {
    "list": "",
    "deepest page": "?p=200",
    "in doubt, all of them old": "?needs_decision=yes",
    "failed": "?status__exact=failed",
    "one license": "?license__id__exact={license}",
    "one license, failed": "?license__id__exact={license}&status__exact=failed",
    "groups, none": "?recipient_type__exact=group",
    "the last 7 days": "?when=7",
    "number": "?q=0812-0000-0777",
    "idempotency key": "?q=order-777",
    "gateway id": "?q=gateway-777",
}
MESSAGES = """
INSERT INTO django_kpwa_outboundmessage (uuid, license_id, recipient_type, recipient_typed, recipient, text, image_url,
  renderer, idempotency_key, idempotency_digest, priority, created_at, due_at, source_id, status, reason, reason_words,
  attempts_made, attempts_spent, in_doubt, settled_at)
SELECT gen_random_uuid(), (%(licenses)s)[1 + n %% 3], 'number', '0812',
  '62812' || lpad((n %% (%(size)s / 5))::text, 8, '0'),
  'Struk ' || n || E'\\n' || repeat('Kopi Rp 18.000 ', 30), '', '', 'order-' || n,
  encode(sha256(('order-' || n)::bytea), 'hex'),
  50, now() - interval '1 minute' * (%(size)s - n), now(), '',
  CASE WHEN n <= 60 THEN 'unknown' WHEN n > %(size)s - 10000 AND n %% 50 = 1 THEN 'failed' ELSE 'sent' END,
  '', '', 1, 1, n <= 60, now()
FROM generate_series(1, %(size)s) n
"""
ATTEMPTS = """
INSERT INTO django_kpwa_sendattempt (message_id, number, started_at, outcome, cause, code, words, gateway_id, read_as,
  gateway_created_at)
SELECT id, 1, created_at, 'accepted', '', '', '', replace(idempotency_key, 'order', 'gateway'), '', ''
FROM django_kpwa_outboundmessage
"""


def main() -> int:
    if connection.vendor != "postgresql" or not str(connection.settings_dict["NAME"]).endswith("scratch"):
        print("DATABASE_URL must name a PostgreSQL database whose name ends in 'scratch'.")
        return 2
    call_command("migrate", verbosity=0)
    few, many = (measured(size) for size in SIZES)
    grown = [name for name in PAGES if many[name] > max(few[name] * GROWTH, few[name] + NOISE_SECONDS)]
    print(f"{'':28}{SIZES[0]:>12,}{SIZES[1]:>12,}")
    for name in PAGES:
        mark = "  GREW" if name in grown else ""
        print(f"{name:28}{few[name] * 1000:9.1f} ms{many[name] * 1000:9.1f} ms  ×{many[name] / few[name]:.2f}{mark}")
    return 1 if grown else 0


def measured(size: int) -> dict[str, float]:
    """Seconds that each page takes with `size` messages."""
    licenses = [_license(name) for name in ("A", "B", "C")]
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE django_kpwa_outboundmessage CASCADE")
        cursor.execute(MESSAGES, {"licenses": licenses, "size": size})
        cursor.execute(ATTEMPTS)
        cursor.execute("VACUUM ANALYZE")
    client = Client()
    client.force_login(get_user_model().objects.get_or_create(username="boss", is_staff=True, is_superuser=True)[0])
    return {name: _best(client, LIST + query.format(license=licenses[0])) for name, query in PAGES.items()}


def _license(name: str) -> int:
    row = License.objects.filter(name=name).first() or License(name=name)
    row.set_api_key("a-key-of-the-benchmark")
    row.save()
    return row.pk


def _best(client: Client, address: str) -> float:
    best = float("inf")
    for _ in range(REPEATS):
        began = time.perf_counter()
        assert client.get(address).status_code == 200, address
        best = min(best, time.perf_counter() - began)
    return best


if __name__ == "__main__":
    sys.exit(main())
