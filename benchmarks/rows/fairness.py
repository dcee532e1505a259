"""A big license beside small ones: the time until 100 licenses have sent one message each, with and without it.

It is compared with itself without the big one, in two settings. The first has threads, our advice for a gateway that
takes 200 ms. The second has two processes and a gateway that takes no time, where the big license fills one of the two.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence

from benchmarks.processes import celery_worker
from benchmarks.result import Result, Sample, Scale, in_turn, result_of
from benchmarks.servers import empty_redis
from benchmarks.setting import licenses, queue_messages, sent_count, site, stub_gateway, until, wake

SMALL = 100


def measure(scale: Scale) -> list[Result]:
    waiting = scale.of(50_000, 1_500, 1000)
    with stub_gateway() as quick, stub_gateway(200.0) as slow, site("postgres", "fairness", gateway_url=slow):
        (big, *small) = licenses(1 + SMALL)
        queue_messages([big], waiting)
        name = f"{SMALL} licenses with one message beside one with {waiting:,}"

        def measured(gateway: str, setting: str, *options: str) -> Result:
            with_it, without = _measured(scale, big, small, gateway, options)
            return result_of(
                f"fairness, {setting}: {name}: time until they are sent",
                "the same 100 licenses alone",
                with_it,
                without,
                lambda sample: sample.wall_seconds,
                1.3,
            )

        return [
            measured(slow, "16 threads, 200 ms gateway", "--pool=threads", "--concurrency=16"),
            measured(quick, "2 processes, 0 ms gateway", "--pool=prefork", "--concurrency=2"),
        ]


def _measured(
    scale: Scale, big: int, small: list[int], gateway: str, options: Sequence[str]
) -> tuple[list[Sample], ...]:
    empty_redis()
    with celery_worker(*options, BENCH_GATEWAY_URL=gateway):
        _sent(small)

        def beside() -> Sample:
            _let_go(big, is_active=True)
            before = sent_count(gateway)
            wake([big])
            until(lambda: sent_count(gateway) > before)
            sample = _sent(small)
            _let_go(big, is_active=False)
            return sample

        return in_turn(scale.repeats, beside, lambda: _sent(small))


def _sent(license_ids: list[int]) -> Sample:
    """Send one message per license: measured from their wake-ups to the last one's record."""
    from django.db.models import Max

    from django_kpwa.models import OutboundMessage, SendAttempt

    messages = OutboundMessage.objects.filter(license_id__in=license_ids)
    SendAttempt.objects.filter(message__in=messages).delete()
    messages.delete()
    queue_messages(license_ids, 1)
    began_at = datetime.datetime.now(tz=datetime.timezone.utc)
    wake(license_ids)
    until(lambda: messages.filter(status="sent").count() == len(license_ids), every=0.1)
    ended_at = messages.aggregate(last=Max("sent_at"))["last"]
    return Sample(len(license_ids), (ended_at - began_at).total_seconds())


def _let_go(license_id: int, *, is_active: bool) -> None:
    """Let the big license send, or stop it and wait until its driver has left."""
    from django_kpwa.models import Lane, License

    License.objects.filter(pk=license_id).update(is_active=is_active)
    if not is_active:
        until(lambda: Lane.objects.filter(pk=license_id, lease_token=None).exists(), seconds=30)
        time.sleep(0.2)
