"""Celery tasks: thin wrappers with fixed names. Their arguments are ids, so losing or repeating a task does no harm."""

from __future__ import annotations

import mmap
import struct
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any

from celery import bootsteps, shared_task, signals
from django.db import close_old_connections

from . import alerts, broker, dispatch, retention, statistics, wake
from .conf import SLICE_SECONDS
from .exceptions import TaskFailedError
from .logs import get_logger
from .masking import masked_traceback, words_of
from .models import outbox_key
from .receipts import looks
from .schedule import TASK_LIMIT_SECONDS
from .store import store
from .store.heartbeats import NOTE_EVERY_SECONDS, note_alive
from .store.locks import lacks_tables, waited_too_long
from .store.results import Lease

# By the module, so that a prefork worker imports it before it forks: its children share the memory then.
from .webhooks.processing import process_due_events, process_event

# Memory that a prefork worker shares with its children. The first holds one byte, because only the parent gets the
# shutdown signal. The second holds the time of the last sweep by `time.monotonic()`, which is the same in all of them.
_shutting_down = mmap.mmap(-1, 1)
_swept_at = mmap.mmap(-1, 8)

# Set for each task, because otherwise the site's `task_soft_time_limit` would apply, and a few seconds of that would
# interrupt sends.
_SOFT_TIME_LIMIT_SECONDS = TASK_LIMIT_SECONDS - 30
# Shorter than the time limit: a purge of millions of rows ends by itself instead of being killed as a stuck task.
_HOUSEKEEPING_SECONDS = TASK_LIMIT_SECONDS / 2

logger = get_logger("django_kpwa.tasks")


def _task(name: str) -> Callable[[Callable[..., None]], Any]:
    """Decorate a shared task. An exception is masked and re-raised as `TaskFailedError`, because Celery logs it and
    sends it to other processes as an event."""

    def decorate(work: Callable[..., None]) -> Any:
        @wraps(work)
        def task(*args: Any, **kwargs: Any) -> None:
            note_alive("worker")
            try:
                return work(*args, **kwargs)
            except Exception as error:
                if waited_too_long(error):
                    # A process that hangs has locked the rows. Each of our tasks is run again anyway.
                    logger.warning("Task %s is postponed: another process has locked its rows.", name)
                    return None
                if lacks_tables(error):
                    # On a site with one schema per tenant, beat's tasks run in each, but not all have an outbox.
                    _, schema = outbox_key()
                    log, where = (logger.info, f"in schema {schema}") if schema else (logger.warning, "here")
                    log("Task %s does nothing: there are no tables of django_kpwa %s.", name, where)
                    return None
                logger.error("Task %s failed.\n%s", name, masked_traceback(error))
                failure = TaskFailedError(words_of(error))
            # Outside the `except`, so that the original error, whose text is not masked, is not its `__context__`.
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
    """Close stale connections before each of our tasks, as Django does before a request.

    With `CELERY_DB_REUSE_MAX`, Celery keeps connections from task to task, also broken ones.
    """
    if str(getattr(sender, "name", "")).startswith("django_kpwa.") and not sender.request.is_eager:
        close_old_connections()


class _WorkerIsAlive(bootsteps.StartStopStep):
    """Stores a heartbeat of this worker while it is connected to the broker, even if no tasks come.

    It runs in the worker's main process, and is started whenever the worker connects to the broker. While the worker
    runs beat's sweeps, these store the heartbeat, and this process needs no database connection.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        self._note()
        consumer.timer.call_repeatedly(NOTE_EVERY_SECONDS, self._note)

    def _note(self) -> None:
        is_ours = broker.consumes(wake.DISPATCH_LICENSE)
        if is_ours and _has_just_swept():
            return
        note_alive("worker" if is_ours else "other worker")
        alerts.check_soon(asks_first=True)
        # This process needs the connection for nothing else, and its children must not inherit it.
        store().connection.close()


def _has_just_swept() -> bool:
    (swept_at,) = struct.unpack("d", _swept_at[:])
    return bool(swept_at) and time.monotonic() - swept_at < NOTE_EVERY_SECONDS


@signals.celeryd_init.connect(weak=False)
def _add_sign_of_life(instance: Any, **_: Any) -> None:
    instance.app.steps["consumer"].add(_WorkerIsAlive)


@signals.beat_init.connect(weak=False)
def _beat_is_alive(sender: Any, **_: Any) -> None:
    """Store heartbeats of this beat from a thread: without workers, its tasks do not show that it runs."""
    scheduled = {entry.task for entry in sender.scheduler.schedule.values()}
    name = "beat" if wake.DISPATCH_DUE in scheduled else "other beat"

    def note() -> None:
        while True:
            # The connection is kept for as long as the site's CONN_MAX_AGE allows.
            store().connection.close_if_unusable_or_obsolete()
            note_alive(name)
            alerts.check_soon(asks_first=True)
            time.sleep(NOTE_EVERY_SECONDS)

    threading.Thread(target=note, name="kpwa-beat-is-alive", daemon=True).start()


def is_shutting_down() -> bool:
    """True if this worker is shutting down: a driver then finishes its call, records it, and releases the lane."""
    return _shutting_down[0] == 1


@_task(wake.DISPATCH_LICENSE)
def dispatch_license(license_id: int, lease_token: str | None = None) -> None:
    """Send the messages of one license for some time (a *slice*), then publish the task that continues.

    `lease_token`: the lease that the last drive passed on. It is released if the next task cannot be published.
    """
    token = uuid.UUID(lease_token) if lease_token else None
    driven = dispatch.drive(license_id, token, should_stop=is_shutting_down)
    if driven.lease_token is not None:
        if is_shutting_down() or not wake.publish_dispatch(license_id, driven.lease_token, driven.wait_seconds):
            store().release_lease(Lease(license_id, driven.lease_token))
    elif driven.has_more:
        wake.publish_dispatch(license_id)


@_task(wake.DISPATCH_DUE)
def dispatch_due() -> None:
    """Recover what was lost, and wake each license that has due messages and no worker that sends them.

    See `dispatch.sweep`. If webhook events are due, their task is published from here. A beat entry of their own would
    mostly find nothing.
    """
    swept = dispatch.sweep()
    _, schema = outbox_key()
    if not schema:
        # With a schema per tenant, a sweep covers one tenant only, so it does not replace the worker's heartbeat.
        _swept_at[:] = struct.pack("d", time.monotonic())
    if swept.has_events and broker.runs_tasks_at_once():
        with suppress(TaskFailedError):
            process_due_webhooks()
    elif swept.has_events:
        wake.publish_due_webhooks()
    for license_id in swept.license_ids:
        if broker.runs_tasks_at_once():
            # Eager mode: this runs in beat or in a command, so no sale waits for it, and no worker drives the lane.
            with suppress(TaskFailedError):
                dispatch_license(license_id)
        else:
            wake.publish_dispatch(license_id)


@_task(wake.PROCESS_WEBHOOK)
def process_webhook(event_id: int) -> None:
    """Process one stored webhook event."""
    process_event(event_id)


@_task(wake.PROCESS_DUE_WEBHOOKS)
def process_due_webhooks(slice_seconds: float = SLICE_SECONDS) -> None:
    """For some time (a *slice*), process the webhook events that are due, then publish a task for the rest.

    These are events that arrived close together, those whose task was lost, and unmatched ones that are tried again.
    """
    ends_at = time.monotonic() + slice_seconds
    process_due_events(should_stop=lambda: is_shutting_down() or time.monotonic() >= ends_at)
    if time.monotonic() >= ends_at and not is_shutting_down():
        wake.publish_due_webhooks()


@_task("django_kpwa.roll_up_statistics")
def roll_up_statistics() -> None:
    """Bring the hourly statistics up to date."""
    statistics.roll_up()


@_task("django_kpwa.look_for_missing")
def look_for_missing() -> None:
    """Search for receipts that were never queued."""
    looks.look_regularly(should_stop=_ends_soon())


@_task("django_kpwa.purge")
def purge(seconds: float = _HOUSEKEEPING_SECONDS) -> None:
    """Delete rows that are older than `KPWA["RETENTION_DAYS"]`. Rows that are left are deleted by the next purge."""
    retention.purge(should_stop=_ends_soon(seconds))


def _ends_soon(seconds: float = _HOUSEKEEPING_SECONDS) -> Callable[[], bool]:
    """Return a function that says whether a task which begins now has to end."""
    ends_at = time.monotonic() + seconds
    return lambda: is_shutting_down() or time.monotonic() >= ends_at
