"""The long part of the campaign: many messages, every fault at once, and kills every few seconds.

    python -m tests.faults.campaign --messages 20000 --seed 1

The seed decides what is broken, when, and how doubts are resolved; it is printed. Process scheduling depends on the
machine, so a seed repeats the random draws but not the exact timing. PostgreSQL and Redis come from wheels, or are
those of `DATABASE_URL` and `REDIS_URL`. The run ends with a summary, and with exit code 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LICENSES = 6
# Rates per request. Faults that need a person afterwards are rarer, because each stops a license until the person acts.
FAULTS = {
    "latency": {"probability": 0.02, "amount": 300},
    "revoked_key": {"probability": 0.0005},
    "logged_out": {"probability": 0.0005},
    "rate_limited_429": {"probability": 0.003, "amount": 1},
    "error_500": {"probability": 0.005},
    "timeout_504_before": {"probability": 0.004},
    "timeout_504_after": {"probability": 0.004},
    "reset_before": {"probability": 0.004},
    "reset_after": {"probability": 0.004},
    "stall_before": {"probability": 0.002, "amount": 20},
    "stall_after": {"probability": 0.002, "amount": 20},
    "drip": {"probability": 0.004, "amount": 3},
    "html_200": {"probability": 0.003},
    "malformed_json_200": {"probability": 0.003},
    "no_id_200": {"probability": 0.003, "operation": "sends"},
    "check_no_once": {"probability": 0.1},
    "check_no": {"probability": 0.2},
    "check_slow": {"probability": 0.05, "amount": 2},
    "no_ticks": {"probability": 0.01},
    "undelivered": {"probability": 0.01},
    "undelivered_wrongly": {"probability": 0.01},
    "suspended": {"probability": 0.2},
    "passkey_asked": {"probability": 0.3},
    "webhook_repeated": {"probability": 0.05},
    "webhook_late": {"probability": 0.02, "amount": 2},
    "webhook_out_of_order": {"probability": 0.05, "amount": 1},
}
NEW_CUSTOMERS = 60
"""Maximum number of new customers per day for one of the licenses, while the faults last."""
RESTRICTIONS = ("restricted_400", "restricted_500", "restricted_tick", "cold_refused_400", "cold_failed_500")
"""Ways in which WhatsApp rejects messages to new customers. Now and then one of them applies for some seconds. The last
two give no reason: they fail messages, or leave them in doubt, until the restriction is recognized."""
RESTRICTION_SECONDS = (3.0, 12.0)
WAITS_SECONDS = (4.0, 8.0, 16.0)
"""Wait after each try of a message to a new customer, not days: a restriction has to end by itself in the run."""
MAX_TRIES = 4
"""Maximum number of messages to new customers that a restriction may reject per license: the first, and three more."""
FAILPOINTS = ("before_claim", "after_check", "after_claim", "mid_post", "before_answer", "after_post", "after_record")
FAILPOINT_RATE = 0.0007
KILL_SECONDS = (2.0, 6.0)
SALE_STATEMENTS = 12
"""The connection is lost before one of this many statements. A sale has slightly fewer, and may keep its connection."""
DEPLOY_SECONDS = (0.5, 4.0)
HELD_SECONDS = (0.5, 8.0)
"""How long a stalled transaction keeps a lane's row locked."""
FROZEN_SECONDS = (0.5, 16.0)
"""Some thaw before their lease of 9 s ends, and some after it."""


def main() -> int:
    options = _parser().parse_args()
    seed = options.seed if options.seed is not None else secrets.randbelow(2**31)
    sys.stdout.write(f"Seed {seed}, {options.messages} messages.\n")
    with site():
        from .mayhem import Mayhem

        with tempfile.TemporaryDirectory(prefix="kpwa-campaign-") as folder, _phone(seed) as phone:
            mayhem = Mayhem(Path(folder), phone, random.Random(seed), seed)
            began = time.monotonic()
            try:
                mayhem.run(options.messages)
                violations = mayhem.violations()
                sys.stdout.write(mayhem.summary(time.monotonic() - began))
            finally:
                mayhem.close()
    for violation in violations:
        sys.stdout.write(f"VIOLATION {violation}\n")
    sys.stdout.write(f"{len(violations)} violations. Seed {seed}.\n")
    return 1 if violations else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.campaign", description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=20_000, metavar="N")
    parser.add_argument("--seed", type=int, metavar="N", help="repeats the draws of an earlier run")
    return parser


@contextlib.contextmanager
def site() -> Iterator[None]:
    """Set up the test site in this process, on a separate test database."""
    from tests import servers

    servers.begin()
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    os.environ["KPWA_TEST_SETTINGS"] = json.dumps({"DEFAULT_LICENSE": "Toko"})
    import django

    django.setup()
    from django.test.utils import setup_databases, setup_test_environment, teardown_databases

    servers.start_database()
    setup_test_environment()
    made = setup_databases(verbosity=0, interactive=False)
    from django_kpwa.testing import reach_outside

    try:
        with reach_outside():
            yield
    finally:
        _end_sessions()
        teardown_databases(made, verbosity=0)


def _end_sessions() -> None:
    from django.db import connection

    from .mayhem import drop_connections

    with contextlib.suppress(Exception):
        drop_connections()
    connection.close()


def _phone(seed: int) -> Any:
    from tests.sandbox import SandboxProcess

    from .harness import KEY

    licenses = [part for n in range(LICENSES) for part in ("--license", f"{license_name(n)}:{KEY}{n or ''}")]
    return SandboxProcess("--linked", "--seed", str(seed), *licenses)


def license_name(n: int) -> str:
    return f"Toko {n}" if n else "Toko"


if __name__ == "__main__":
    sys.exit(main())
