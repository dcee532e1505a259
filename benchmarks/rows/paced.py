"""A hundred licenses at the default pace, through Celery and through `kpwa run`: CPU per message.

A message of such a license comes alone: between two messages the lane waits for 4 to 8 seconds, in Celery as a task
with a countdown. It is compared with a Celery task per message, in two ways: without a pace, so that all run one after
the other, and at the same pace, so that a message comes alone there too. The tasks at a pace are published with a
countdown. The cost of publishing before the run is not counted for either, as in other rows. Ours has to publish from
the worker, because a pace is only known after a message, and that is counted.
"""

from __future__ import annotations

from benchmarks import through_celery
from benchmarks.processes import Watched, celery_worker, started
from benchmarks.result import Result, Sample, Scale, in_turn, result_of
from benchmarks.servers import empty_redis
from benchmarks.setting import HISTORY, licenses, refill, reset_gateway, sent_count, site, stub_gateway, until

DEFAULT_PACE = {"PACE_SECONDS": [4, 8]}
MEAN_PACE_SECONDS = 6.0
MAX_RATIO = 0.8


def measure(scale: Scale) -> list[Result]:
    lanes, each = scale.of(100, 100, 5), scale.of(6, 3, 1)
    count = lanes * each
    with (
        stub_gateway() as gateway,
        site("postgres", "paced", gateway_url=gateway, apps=through_celery.APPS, kpwa=DEFAULT_PACE),
    ):
        license_ids, others = licenses(lanes), licenses(5)
        empty_redis()
        with celery_worker("--pool=prefork", "--concurrency=1") as worker:
            pid = worker.pid
            through_celery.lanes(pid, gateway, others, 1)
            through_celery.task_each(pid, gateway, 5)
            by_celery, by_run, at_once, at_pace = in_turn(
                scale.of(3, 1, 1),
                lambda: through_celery.lanes(pid, gateway, license_ids, each),
                lambda: _by_run(gateway, license_ids, others, each),
                lambda: through_celery.task_each(pid, gateway, count),
                lambda: through_celery.task_each(pid, gateway, count, countdown=lambda index: _due_in(index, lanes)),
            )
    floor = "a Celery task a message that claims, POSTs and records through the ORM"
    return [
        result_of(f"{lanes} licenses at the default pace, {way}: CPU a message", against, mine, theirs, _cpu, MAX_RATIO)
        for way, mine in (("through Celery", by_celery), ("kpwa run", by_run))
        for against, theirs in ((floor, at_once), (f"{floor}, at the same pace", at_pace))
    ]


def _due_in(index: int, lanes: int) -> float:
    """Seconds until the message is due: one per pace for each of the lanes, which begin at different moments."""
    turn, lane = divmod(index, lanes)
    return (turn + lane / lanes) * MEAN_PACE_SECONDS


def _by_run(gateway: str, license_ids: list[int], others: list[int], each: int) -> Sample:
    """Through `kpwa run`, on the site without a broker; its start is not counted."""
    from django_kpwa.models import License, OutboundMessage

    sent = OutboundMessage.objects.filter(status="sent")
    theirs = License.objects.filter(pk__in=license_ids)
    refill(others, 0)
    with started(["-m", "django", "kpwa", "run"], ready="Running", BENCH_BROKER_URL="") as process:
        refill(others, 1)
        until(lambda: sent.count() >= HISTORY + 5)
        # It polls by itself, and nothing must be sent before the counting begins.
        theirs.update(is_active=False)
        refill(license_ids, each)
        reset_gateway(gateway)
        count = len(license_ids) * each
        with Watched([process.pid], database="postgres") as watched:
            theirs.update(is_active=True)
            until(lambda: sent_count(gateway) >= count)
            until(lambda: sent.count() >= HISTORY + count)
    assert sent_count(gateway) == count, sent_count(gateway)
    return watched.sample(count)


def _cpu(sample: Sample) -> float:
    return sample.cpu_ms
