"""Three ways to send queued messages through a Celery worker, each measured from the first task to the last record.

Only the worker's processes and the database count; `send_message()` has rows of its own for publishing. The ways share
the worker, the database, the gateway and the POST.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .processes import Watched
from .result import Sample
from .setting import HISTORY, TEXT, refill, reset_gateway, sent_count, until, wake

APPS = "benchmarks.site.peers,post_office"


def lanes(worker_pid: int, gateway: str, license_ids: list[int], each: int) -> Sample:
    """Ours: `each` messages for every license, and one wake-up for every license."""
    from django_kpwa.models import OutboundMessage

    refill(license_ids, each)
    return _watched(
        worker_pid,
        gateway,
        len(license_ids) * each,
        lambda: wake(license_ids),
        OutboundMessage.objects.filter(status="sent"),
        before=HISTORY,
    )


def task_each(worker_pid: int, gateway: str, count: int, *, countdown: Callable[[int], float] | None = None) -> Sample:
    """A Celery task per message. `countdown`: the delay in seconds of the message with this index, none by default."""
    from .site.peers.models import Note
    from .site.peers.tasks import send_note

    Note.objects.all().delete()
    made = Note.objects.bulk_create(
        [Note(recipient="6281234567890", text=TEXT.format(n=n)) for n in range(count)], batch_size=1000
    )

    def publish() -> None:
        for index, note in enumerate(made):
            send_note.apply_async((note.pk,), countdown=countdown(index) if countdown else None)

    return _watched(worker_pid, gateway, count, publish, Note.objects.filter(status="sent"))


def post_office(worker_pid: int, gateway: str, count: int) -> Sample:
    """django-post-office as it comes: batches of 100 over five threads, outcomes saved once per batch."""
    from post_office.models import PRIORITY, STATUS, Email, Log
    from post_office.tasks import send_queued_mail

    Log.objects.all().delete()
    Email.objects.all().delete()
    Email.objects.bulk_create(
        [
            Email(
                from_email="shop@example.com",
                to=["6281234567890@wa.example.com"],
                subject="Struk",
                message=TEXT.format(n=n),
                status=STATUS.queued,
                priority=PRIORITY.medium,
            )
            for n in range(count)
        ],
        batch_size=1000,
    )
    return _watched(worker_pid, gateway, count, send_queued_mail.delay, Email.objects.filter(status=STATUS.sent))


def _watched(worker_pid: int, gateway: str, count: int, publish: Any, sent: Any, before: int = 0) -> Sample:
    reset_gateway(gateway)
    with Watched([worker_pid], database="postgres") as watched:
        publish()
        until(lambda: sent_count(gateway) >= count)
        until(lambda: sent.count() >= before + count)
    assert sent_count(gateway) == count, sent_count(gateway)
    return watched.sample(count)
