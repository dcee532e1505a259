"""This process's connections to the site's Celery brokers, and functions that inspect the site's Celery configuration.

The database is the queue, so a lost task does no harm: beat recovers whatever is missing. Publishing can therefore give
up quickly, and then not try again for some seconds: a checkout must not wait for a broker. (Measured: an unresponsive
Redis costs 0.31 s with these limits; without them 7 s, or it blocks for ever.)
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from typing import TYPE_CHECKING, Any

from django.conf import settings

from .logs import get_logger
from .rehearsal import is_rehearsal
from .schedule import BEAT_SCHEDULE

# Celery and kombu are imported only if the site uses Celery: they cost each process 15 MB and a tenth of a second.
if TYPE_CHECKING:
    from kombu import Connection
    from kombu.pools import ProducerPool

logger = get_logger("django_kpwa.wake")

PUBLISH_TIMEOUT_SECONDS = 0.3
"""Timeout for one broker; if the site has several, the next one is tried after it."""
MAX_PUBLISH_SECONDS = 1.0
"""Time limit for trying all brokers, however many there are."""
_POOL_SIZE = 10


def is_configured() -> bool:
    """True if tasks can be published. Without a broker URL, Celery would try localhost for 0.6 s per call."""
    app = _app()
    return app is not None and bool(app.conf.broker_write_url) and not app.conf.task_always_eager


def is_set_but_unread() -> bool:
    """True if `CELERY_BROKER_URL` is set, but this process has no Celery app that reads it."""
    return bool(getattr(settings, "CELERY_BROKER_URL", "")) and not (is_configured() or runs_tasks_at_once())


def runs_tasks_at_once() -> bool:
    """True if Celery runs tasks in the calling process (`task_always_eager`).

    Nothing is published then, because a checkout would send the message in the middle of the sale.
    """
    app = _app()
    return app is not None and bool(app.conf.task_always_eager)


def why_unusable() -> str:
    """Return why no connection to a broker can even be tried, and what to do; empty if it can. Connects to none."""
    app = _app()
    needs_redis = any(url.startswith(("redis", "sentinel")) for url in _urls(app.conf.broker_write_url))
    try:
        if needs_redis:
            import_module("redis")  # kombu's own import of it fails in various ways, or only later
        for connection in _connections(app):
            connection.transport  # noqa: B018 - looks for the client's library
    except ImportError:
        named = 'pip install "django-kpwa[redis]"' if needs_redis else "install what Celery's docs name for it"
        return f"its client is not installed: {named}"
    except Exception as error:
        # The error's text is left out: it may contain a part of the address, and with it the password.
        return f"its address cannot be read ({type(error).__name__}): see CELERY_BROKER_URL"
    return ""


def answers() -> bool:
    """True if a connection to a broker can be made now. For diagnosis only, because it may take seconds.

    Call it only if `why_unusable()` is empty.
    """
    failed = ""
    for connection in _connections(_app()):
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
    """Return the name of the site's Celery app as `celery -A` takes it; empty if the app has none."""
    app = _app()
    return str(app.main or "") if app is not None else ""


def queue_of(task: str) -> str:
    """Return the name of the queue that `task` is sent to."""
    queue = _app().amqp.router.route({}, task)["queue"]
    return str(getattr(queue, "name", queue))


def consumes(task: str) -> bool:
    """True if a worker in this process takes tasks from the queue that `task` is sent to."""
    return queue_of(task) in _app().amqp.queues.consume_from


def lacks_timeouts() -> bool:
    """True if an unresponsive Redis would block the site's own `.delay()` for ever; our publishing has timeouts."""
    app = _app()
    if app is None:
        return False
    has_redis = any(url.startswith(("redis", "sentinel")) for url in _urls(app.conf.broker_write_url))
    return has_redis and not app.conf.broker_transport_options.get("socket_timeout")


def keeps_database_connections() -> bool:
    """True if workers keep database connections from task to task. Celery ignores Django's CONN_MAX_AGE."""
    app = _app()
    return app is not None and bool(app.conf.get("CELERY_DB_REUSE_MAX"))


def missing_from_beat() -> list[str]:
    """Return our tasks that the beat schedule lacks; empty for other schedulers, which may store it elsewhere."""
    app = _app()
    if app is None or app.conf.beat_scheduler != "celery.beat:PersistentScheduler":
        return []
    scheduled = {entry.get("task") for entry in app.conf.beat_schedule.values()}
    return [entry["task"] for entry in BEAT_SCHEDULE.values() if entry["task"] not in scheduled]


class Broker:
    """Publishes tasks, with timeouts short enough for a checkout.

    Celery fails over to the next broker by retrying, which uses up the available time. Here each broker has its own
    pool, so that a broker which is down or unresponsive costs a single attempt, and the broker that took the last task
    is tried first for the next one. `clock` returns seconds.
    """

    QUIET_AFTER_FAILURE_SECONDS = 5.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.reset()

    def reset(self) -> None:
        """Forget all connections without closing them: after a fork they belong to the parent."""
        self._quiet_until = float("-inf")
        self._pools: list[ProducerPool] = []
        self._first = 0
        self._app: Any = None
        self._lock = threading.Lock()

    def can_publish(self) -> bool:
        """True if publishing can be tried now: not in a site's tests, nor shortly after a failure."""
        if is_rehearsal() or self.clock() < self._quiet_until:
            return False
        app = _app()
        # Open pools count as a configured broker, because reading Celery's configuration costs as much as a query.
        is_open = bool(self._pools) and self._app is app
        return (is_open and app is not None and not app.conf.task_always_eager) or is_configured()

    def publish(self, task: str, arguments: tuple[Any, ...], countdown_seconds: float = 0.0) -> bool:
        """Publish a task that runs in `countdown_seconds` at the earliest. Returns False if no broker took it."""
        options: dict[str, Any] = {"countdown": countdown_seconds} if countdown_seconds else {}
        # Only the error's type is logged, because the message of a connection error may contain the broker's password.
        failed = ""
        try:
            for producers in self._attempts():
                try:
                    with producers.acquire(block=True, timeout=PUBLISH_TIMEOUT_SECONDS) as producer:
                        publishing: dict[str, Any] = {"producer": producer, "retry": False, "ignore_result": True}
                        _app().send_task(task, arguments, **publishing, **options)
                except Exception as error:
                    failed = type(error).__name__
                    continue
                return True
        except Exception as error:
            # From `_attempts()`: the URL cannot be parsed, or its transport is not installed.
            failed = why_unusable() or type(error).__name__
        self._quiet_until = self.clock() + self.QUIET_AFTER_FAILURE_SECONDS
        self.close()
        logger.warning("Could not publish %s to the broker (%s); beat will make up for it.", task, failed)
        return False

    def close(self) -> None:
        """Close all connections; the next `publish()` opens new ones."""
        with self._lock:
            pools, self._pools = self._pools, []
        for pool in pools:
            _close(pool)

    def _attempts(self) -> Iterator[ProducerPool]:
        """Yield each broker's producers in turn while there is time. Advancing means that the last broker failed."""
        pools = self._open()
        ends_at = self.clock() + MAX_PUBLISH_SECONDS - PUBLISH_TIMEOUT_SECONDS
        first = self._first
        for position in range(len(pools)):
            if position and self.clock() > ends_at:
                return
            pool = pools[(first + position) % len(pools)]
            yield pool
            if len(pools) > 1:
                # The pool's other connections are most likely dead as well; each would cost another sale a timeout.
                self._first = (first + position + 1) % len(pools)
                _close(pool)

    def _open(self) -> list[ProducerPool]:
        from kombu.pools import ProducerPool

        with self._lock:
            app = _app()
            if not self._pools or self._app is not app:
                connections = [connection.Pool(limit=_POOL_SIZE) for connection in _connections(app)]
                self._pools = [ProducerPool(pool, limit=_POOL_SIZE) for pool in connections]
                if self._app is not app:
                    self._app, self._first = app, 0
            return self._pools


def _app() -> Any:
    """Return the site's `Celery` app in this thread; None if the site does not use Celery.

    The app exists once some code of the site has imported Celery. If the site defines none, Celery creates a default
    app, whose broker can only come from the environment or from a module `celeryconfig`.
    """
    if "celery" not in sys.modules and not _is_configured_outside_django():
        return None
    from celery.app import app_or_default

    return app_or_default()


@cache
def _is_configured_outside_django() -> bool:
    named = ("CELERY_BROKER_URL", "CELERY_BROKER_WRITE_URL", "CELERY_CONFIG_MODULE", "CELERY_LOADER")
    return any(map(os.environ.get, named)) or find_spec("celeryconfig") is not None


def _close(pool: ProducerPool) -> None:
    pool.force_close_all()  # type: ignore[attr-defined]  # missing in the stubs
    pool.connections.force_close_all()


def _urls(url: Any) -> list[str]:
    """The URLs of the site's brokers, from any form that Celery accepts: one URL, several with `;`, or a list."""
    named = [url] if isinstance(url, str) else list(url or ())
    return [part.strip() for several in named for part in str(several).split(";") if part.strip()]


def _connections(app: Any) -> list[Connection]:
    """Return an unopened connection to each broker, in the order in which Celery would try them.

    All sentinels together count as one broker: the transport queries them in turn for the master.
    """
    from kombu import Connection

    urls = _urls(app.conf.broker_write_url)
    if any(url.startswith("sentinel") for url in urls):
        return [_connection(app, ";".join(urls))]
    strategy = app.conf.broker_failover_strategy or "round-robin"
    if len(urls) > 1:
        ordered = (Connection.failover_strategies[strategy] if isinstance(strategy, str) else strategy)(list(urls))
        # A failover strategy may be endless, and may yield a URL more than once.
        urls = list(dict.fromkeys([*islice(ordered, len(urls)), *urls]))
    return [_connection(app, url if "://" in url else urls[0], url) for url in urls or [""]]


def _connection(app: Any, url: str, alternate: str = "") -> Connection:
    """Return an unopened connection to one broker, with our timeouts in the options that its transport supports."""
    seconds = PUBLISH_TIMEOUT_SECONDS
    connection: Connection = app.connection_for_write(url=url, connect_timeout=seconds, heartbeat=0)
    if alternate and alternate != url:
        # `alternate` may be only a host name; kombu then takes the rest from the first URL.
        connection.switch(alternate)
    options: dict[str, Any] = {**(connection.transport_options or {}), "max_retries": 0, "interval_start": 0}
    options["connect_retries_timeout"] = seconds
    limits: dict[str, Any]
    if connection.get_transport_cls().driver_type == "redis":
        limits = {"socket_timeout": seconds, "socket_connect_timeout": seconds, "retry_on_timeout": False}
        if options.get("sentinel_kwargs"):
            # With `sentinel_kwargs`, the connection's own timeouts do not apply to queries of the sentinels.
            options["sentinel_kwargs"] = {**options["sentinel_kwargs"], **limits}
    else:
        limits = {"read_timeout": seconds, "write_timeout": seconds}
    connection.transport_options = {**options, **limits}
    return connection
