"""Publishes "there is something to do" to Celery; the only place that talks to the broker.

The database is the queue, so a wake-up may be lost or repeated without harm: beat makes good what is missing. That is
why publishing gives up at once, and for some seconds does not even try again: a checkout must not wait for a broker.
(Measured: a silent Redis costs 0.31 s with these limits, 7 s or for ever without.)
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from typing import Any

from celery import current_app
from celery.app import app_or_default
from django.db import transaction
from kombu.pools import ProducerPool

from .models import DatabaseNow, Lane, write_alias
from .schedule import BEAT_SCHEDULE

logger = logging.getLogger("django_kpwa.wake")

DISPATCH_LICENSE = "django_kpwa.dispatch_license"
PROCESS_WEBHOOK = "django_kpwa.process_webhook"
DISPATCH_DUE = "django_kpwa.dispatch_due"

PUBLISH_TIMEOUT_SECONDS = 0.3
QUIET_AFTER_FAILURE_SECONDS = 5.0
ANSWER_GOOD_SECONDS = 10.0
_POOL_SIZE = 10


def wake_license_on_commit(license_id: int, *, countdown_seconds: float = 0.0) -> None:
    """Have the lane of `license_id` looked at once the present transaction is committed; at once outside of one.

    `countdown_seconds`: so much later, where the message is not due before.
    """
    transaction.on_commit(
        lambda: wake_license(license_id, countdown_seconds=countdown_seconds), using=write_alias(), robust=True
    )


def wake_license(license_id: int, *, countdown_seconds: float = 0.0) -> bool:
    """Ask for the lane to be driven. Nothing is published where it is being driven: its driver looks once more."""
    if not can_publish() or (not countdown_seconds and _is_driven(license_id)):
        return False
    return publish_dispatch(license_id, countdown_seconds=countdown_seconds)


def publish_dispatch(license_id: int, lease_token: uuid.UUID | None = None, countdown_seconds: float = 0.0) -> bool:
    """Publish one drive of a lane. False: the broker did not take it."""
    arguments: tuple[Any, ...] = (license_id,) if lease_token is None else (license_id, str(lease_token))
    return _publish(DISPATCH_LICENSE, arguments, countdown_seconds)


def publish_webhook(event_id: int) -> bool:
    """Publish the processing of one stored webhook event."""
    return _publish(PROCESS_WEBHOOK, (event_id,))


def has_broker() -> bool:
    """Whether the site has configured one: unconfigured, Celery would try localhost for 0.6 s a call."""
    return bool(current_app.conf.broker_write_url)


def broker_answers() -> bool:
    """Whether a connection to the broker can be made now. For people who look for a fault: it may take a second."""
    return _answers(current_app)


def broker_answered(wait_seconds: float = PUBLISH_TIMEOUT_SECONDS) -> bool | None:
    """What `broker_answers()` said some seconds ago at most, for a page that must not wait for it.

    None: it is being asked, and did not answer within `wait_seconds`; the next call knows.
    """
    return _question.answer(wait_seconds)


def app_name() -> str:
    """What `celery -A` takes, as the site called its app; empty where it gave it no name."""
    return str(current_app.main or "")


def broker_lacks_timeouts() -> bool:
    """Whether a silent Redis would hold the site's own `.delay()` for ever; what is published here has limits."""
    is_redis = str(current_app.conf.broker_write_url).startswith(("redis", "sentinel"))
    return is_redis and not current_app.conf.broker_transport_options.get("socket_timeout")


def missing_from_beat() -> list[str]:
    """Tasks of ours that beat does not run; a scheduler that keeps its own in a database is taken at its word."""
    conf = current_app.conf
    if conf.beat_scheduler != "celery.beat:PersistentScheduler":
        return []
    scheduled = {entry.get("task") for entry in conf.beat_schedule.values()}
    return [entry["task"] for entry in BEAT_SCHEDULE.values() if entry["task"] not in scheduled]


def can_publish() -> bool:
    """Whether publishing is worth a try now."""
    return has_broker() and not current_app.conf.task_always_eager and time.monotonic() >= _broker.quiet_until


def _is_driven(license_id: int) -> bool:
    return bool(
        Lane.objects.using(write_alias())
        .filter(pk=license_id, lease_token__isnull=False, lease_expires_at__gt=DatabaseNow())
        .exists()
    )


def _publish(task: str, arguments: tuple[Any, ...], countdown_seconds: float = 0.0) -> bool:
    if not can_publish():
        return False
    options: dict[str, Any] = {"countdown": countdown_seconds} if countdown_seconds else {}
    try:
        with _broker.producers().acquire(block=True, timeout=PUBLISH_TIMEOUT_SECONDS) as producer:
            current_app.send_task(task, arguments, producer=producer, retry=False, ignore_result=True, **options)
    except Exception as error:
        _broker.fell_silent()
        # The type alone: messages of connection errors can hold the broker's password.
        logger.warning("The broker did not take %s (%s); beat will make it good.", task, type(error).__name__)
        return False
    return True


def _answers(app: Any) -> bool:
    options = {**app.conf.broker_transport_options, **_timeouts(app)}
    seconds = PUBLISH_TIMEOUT_SECONDS
    try:
        with app.connection_for_write(connect_timeout=seconds, transport_options=options) as connection:
            connection.ensure_connection(max_retries=1, timeout=1)
    except Exception as error:
        logger.info("The broker does not answer (%s).", type(error).__name__)
        return False
    return True


class _Question:
    """One process's question whether its broker answers: asked in a thread, its answer good for some seconds."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew: after a fork the thread that asked is the parent's."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._asked: tuple[Any, Any] | None = None
        self._said: tuple[float, bool] | None = None

    def answer(self, wait_seconds: float) -> bool | None:
        with self._lock:
            # Here, and not in the thread: another thread may have another app.
            app = app_or_default()
            asked = (app, app.conf.broker_write_url)
            if asked != self._asked:
                self._asked, self._thread, self._said = asked, None, None
            if self._said is not None and time.monotonic() - self._said[0] < ANSWER_GOOD_SECONDS:
                return self._said[1]
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._ask, args=asked, name="kpwa-broker", daemon=True)
                self._thread.start()
            thread = self._thread
        thread.join(wait_seconds)
        with self._lock:
            if thread.is_alive() or self._said is None:
                return None
            return self._said[1]

    def _ask(self, app: Any, url: Any) -> None:
        said = _answers(app)
        with self._lock:
            if self._asked == (app, url):
                self._said = (time.monotonic(), said)


class _Broker:
    """This process's own connections to the broker, with timeouts that a checkout can bear."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew without touching the connections there are: after a fork they are the parent's."""
        self.quiet_until = 0.0
        self._producers: ProducerPool | None = None
        self._app: Any = None
        self._lock = threading.Lock()

    def producers(self) -> ProducerPool:
        with self._lock:
            app = app_or_default()
            if self._producers is None or self._app is not app:
                connection = app.connection_for_write(
                    connect_timeout=PUBLISH_TIMEOUT_SECONDS,
                    heartbeat=0,
                    transport_options={**app.conf.broker_transport_options, **_timeouts(app)},
                )
                self._producers = ProducerPool(connection.Pool(limit=_POOL_SIZE), limit=_POOL_SIZE)
                self._app = app
            return self._producers

    def fell_silent(self) -> None:
        self.quiet_until = time.monotonic() + QUIET_AFTER_FAILURE_SECONDS
        self.close()

    def close(self) -> None:
        """Close every connection; the next publishing opens new ones."""
        with self._lock:
            producers, self._producers = self._producers, None
        if producers is not None:
            producers.force_close_all()  # type: ignore[attr-defined]  # missing in the stubs
            producers.connections.force_close_all()


def _timeouts(app: Any) -> dict[str, Any]:
    seconds = PUBLISH_TIMEOUT_SECONDS
    options: dict[str, Any] = {"max_retries": 0, "interval_start": 0, "connect_retries_timeout": seconds}
    if str(app.conf.broker_write_url).startswith(("redis", "sentinel")):
        options |= {"socket_timeout": seconds, "socket_connect_timeout": seconds, "retry_on_timeout": False}
    else:
        options |= {"read_timeout": seconds, "write_timeout": seconds}
    return options


_broker = _Broker()
_question = _Question()
# A forked web worker must not share its parent's sockets.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_broker.forget)
    os.register_at_fork(after_in_child=_question.forget)
