"""Drives one lane through the in-memory gateway: `python -m benchmarks.steady_sender LICENSE SECONDS FILE`.

Writes the number of messages that went out in that time and the longest wait between two of them, in seconds, as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import pairwise
from pathlib import Path

import django

django.setup()

from django_kpwa.dispatch import drive  # noqa: E402
from django_kpwa.gateway.locmem import LocmemGateway  # noqa: E402

sent_at: list[float] = []


class NotingGateway(LocmemGateway):
    """Records when each message was sent."""

    def _send(self, *arguments: str):
        sent_at.append(time.monotonic())
        return super()._send(*arguments)


def main(license_id: int, seconds: float, file: Path) -> None:
    # Warm: connected, the key decrypted, the lane linked.
    drive(license_id, should_stop=lambda: len(sent_at) > 5)
    sent_at.clear()
    print("sending", flush=True)
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        driven = drive(license_id, should_stop=lambda: time.monotonic() >= ends_at)
        assert driven.attempts, "the queue ran empty"
    longest = max((later - earlier for earlier, later in pairwise(sent_at)), default=seconds)
    file.write_text(json.dumps({"sent": len(sent_at), "seconds": seconds, "longest": longest}))


if __name__ == "__main__":
    from benchmarks import steady_sender

    # As the settings name it: the gateway's module must be this one, and not a second copy.
    steady_sender.main(int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]))
