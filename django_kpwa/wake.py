"""Publishes "there is something to do" to Celery; the only place that talks to the broker.

The database is the queue, so a wake-up may be lost or repeated without harm: beat makes good what is missing. That is
why publishing gives up at once, and for some seconds does not even try again: a checkout must not wait for a broker.
(Measured: a silent Redis costs 0.31 s with these limits, 7 s or for ever without.)
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Literal

from celery import current_app
from celery.app import app_or_default
from django.db import transaction
from kombu import Connection
from kombu.pools import ProducerPool

from .logs import get_logger
from .models import outbox_key, write_alias
from .rehearsal import is_rehearsal
from .schedule import BEAT_SCHEDULE
from .store.messages import LaneSeen, look_at_lane

logger = get_logger("django_kpwa.wake")

DISPATCH_LICENSE = "django_kpwa.dispatch_license"
PROCESS_WEBHOOK = "django_kpwa.process_webhook"
PROCESS_DUE_WEBHOOKS = "django_kpwa.process_due_webhooks"
DISPATCH_DUE = "django_kpwa.dispatch_due"

PUBLISH_TIMEOUT_SECONDS = 0.3
"""So long one broker is waited for; where the site names several, the next one is tried then."""
MOST_SECONDS_OF_PUBLISHING = 1.0
"""So long all of them together are waited for, whatever their number."""
QUIET_AFTER_FAILURE_SECONDS = 5.0
ANSWER_GOOD_SECONDS = 10.0
ON_ITS_WAY_SECONDS = 5.0
"""So long a wake-up that nobody has answered yet counts as still on its way."""

# A take that had begun, and was not committed, when the lane was looked at for a wake-up: it answers that one as well.
_TAKING = timedelta(seconds=1)

WEBHOOKS_TOGETHER_SECONDS = 0.25
"""Webhooks that come so soon after another wait so long, and are processed by one task."""

_POOL_SIZE = 10
_MOST_LICENSES = 4096


def wake_license_on_commit(
    license_id: int | None, *, countdown_seconds: float = 0.0, lane: LaneSeen | None = None
) -> None:
    """Have the lane of `license_id` looked at once the present transaction is committed; at once outside of one.

    `countdown_seconds`: so much later, where the message is not due before. `lane`: what was seen of it a moment ago.
    None: it cannot be told yet which license sends, so that there is no lane to look at.
    """
    if license_id is None:
        return
    transaction.on_commit(
        lambda: wake_license(license_id, countdown_seconds=countdown_seconds, lane=lane),
        using=write_alias(),
        robust=True,
    )


def wake_license(license_id: int, *, countdown_seconds: float = 0.0, lane: LaneSeen | None = None) -> bool:
    """Ask for the lane to be driven, where nobody is at it and no wake-up of ours is still on its way.

    A driver looks once more after it has let the lane go, and takes the lane before it looks for messages. So what is
    committed before either is seen, and the one look at the lane that decides here comes after the commit: `lane`,
    which was seen before it, can only say that a wake-up is wanted.
    """
    if not can_publish():
        return False
    if countdown_seconds:
        return _send(DISPATCH_LICENSE, (license_id,), countdown_seconds)
    published_at = _on_their_way.published_at(license_id)
    if lane is None or lane.is_driven or published_at is not None:
        lane = look_at_lane(license_id)
        if lane is None or lane.is_driven:
            return False
        if published_at is not None and (lane.taken_at is None or lane.taken_at < published_at - _TAKING):
            return False
    if not _send(DISPATCH_LICENSE, (license_id,)):
        return False
    _on_their_way.note(license_id, lane.seen_at)
    return True


def publish_dispatch(license_id: int, lease_token: uuid.UUID | None = None, countdown_seconds: float = 0.0) -> bool:
    """Publish one drive of a lane. False: the broker did not take it."""
    arguments: tuple[Any, ...] = (license_id,) if lease_token is None else (license_id, str(lease_token))
    return _publish(DISPATCH_LICENSE, arguments, countdown_seconds)


def publish_webhook(event_id: int) -> bool:
    """Have a webhook event processed that is committed: at once, or with others that came within a moment.

    False: nothing was published for it alone, or the broker did not take it.
    """
    turn = _arrivals.turn()
    if turn is None:
        return False
    if turn == "alone":
        return _publish(PROCESS_WEBHOOK, (event_id,))
    return _publish(PROCESS_DUE_WEBHOOKS, (), WEBHOOKS_TOGETHER_SECONDS)


def publish_due_webhooks() -> bool:
    """Have every webhook event processed whose time has come."""
    return _publish(PROCESS_DUE_WEBHOOKS, ())


def has_broker() -> bool:
    """Whether there is one for our tasks to go to: unconfigured, Celery would try localhost for 0.6 s a call."""
    return bool(current_app.conf.broker_write_url) and not runs_tasks_at_once()


def runs_tasks_at_once() -> bool:
    """Whether Celery runs a task in the process that asks for it (`task_always_eager`), and hands none to a worker.

    Nothing is published then: a checkout would send in the middle of the sale.
    """
    return bool(current_app.conf.task_always_eager)


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
    has_redis = any(url.startswith(("redis", "sentinel")) for url in _urls(current_app.conf.broker_write_url))
    return has_redis and not current_app.conf.broker_transport_options.get("socket_timeout")


def keeps_database_connections() -> bool:
    """Whether workers keep the database's connection from task to task; Celery looks at no CONN_MAX_AGE."""
    return bool(current_app.conf.get("CELERY_DB_REUSE_MAX"))


def missing_from_beat() -> list[str]:
    """Tasks of ours that beat does not run; a scheduler that keeps its own in a database is taken at its word."""
    conf = current_app.conf
    if conf.beat_scheduler != "celery.beat:PersistentScheduler":
        return []
    scheduled = {entry.get("task") for entry in conf.beat_schedule.values()}
    return [entry["task"] for entry in BEAT_SCHEDULE.values() if entry["task"] not in scheduled]


def can_publish() -> bool:
    """Whether publishing is worth a try now."""
    if is_rehearsal():
        return False
    if time.monotonic() < _broker.quiet_until:
        return False
    app = app_or_default()
    # Each look into Celery's configuration costs as much as a query; whoever has connections has a broker.
    return (_broker.is_open(app) and not app.conf.task_always_eager) or has_broker()


def _publish(task: str, arguments: tuple[Any, ...], countdown_seconds: float = 0.0) -> bool:
    return can_publish() and _send(task, arguments, countdown_seconds)


def _send(task: str, arguments: tuple[Any, ...], countdown_seconds: float = 0.0) -> bool:
    options: dict[str, Any] = {"countdown": countdown_seconds} if countdown_seconds else {}
    # The type alone is logged: messages of connection errors can hold the broker's password.
    failed = ""
    try:
        for producers in _broker.attempts():
            try:
                with producers.acquire(block=True, timeout=PUBLISH_TIMEOUT_SECONDS) as producer:
                    publishing: dict[str, Any] = {"producer": producer, "retry": False, "ignore_result": True}
                    current_app.send_task(task, arguments, **publishing, **options)
            except Exception as error:
                failed = type(error).__name__
                continue
            return True
    except Exception as error:
        # The URL itself: it cannot be read, or names a transport that is not installed.
        failed = type(error).__name__
    _broker.fell_silent()
    logger.warning("The broker did not take %s (%s); beat will make it good.", task, failed)
    return False


def _answers(app: Any) -> bool:
    failed = ""
    for connection in _connections(app):
        try:
            with connection:
                connection.ensure_connection(max_retries=1, timeout=1)
        except Exception as error:
            failed = type(error).__name__
        else:
            return True
    logger.info("The broker does not answer (%s).", failed)
    return False


class _OnTheirWay:
    """The wake-ups that this process published some seconds ago at most, by outbox and license.

    They hold until the lane is taken: until then the task waits behind others, for instance because every worker is
    busy. After the seconds it may be lost; another one is published then, and beat makes good what this overlooks.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._lock = threading.Lock()
        # The oldest first: the database's time just before, and until when by the process' own clock.
        self._published: OrderedDict[tuple[tuple[str, str], int], tuple[datetime, float]] = OrderedDict()

    def published_at(self, license_id: int) -> datetime | None:
        """The database's time before which that license's wake-up was not published; None where none is on its way."""
        key = (outbox_key(), license_id)
        with self._lock:
            published_at, until = self._published.get(key) or (None, 0.0)
        return published_at if time.monotonic() < until else None

    def note(self, license_id: int, seen_at: datetime) -> None:
        key = (outbox_key(), license_id)
        with self._lock:
            self._published[key] = (seen_at, time.monotonic() + ON_ITS_WAY_SECONDS)
            self._published.move_to_end(key)
            while len(self._published) > _MOST_LICENSES:
                self._published.popitem(last=False)


class _Arrivals:
    """When this process last published for a webhook of an outbox, so that a burst of them is not a burst of tasks.

    The first event is processed at once. While others keep coming, one task is published that runs a moment later and
    processes whatever is stored by then, so that those that come before it starts need none. Where it is lost, or a
    worker's clock has it run too soon, beat makes good what it did not find.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._lock = threading.Lock()
        # By outbox, the one asked last at the end: when it was published for last, and until when a task covers.
        self._times: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def turn(self) -> Literal["alone", "together"] | None:
        """What is to be published for an event that is stored; None where a task will find it that is published."""
        now, key = time.monotonic(), outbox_key()
        with self._lock:
            published_at, covered_until = self._times.get(key) or (float("-inf"), float("-inf"))
            if now < covered_until:
                return None
            is_alone = now >= published_at + WEBHOOKS_TOGETHER_SECONDS
            ends = now + WEBHOOKS_TOGETHER_SECONDS
            self._times[key] = (now, covered_until) if is_alone else (ends, ends)
            self._times.move_to_end(key)
            while len(self._times) > _MOST_LICENSES:
                self._times.popitem(last=False)
            return "alone" if is_alone else "together"


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
    """This process's own connections to the brokers, with timeouts that a checkout can bear.

    Celery goes over to the next broker by trying again, which takes the time that it has. Here each broker has
    connections of its own, so that one that is down or silent costs one attempt, and the one that took a task last is
    the first to be asked for the next.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew without touching the connections there are: after a fork they are the parent's."""
        self.quiet_until = 0.0
        self._pools: list[ProducerPool] = []
        self._first = 0
        self._app: Any = None
        self._lock = threading.Lock()

    def is_open(self, app: Any) -> bool:
        """Whether there are connections for `app`."""
        return bool(self._pools) and self._app is app

    def attempts(self) -> Iterator[ProducerPool]:
        """One broker's producers after the other, while there is time; taking the next says that this one failed."""
        pools = self._open()
        ends_at = time.monotonic() + MOST_SECONDS_OF_PUBLISHING - PUBLISH_TIMEOUT_SECONDS
        first = self._first
        for position in range(len(pools)):
            if position and time.monotonic() > ends_at:
                return
            pool = pools[(first + position) % len(pools)]
            yield pool
            if len(pools) > 1:
                # Its other connections are most likely as dead, and would cost the next sale as much.
                self._first = (first + position + 1) % len(pools)
                _close(pool)

    def _open(self) -> list[ProducerPool]:
        with self._lock:
            app = app_or_default()
            if not self._pools or self._app is not app:
                connections = [connection.Pool(limit=_POOL_SIZE) for connection in _connections(app)]
                self._pools = [ProducerPool(pool, limit=_POOL_SIZE) for pool in connections]
                if self._app is not app:
                    self._app, self._first = app, 0
            return self._pools

    def fell_silent(self) -> None:
        self.quiet_until = time.monotonic() + QUIET_AFTER_FAILURE_SECONDS
        self.close()

    def close(self) -> None:
        """Close every connection; the next publishing opens new ones."""
        with self._lock:
            pools, self._pools = self._pools, []
        for pool in pools:
            _close(pool)


def _close(pool: ProducerPool) -> None:
    pool.force_close_all()  # type: ignore[attr-defined]  # missing in the stubs
    pool.connections.force_close_all()


def _urls(url: Any) -> list[str]:
    """The brokers that the site names, in every form that Celery takes: one URL, several with `;`, or a list."""
    named = [url] if isinstance(url, str) else list(url or ())
    return [part.strip() for several in named for part in str(several).split(";") if part.strip()]


def _connections(app: Any) -> list[Connection]:
    """A connection that is not made yet to each broker, in the order in which Celery would try them.

    Sentinels are one broker: the transport asks one after the other where the master is.
    """
    urls = _urls(app.conf.broker_write_url)
    if any(url.startswith("sentinel") for url in urls):
        return [_connection(app, ";".join(urls))]
    strategy = app.conf.broker_failover_strategy or "round-robin"
    if len(urls) > 1:
        ordered = (Connection.failover_strategies[strategy] if isinstance(strategy, str) else strategy)(list(urls))
        # A strategy may yield for ever, and one URL more than once.
        urls = list(dict.fromkeys([*islice(ordered, len(urls)), *urls]))
    return [_connection(app, url if "://" in url else urls[0], url) for url in urls or [""]]


def _connection(app: Any, url: str, alternate: str = "") -> Connection:
    seconds = PUBLISH_TIMEOUT_SECONDS
    connection: Connection = app.connection_for_write(url=url, connect_timeout=seconds, heartbeat=0)
    if alternate and alternate != url:
        # A mere host name: the rest is as the first one's.
        connection.switch(alternate)
    options: dict[str, Any] = {**(connection.transport_options or {}), "max_retries": 0, "interval_start": 0}
    options["connect_retries_timeout"] = seconds
    limits: dict[str, Any]
    if connection.get_transport_cls().driver_type == "redis":
        limits = {"socket_timeout": seconds, "socket_connect_timeout": seconds, "retry_on_timeout": False}
        if options.get("sentinel_kwargs"):
            # With these, the sentinels are not asked under the limits of the connection itself.
            options["sentinel_kwargs"] = {**options["sentinel_kwargs"], **limits}
    else:
        limits = {"read_timeout": seconds, "write_timeout": seconds}
    connection.transport_options = {**options, **limits}
    return connection


_broker = _Broker()
_on_their_way = _OnTheirWay()
_arrivals = _Arrivals()
_question = _Question()
# A forked web worker must not share its parent's sockets, nor a lock that one of its threads held.
if hasattr(os, "register_at_fork"):
    for _kept in (_broker, _on_their_way, _arrivals, _question):
        os.register_at_fork(after_in_child=_kept.forget)
