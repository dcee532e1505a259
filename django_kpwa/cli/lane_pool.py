"""Drives lanes without Celery: a bounded pool of threads runs `dispatch.drive()`.

A lane that waits for its pace occupies no thread: its lease is held, and its next drive is an entry of a heap. Other
such processes and Celery workers may run at the same time, because the lease decides who drives a lane. If a thread
hangs in the site's code, a new thread takes over its lane after its lease has expired.
"""

from __future__ import annotations

import contextlib
import heapq
import queue
import select
import signal
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import FrameType

from django.db import DatabaseError, InterfaceError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from .. import dispatch
from ..conf import SLICE_SECONDS, kpwa_settings, lease_seconds
from ..logs import get_logger
from ..masking import masked_traceback
from ..store import store
from ..store.results import Lease
from .console import missing_tables

logger = get_logger("django_kpwa.run")


class LanePool:
    """Threads that drive lanes and run other jobs.

    The pool is not thread-safe itself: one thread creates, uses and closes it.

    Args:
        threads: Number of threads, and the maximum number of hanging threads that are replaced.
        slice_seconds: Maximum length of one drive, after which other lanes get the thread.
    """

    def __init__(self, threads: int, slice_seconds: float = SLICE_SECONDS) -> None:
        self._tasks = _Tasks()
        self._threads: set[threading.Thread] = set()
        self._max_lost = threads
        self._lost: set[threading.Thread] = set()
        self._lock = threading.Lock()
        self._slice_seconds = slice_seconds
        # The lanes that are driven, queued or waiting in this pool, by license id; the value is the current drive, None
        # while none is running.
        self._underway: dict[int, _Underway | None] = {}
        self._jobs: set[str] = set()
        # A heap of (monotonic time of the next drive, license id, lease token).
        self._waiting: list[tuple[float, int, uuid.UUID]] = []
        self._is_stopping = False
        # A SimpleQueue, because a signal handler writes to it and its put() is reentrant. The lock of an Event is not:
        # a signal during Event.wait() would deadlock.
        self._changes: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.attempts = 0
        """Number of sends attempted so far."""
        for _ in range(threads):
            self._start_thread()

    def is_stopping(self) -> bool:
        """Return True once a stop has been requested."""
        return self._is_stopping

    def ask_to_stop(self) -> None:
        """Make every drive end after its current call to the gateway. Safe to call from a signal handler."""
        self._is_stopping = True
        self._changes.put(None)

    def is_driving(self) -> bool:
        """Return True if any lane is driven, queued or waiting for its pace in this pool."""
        with self._lock:
            return bool(self._underway)

    def license_ids(self) -> list[int]:
        """Return the licenses whose lanes are driven, queued or waiting for their pace in this pool."""
        with self._lock:
            return list(self._underway)

    def start(self, license_ids: Iterable[int]) -> int:
        """Start driving these lanes, except those that this pool drives already.

        Args:
            license_ids: Lanes without a valid lease, according to the database. If this pool has been driving one of
                them for longer than a lease lasts, its thread hangs and is replaced.

        Returns:
            The number of lanes that were started.
        """
        with self._lock:
            for license_id in license_ids:
                self._give_up_where_lost(license_id)
            fresh = [license_id for license_id in license_ids if license_id not in self._underway]
            self._underway.update(dict.fromkeys(fresh))
        for license_id in fresh:
            self._submit_drive(license_id, None)
        return len(fresh)

    def _give_up_where_lost(self, license_id: int) -> None:
        underway = self._underway.get(license_id)
        if underway is None or time.monotonic() < underway.is_lost_at:
            return
        if len(self._lost) >= self._max_lost:
            logger.error("%d threads never returned from this site's code; restart this process.", len(self._lost))
            return
        logger.error("The thread that drives license %s did not return; another thread takes over.", license_id)
        del self._underway[license_id]
        self._lost.add(underway.thread)
        self._threads.discard(underway.thread)
        self._start_thread()

    def _start_thread(self) -> None:
        # A daemon, so that the process can end although a thread hangs.
        thread = threading.Thread(target=self._work, name="kpwa", daemon=True)
        self._threads.add(thread)
        thread.start()

    def _work(self) -> None:
        mine: _Slot = queue.SimpleQueue()
        try:
            while threading.current_thread() not in self._lost:
                task = self._tasks.get(mine)
                if task is None:
                    return
                _close_broken_connections()
                task()
            self._lost.discard(threading.current_thread())
        finally:
            connections.close_all()

    def _submit_drive(self, license_id: int, token: uuid.UUID | None) -> None:
        self._tasks.put(lambda: self._drive(license_id, token))

    def start_job(self, name: str, job: Callable[[], object]) -> None:
        """Run `job` in a thread of the pool, unless a job called `name` is still queued or running.

        Errors are logged and not raised: jobs are periodic, and the next call tries again.
        """
        with self._lock:
            if name in self._jobs:
                return
            self._jobs.add(name)
        self._tasks.put(lambda: self._do(name, job))

    def wait(self, seconds: float) -> None:
        """Start the drives whose wait is over, then wait for at most `seconds`.

        It returns earlier if a drive or job ends, a stop is requested, or the next wait of a pace is over.
        """
        until_resumed = self._resume_waiting()
        if until_resumed is not None:
            seconds = min(seconds, until_resumed)
        if not self._is_stopping and seconds > 0:
            with contextlib.suppress(queue.Empty):
                self._changes.get(timeout=seconds)
        while not self._changes.empty():
            self._changes.get()

    def close(self) -> None:
        """Let running calls end and be recorded, and release the leases of all waiting lanes.

        Threads that do not end within a lease are abandoned.
        """
        with self._lock:
            self._is_stopping = True
        for _ in self._threads:
            self._tasks.put(None)
        gives_up_at = time.monotonic() + lease_seconds(kpwa_settings())
        for thread in self._threads:
            thread.join(max(0.0, gives_up_at - time.monotonic()))
        for _, license_id, token in self._waiting:
            _release(license_id, token)
        self._waiting.clear()

    def _resume_waiting(self) -> float | None:
        """Start the drives whose wait is over; return the seconds until the next one, None if no lane waits."""
        with self._lock:
            now = time.monotonic()
            while self._waiting and self._waiting[0][0] <= now:
                _, license_id, token = heapq.heappop(self._waiting)
                self._submit_drive(license_id, token)
            return self._waiting[0][0] - now if self._waiting else None

    def _drive(self, license_id: int, token: uuid.UUID | None) -> None:
        driven = dispatch.Driven()
        underway = _Underway(self._slice_seconds)
        with self._lock:
            self._underway[license_id] = underway
        try:
            if not self._is_stopping:
                driven = dispatch.drive(
                    license_id, token, should_stop=self.is_stopping, slice_seconds=self._slice_seconds
                )
            elif token is not None:
                _release(license_id, token)
        except Exception as error:
            report(error, f"driving license {license_id}")
        finally:
            self._after(license_id, driven, underway)

    def _after(self, license_id: int, driven: dispatch.Driven, underway: _Underway) -> None:
        with self._lock:
            self.attempts += driven.attempts
            is_given_up = self._underway.get(license_id) is not underway
            if not is_given_up:
                self._underway[license_id] = None
            if is_given_up:
                # A thread that was taken for lost has returned. Another thread drives the lane now, so its state here
                # must not be touched.
                logger.warning("The thread that drove license %s returned after it was replaced.", license_id)
            elif driven.lease_token is not None:
                heapq.heappush(self._waiting, (time.monotonic() + driven.wait_seconds, license_id, driven.lease_token))
            elif driven.has_more and not self._is_stopping:
                self._submit_drive(license_id, None)
            else:
                del self._underway[license_id]
        if is_given_up and driven.lease_token is not None:
            _release(license_id, driven.lease_token)
        self._changes.put(None)

    def _do(self, name: str, job: Callable[[], object]) -> None:
        try:
            job()
        except Exception as error:
            report(error, name)
        finally:
            with self._lock:
                self._jobs.discard(name)
            self._changes.put(None)


_Task = Callable[[], None]
_Slot = queue.SimpleQueue[_Task | None]


class _Tasks:
    """A queue of tasks. The thread that became idle last gets the next one, because its database connection is open.

    Connecting costs more than sending a message. A thread closes its connections after it has been idle for
    `KEPT_SECONDS`.
    """

    KEPT_SECONDS = 90.0

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[_Task | None] = deque()
        self._free: list[_Slot] = []

    def put(self, task: _Task | None) -> None:
        """Hand a task to a thread; None ends the thread that gets it."""
        with self._lock:
            if self._free:
                self._free.pop().put(task)
            else:
                self._waiting.append(task)

    def get(self, mine: _Slot) -> _Task | None:
        """Wait for a task. `mine`: a queue that belongs to the calling thread."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._free.append(mine)
        try:
            return mine.get(timeout=self.KEPT_SECONDS)
        except queue.Empty:
            connections.close_all()
            return mine.get()


def _close_broken_connections() -> None:
    """Close this thread's connections that the database has ended meanwhile, so that the next statement opens new ones.
    Otherwise a drive with a passed-on lease would fail, and its lane would wait until the lease expires."""
    for connection in connections.all(initialized_only=True):
        if connection.connection is not None and _may_be_broken(connection) and not connection.is_usable():
            # Django drops the connection even if closing it fails.
            with contextlib.suppress(DatabaseError, InterfaceError):
                connection.close()


def _may_be_broken(connection: BaseDatabaseWrapper) -> bool:
    """False if the server has sent nothing since its last answer, and so has not ended the connection.

    Polling the socket is cheap, whereas `is_usable()` runs a statement, which would be a third one for each message.
    """
    if connection.errors_occurred or not hasattr(select, "poll"):
        return True
    try:
        socket = connection.connection.fileno()
    except (AttributeError, connection.Database.Error):  # type: ignore[attr-defined]  # missing in the stubs
        return True
    arrived = select.poll()
    arrived.register(socket, select.POLLIN)
    return bool(arrived.poll(0))


class _Underway:
    """A drive that is running in the current thread."""

    def __init__(self, slice_seconds: float) -> None:
        self.thread = threading.current_thread()
        # A drive may begin its last send at the end of its slice, and its lease covers that send. After that, it hangs.
        self.is_lost_at = time.monotonic() + slice_seconds + lease_seconds(kpwa_settings())


@contextlib.contextmanager
def stopped_by_signals(pool: LanePool, *, is_guest: bool = False) -> Iterator[None]:
    """Within the context, SIGTERM and Ctrl-C stop `pool` gracefully; a second signal ends the process at once.

    `is_guest`: the command may have been called by another program, e.g. by a task of a worker. That program's signal
    handler is called afterwards, because the program may have to stop as well.
    """
    arrived: list[signal.Signals] = []

    def stop(number: int, frame: FrameType | None) -> None:
        pool.ask_to_stop()
        arrived.append(signal.Signals(number))
        signal.signal(number, signal.SIG_DFL)

    # Python allows only the main thread to set handlers. In another thread, its creator has to stop the pool.
    numbers = (signal.SIGTERM, signal.SIGINT) if threading.current_thread() is threading.main_thread() else ()
    previous = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for number in arrived:
            if is_guest and callable(previous[number]) and previous[number] is not signal.default_int_handler:
                signal.raise_signal(number)


def _release(license_id: int, token: uuid.UUID) -> None:
    try:
        store().release_lease(Lease(license_id, token))
    except (DatabaseError, InterfaceError) as error:
        report(error, f"releasing license {license_id}")


def report(error: Exception, doing: str) -> None:
    """Log an error of something that is retried automatically.

    Args:
        doing: What failed, as a phrase that follows "while", for example "purging".
    """
    if tables := missing_tables(error):
        logger.error("%s This goes on by itself then.", tables)
    elif isinstance(error, (DatabaseError, InterfaceError)):
        # No traceback: an unreachable database is not a bug, and the log would get a traceback every second.
        logger.warning("The database failed while %s (%s); it will be retried.", doing, type(error).__name__)
    else:
        logger.error("%s failed; it will be retried.\n%s", doing.capitalize(), masked_traceback(error))
