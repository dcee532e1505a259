"""A till of the site: it queues a message at intervals, each in its own transaction, and counts them.

    python -m benchmarks.site.till NAME SECONDS EVERY_SECONDS

Prints how many it queued. An error ends it with its traceback.
"""

from __future__ import annotations

import sys
import time

import django


def main(name: str, seconds: float, every: float) -> int:
    import benchmarks.site.celery_app  # noqa: F401 - as the site's own __init__ would

    django.setup()

    from django.db import transaction

    from benchmarks.setting import TEXT
    from django_kpwa.models import License
    from django_kpwa.outbox import send_message

    licenses = list(License.objects.order_by("pk"))
    ends_at = time.monotonic() + seconds
    count = 0
    while time.monotonic() < ends_at:
        with transaction.atomic():
            send_message("0812 3456 7890", TEXT.format(n=f"{name}-{count}"), license=licenses[count % len(licenses)])
        count += 1
        time.sleep(every)
    print(f"till {name} queued {count}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3])))
