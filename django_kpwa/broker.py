"""This process's connections to the site's Celery brokers, and what the site's Celery is configured to do.

The database is the queue, so a task that is lost does no harm: beat makes good what is missing. That is why publishing
gives up at once, and for some seconds does not even try again: a checkout must not wait for a broker. (Measured: a
silent Redis costs 0.31 s with these limits, 7 s or for ever without.)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from celery import current_app
from celery.app import app_or_default
from kombu import Connection
from kombu.pools import ProducerPool

from .logs import get_logger
from .rehearsal import is_rehearsal
from .schedule import BEAT_SCHEDULE

logger = get_logger("django_kpwa.wake")

PUBLISH_TIMEOUT_SECONDS = 0.3
"""How long one broker is waited for; where the site names several, the next one is tried then."""
MOST_SECONDS_OF_PUBLISHING = 1.0
"""How long all of them together are waited for, whatever their number."""
_POOL_SIZE = 10


def is_configured() -> bool:
    """True if our tasks have a broker to go to: unconfigured, Celery would try localhost for 0.6 s per call."""
    return bool(current_app.conf.broker_write_url) and not runs_tasks_at_once()


def runs_tasks_at_once() -> bool:
    """Whether Celery runs a task in the process that asks for it (`task_always_eager`), and hands none to a worker.

    Nothing is published then: a checkout would send in the middle of the sale.
    """
    return bool(current_app.conf.task_always_eager)


def answers() -> bool:
    """True if a connection to a broker can be made now. For people who look for a fault: it may take a second."""
    failed = ""
    for connection in _connections(current_app):
        try:
            with connection:
                connection.ensure_connection(max_retries=1, timeout=1)
        except Exception as error:
            failed = type(error).__name__
        else:
            return True
    logger.info("The broker does not answer (%s).", failed)
    return False


def app_name() -> str:
    """What `celery -A` takes, as the site called its app; empty where it gave it no name."""
    return str(current_app.main or "")


def lacks_timeouts() -> bool:
    """True if a silent Redis would hold the site's own `.delay()` for ever; what is published here has limits."""
    has_redis = any(url.startswith(("redis", "sentinel")) for url in _urls(current_app.conf.broker_write_url))
    return has_redis and not current_app.conf.broker_transport_options.get("socket_timeout")


def keeps_database_connections() -> bool:
    """True if workers keep the database's connection from task to task; Celery looks at no CONN_MAX_AGE."""
    return bool(current_app.conf.get("CELERY_DB_REUSE_MAX"))


def missing_from_beat() -> list[str]:
    """Tasks of ours that beat does not run; a scheduler that keeps its own in a database is taken at its word."""
    conf = current_app.conf
    if conf.beat_scheduler != "celery.beat:PersistentScheduler":
        return []
    scheduled = {entry.get("task") for entry in conf.beat_schedule.values()}
    return [entry["task"] for entry in BEAT_SCHEDULE.values() if entry["task"] not in scheduled]


class Broker:
    """Publishes with timeouts that a checkout can bear.

    Celery goes over to the next broker by trying again, which takes the time that it has. Here each broker has
    connections of its own, so that one that is down or silent costs one attempt, and the one that took a task last is
    the first to be asked for the next. `clock` counts seconds.
    """

    QUIET_AFTER_FAILURE_SECONDS = 5.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.reset()

    def reset(self) -> None:
        """Begin anew without touching the connections there are: after a fork they are the parent's."""
        self._quiet_until = float("-inf")
        self._pools: list[ProducerPool] = []
        self._first = 0
        self._app: Any = None
        self._lock = threading.Lock()

    def can_publish(self) -> bool:
        """True if publishing is worth a try now."""
        if is_rehearsal() or self.clock() < self._quiet_until:
            return False
        app = app_or_default()
        # Each look into Celery's configuration costs as much as a query; whoever has connections has a broker.
        is_open = bool(self._pools) and self._app is app
        return (is_open and not app.conf.task_always_eager) or is_configured()

    def publish(self, task: str, arguments: tuple[Any, ...], countdown_seconds: float = 0.0) -> bool:
        """Publish a task that runs after `countdown_seconds` at the earliest. False: no broker took it."""
        options: dict[str, Any] = {"countdown": countdown_seconds} if countdown_seconds else {}
        # The type alone is logged: messages of connection errors can hold the broker's password.
        failed = ""
        try:
            for producers in self._attempts():
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
        self._quiet_until = self.clock() + self.QUIET_AFTER_FAILURE_SECONDS
        self.close()
        logger.warning("The broker did not take %s (%s); beat will make it good.", task, failed)
        return False

    def close(self) -> None:
        """Close every connection; the next publishing opens new ones."""
        with self._lock:
            pools, self._pools = self._pools, []
        for pool in pools:
            _close(pool)

    def _attempts(self) -> Iterator[ProducerPool]:
        """One broker's producers after the other, while there is time; taking the next says that this one failed."""
        pools = self._open()
        ends_at = self.clock() + MOST_SECONDS_OF_PUBLISHING - PUBLISH_TIMEOUT_SECONDS
        first = self._first
        for position in range(len(pools)):
            if position and self.clock() > ends_at:
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
