"""Publishes wake-ups ("there is something to do"), and omits those for which an earlier one is still on its way.

A wake-up may be lost or repeated without harm: the database is the queue, and beat recovers whatever is missing.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from .broker import Broker
from .models import outbox_key
from .store import store
from .store.heartbeats import note_alive

if TYPE_CHECKING:
    from .store.messages import LaneSeen

DISPATCH_LICENSE = "django_kpwa.dispatch_license"
PROCESS_WEBHOOK = "django_kpwa.process_webhook"
PROCESS_DUE_WEBHOOKS = "django_kpwa.process_due_webhooks"
DISPATCH_DUE = "django_kpwa.dispatch_due"

# Tolerance for a lease that was being taken, but not yet committed, when the lane was read for a wake-up. Its
# `taken_at` is earlier than that read, but its driver serves that wake-up as well.
_TAKING = timedelta(seconds=1)

Key = TypeVar("Key")


class Publisher:
    """Publishes wake-ups, and remembers what this process published a moment ago. `clock` returns seconds.

    A wake-up is on its way until its lane is taken: until then its task waits behind others, for instance because all
    workers are busy. After `ON_ITS_WAY_SECONDS` it may be lost, and another one is published.
    """

    ON_ITS_WAY_SECONDS = 5.0
    WEBHOOKS_TOGETHER_SECONDS = 0.25
    """Webhooks that arrive within this time after another one are delayed by it, and are processed by one task."""
    MAX_REMEMBERED = 4096
    """Maximum number of licenses, and of outboxes, that are remembered."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.broker = Broker(clock)
        self.reset()

    def reset(self) -> None:
        """Forget everything, as in a new process: after a fork, locks and connections belong to the parent."""
        self.broker.reset()
        self._lock = threading.Lock()
        # Wake-ups on their way, by outbox and license, oldest first: the database's time just before the wake-up was
        # published, and the clock's time until which it counts.
        self._on_their_way: OrderedDict[tuple[tuple[str, str], int], tuple[datetime, float]] = OrderedDict()
        # By outbox, oldest first: when a webhook's task was last published, and until when the published task covers
        # webhooks that arrive.
        self._webhooks: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def wake_license(self, license_id: int, *, countdown_seconds: float = 0.0, lane: LaneSeen | None = None) -> bool:
        """Publish a task that drives the lane, unless a worker drives it or an earlier wake-up is still on its way.

        Call this after the commit of what is to be sent. Returns True if a task was published.

        `countdown_seconds`: delay of the task; such a task is always published.
        `lane`: the lane's state before the commit. It may be used to publish, but not to omit a wake-up, for which the
        lane is read again here. That is safe because a driver takes the lane before it looks for messages, and looks
        once more after it has released the lane: it sees whatever was committed before either look.
        """
        if not self.broker.can_publish():
            return False
        if countdown_seconds:
            return self._hand_over(DISPATCH_LICENSE, (license_id,), countdown_seconds)
        published_at = self.on_its_way_since(license_id)
        if lane is None or lane.is_driven or published_at is not None:
            lane = store().look_at_lane(license_id)
            if lane is None or lane.is_driven:
                return False
            if published_at is not None and (lane.taken_at is None or lane.taken_at < published_at - _TAKING):
                return False
        if not self._hand_over(DISPATCH_LICENSE, (license_id,)):
            return False
        with self._lock:
            self._remember(
                self._on_their_way,
                (outbox_key(), license_id),
                (lane.seen_at, self.clock() + self.ON_ITS_WAY_SECONDS),
            )
        return True

    def on_its_way_since(self, license_id: int) -> datetime | None:
        """Return the database's time just before the last wake-up was published; None if none is on its way."""
        with self._lock:
            published_at, until = self._on_their_way.get((outbox_key(), license_id)) or (None, float("-inf"))
        return published_at if self.clock() < until else None

    def publish_dispatch(
        self, license_id: int, lease_token: uuid.UUID | None = None, countdown_seconds: float = 0.0
    ) -> bool:
        """Publish a task that drives a lane, without the checks of `wake_license()`.

        Returns False if no broker took it.

        `lease_token`: the lease that the last drive passed on.
        """
        arguments: tuple[Any, ...] = (license_id,) if lease_token is None else (license_id, str(lease_token))
        return self._publish(DISPATCH_LICENSE, arguments, countdown_seconds)

    def publish_webhook(self, event_id: int) -> bool:
        """Publish a task for a committed webhook event: for this event alone, or for all that arrive within a moment.

        The first event is processed immediately. While more keep arriving, one task is published that runs
        `WEBHOOKS_TOGETHER_SECONDS` later and processes all events stored by then, so that events which arrive before it
        starts need no task. If that task is lost, or runs too early by a worker's clock, beat recovers the rest.

        Returns False if an earlier task covers the event, or if no broker took the task.
        """
        now, key = self.clock(), outbox_key()
        ends = now + self.WEBHOOKS_TOGETHER_SECONDS
        with self._lock:
            published_at, covered_until = self._webhooks.get(key) or (float("-inf"), float("-inf"))
            if now < covered_until:
                return False
            is_alone = now >= published_at + self.WEBHOOKS_TOGETHER_SECONDS
            self._remember(self._webhooks, key, (now, covered_until) if is_alone else (ends, ends))
        if is_alone:
            return self._publish(PROCESS_WEBHOOK, (event_id,))
        return self._publish(PROCESS_DUE_WEBHOOKS, (), self.WEBHOOKS_TOGETHER_SECONDS)

    def publish_due_webhooks(self) -> bool:
        """Publish a task that processes all webhook events that are due. Returns False if no broker took it."""
        return self._publish(PROCESS_DUE_WEBHOOKS, ())

    def _publish(self, task: str, arguments: tuple[Any, ...], countdown_seconds: float = 0.0) -> bool:
        return self.broker.can_publish() and self._hand_over(task, arguments, countdown_seconds)

    def _hand_over(self, task: str, arguments: tuple[Any, ...], countdown_seconds: float = 0.0) -> bool:
        if self.broker.publish(task, arguments, countdown_seconds):
            return True
        # For the admin's pages, which may run in another process and must not connect to the broker themselves.
        note_alive("publish failed")
        return False

    def _remember(self, kept: OrderedDict[Key, Any], key: Key, value: Any) -> None:
        kept[key] = value
        kept.move_to_end(key)
        while len(kept) > self.MAX_REMEMBERED:
            kept.popitem(last=False)


publisher = Publisher()
"""This process's publisher."""
wake_license = publisher.wake_license
publish_dispatch = publisher.publish_dispatch
publish_webhook = publisher.publish_webhook
publish_due_webhooks = publisher.publish_due_webhooks
# A forked web worker must not share its parent's sockets, nor a lock that one of its threads held.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=publisher.reset)


def wake_license_on_commit(
    license_id: int | None, *, countdown_seconds: float = 0.0, lane: LaneSeen | None = None
) -> None:
    """Call `wake_license()` after the current transaction is committed; immediately if there is none.

    `license_id`: None for a message without a license, which has no lane to wake.
    `countdown_seconds`, `lane`: see `wake_license()`.
    """
    if license_id is None:
        return
    store().on_commit(lambda: wake_license(license_id, countdown_seconds=countdown_seconds, lane=lane))
