"""The webhook's view with 8 connections, compared with a bare view with JSON parsing and one INSERT … ON CONFLICT.

Both have the same server (gunicorn, two processes of four threads, connections kept alive), the same table, a different
body each time, a running broker and no worker. The floor checks no secret, counts no repeats and notifies nobody.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.processes import ROOT, Watched, started
from benchmarks.result import Result, Sample, Scale, compared, in_turn, result_of
from benchmarks.servers import empty_redis
from benchmarks.setting import empty, free_port, licenses, site

CONNECTIONS = 8
WARM_UP = 80


def measure(scale: Scale) -> list[Result]:
    requests = scale.of(8000, 800, 160)
    empty_redis()
    with site("postgres", "webhook"):
        (license_id,) = licenses(1)
        latencies: dict[str, list[float]] = {"ours": [], "floor": []}
        with gunicorn() as (pid, port):

            def posted(side: str, path: str) -> Sample:
                empty()
                load(port, path, WARM_UP)
                with Watched([pid], database="postgres") as watched:
                    seconds, taken = load(port, path, requests)
                latencies[side] += taken
                sample = watched.sample(requests)
                return Sample(requests, seconds, sample.cpu_seconds, sample.database_cpu_seconds, sample.peak_mib)

            ours_path, floor_path = f"/kpwa/webhooks/{token(license_id)}/", f"/bare/{license_id}/"
            mine, least = in_turn(scale.repeats, lambda: posted("ours", ours_path), lambda: posted("floor", floor_path))
    p99 = {side: statistics.quantiles(taken, n=100)[98] * 1000 for side, taken in latencies.items()}
    return [
        result_of(
            f"webhook view, {CONNECTIONS} connections: requests a second",
            "a bare view: JSON parsed, one INSERT … ON CONFLICT",
            mine,
            least,
            lambda sample: 1 / sample.wall_ms,
            0.7,
            ">=",
            note=f"p99 {p99['ours']:.1f} against {p99['floor']:.1f} ms; "
            f"CPU {compared(mine, least, lambda sample: sample.cpu_ms):.2f} ×",
        )
    ]


def token(license_id: int) -> str:
    """A webhook's token, as its registration creates it."""
    from django.utils import timezone

    from django_kpwa.license_actions import token_digest
    from django_kpwa.models import WebhookToken

    secret = "a-token-of-the-benchmarks"
    WebhookToken.objects.create(
        license_id=license_id, digest=token_digest(secret), created_at=timezone.now(), registered_at=timezone.now()
    )
    return secret


@contextlib.contextmanager
def gunicorn() -> Iterator[tuple[int, int]]:
    """A web server of the site; gives its process and its port."""
    port = free_port()
    options = ["--worker-class", "gthread", "--workers", "2", "--threads", "4", "--keep-alive", "30"]
    with started(
        ["-m", "gunicorn", "benchmarks.site.wsgi", "--bind", f"127.0.0.1:{port}", *options], ready="Booting worker"
    ) as process:
        yield process.pid, port


def load(port: int, path: str, requests: int) -> tuple[float, list[float]]:
    """Post from a process that is not measured; returns the seconds that it took, and those of each request."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", str(port), path, str(CONNECTIONS), str(requests)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    said = json.loads(done.stdout)
    return said["seconds"], said["taken"]
