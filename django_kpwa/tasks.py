"""Celery tasks: thin shells with fixed names and JSON ids for arguments. Losing or repeating one harms nothing."""

from __future__ import annotations

import mmap
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any

from celery import shared_task, signals
from django.db import close_old_connections

from . import broker, dispatch, retention, statistics, wake, webhooks
from .conf import SLICE_SECONDS
from .exceptions import TaskFailedError
from .logs import get_logger
from .masking import masked_traceback, words_of
from .models import outbox_key
from .schedule import TASK_LIMIT_SECONDS
from .store import store
from .store.heartbeats import note_alive
from .store.locks import lacks_tables, waited_too_long
from .store.results import Lease

# One byte that a prefork worker's children share with it: on shutdown only the parent is told.
_shutting_down = mmap.mmap(-1, 1)

# Said here, because a task without one of its own inherits the site's `task_soft_time_limit`, whose few seconds would
# end sends in the middle.
_SOFT_TIME_LIMIT_SECONDS = TASK_LIMIT_SECONDS - 30
# A purge of millions is no task that is stuck.
_PURGE_SECONDS = TASK_LIMIT_SECONDS / 2

logger = get_logger("django_kpwa.tasks")


def _task(name: str) -> Callable[[Callable[..., None]], Any]:
    """A shared task. Celery logs what one raises and sends it round as an event, so that it is masked before."""

    def decorate(work: Callable[..., None]) -> Any:
        @wraps(work)
        def task(*args: Any, **kwargs: Any) -> None:
            note_alive("worker")
            try:
                return work(*args, **kwargs)
            except Exception as error:
                if waited_too_long(error):
                    # A process that stands still has the rows; every task of ours comes again.
                    logger.warning("Task %s is left for now: another process has locked its rows.", name)
                    return None
                if lacks_tables(error):
                    # Beat runs in each schema of a site with one a tenant, and not all of them have an outbox.
                    _, schema = outbox_key()
                    log, where = (logger.info, f"in schema {schema}") if schema else (logger.warning, "here")
                    log("Task %s does nothing: there are no tables of django_kpwa %s.", name, where)
                    return None
                logger.error("Task %s failed.\n%s", name, masked_traceback(error))
                failure = TaskFailedError(words_of(error))
            raise failure

        return shared_task(
            name=name,
            time_limit=TASK_LIMIT_SECONDS,
            soft_time_limit=_SOFT_TIME_LIMIT_SECONDS,
            ignore_result=True,
            acks_late=False,
        )(task)

    return decorate


@signals.worker_shutting_down.connect(weak=False)
def _worker_shutting_down(**_: Any) -> None:
    _shutting_down[0] = 1


@signals.task_prerun.connect(weak=False)
def _end_old_connections(sender: Any = None, **_: Any) -> None:
    """As Django does at a request: where Celery keeps connections (`CELERY_DB_REUSE_MAX`), nobody ends a broken one."""
    if str(getattr(sender, "name", "")).startswith("django_kpwa.") and not sender.request.is_eager:
        close_old_connections()


def is_shutting_down() -> bool:
    """Whether this worker was told to stop: a driver finishes its call, records it, and gives the lane back."""
    return _shutting_down[0] == 1


@_task(wake.DISPATCH_LICENSE)
def dispatch_license(license_id: int, lease_token: str | None = None) -> None:
    """Drive one lane for a slice, and publish its continuation."""
    token = uuid.UUID(lease_token) if lease_token else None
    driven = dispatch.drive(license_id, token, should_stop=is_shutting_down)
    if driven.lease_token is not None:
        if is_shutting_down() or not wake.publish_dispatch(license_id, driven.lease_token, driven.wait_seconds):
            store().release_lease(Lease(license_id, driven.lease_token))
    elif driven.has_more:
        wake.publish_dispatch(license_id)


@_task(wake.DISPATCH_DUE)
def dispatch_due() -> None:
    """Settle what was lost and wake every lane that has something due and nobody driving it."""
    for license_id in dispatch.sweep().license_ids:
        if broker.runs_tasks_at_once():
            # This is beat's own process, or a person's: no sale waits for it, and nobody else would drive the lane.
            with suppress(TaskFailedError):
                dispatch_license(license_id)
        else:
            wake.publish_dispatch(license_id)


@_task(wake.PROCESS_WEBHOOK)
def process_webhook(event_id: int) -> None:
    """Process one stored webhook event."""
    webhooks.process_event(event_id)


@_task(wake.PROCESS_DUE_WEBHOOKS)
def process_due_webhooks() -> None:
    """Process the events that came together, those whose task was lost, and unmatched ones again: for one slice."""
    ends_at = time.monotonic() + SLICE_SECONDS
    webhooks.process_due_events(should_stop=lambda: is_shutting_down() or time.monotonic() >= ends_at)
    if time.monotonic() >= ends_at and not is_shutting_down():
        wake.publish_due_webhooks()


@_task("django_kpwa.roll_up_statistics")
def roll_up_statistics() -> None:
    """Bring the hourly statistics up to date."""
    statistics.roll_up()


@_task("django_kpwa.purge")
def purge() -> None:
    """Delete what `KPWA["RETENTION_DAYS"]` does not keep; what a long one leaves is the next one's, an hour later."""
    ends_at = time.monotonic() + _PURGE_SECONDS
    retention.purge(should_stop=lambda: is_shutting_down() or time.monotonic() >= ends_at)
