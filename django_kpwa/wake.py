"""Publishes "there is something to do": which task, when, and where one that is on its way already does.

A wake-up may be lost or repeated without harm: the database is the queue, and beat makes good what is missing.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.db import transaction

from .broker import Broker
from .models import outbox_key, write_alias
from .store import store
from .store.messages import LaneSeen

DISPATCH_LICENSE = "django_kpwa.dispatch_license"
PROCESS_WEBHOOK = "django_kpwa.process_webhook"
PROCESS_DUE_WEBHOOKS = "django_kpwa.process_due_webhooks"
DISPATCH_DUE = "django_kpwa.dispatch_due"

# A take that had begun, and was not committed, when the lane was looked at for a wake-up: it answers that one as well.
_TAKING = timedelta(seconds=1)

Key = TypeVar("Key")


class Publisher:
    """What this process published a moment ago, and its connections to publish more. `clock` counts seconds.

    A wake-up counts as on its way until its lane is taken: until then the task waits behind others, for instance
    because every worker is busy. After `ON_ITS_WAY_SECONDS` it may be lost, and another one is published.
    """

    ON_ITS_WAY_SECONDS = 5.0
    WEBHOOKS_TOGETHER_SECONDS = 0.25
    """Webhooks that come so soon after another wait so long, and are processed by one task."""
    MOST_REMEMBERED = 4096
    """Licenses, and outboxes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.broker = Broker(clock)
        self.reset()

    def reset(self) -> None:
        """Begin as a process that has published nothing: after a fork locks and connections are the parent's."""
        self.broker.reset()
        self._lock = threading.Lock()
        # The oldest first, by outbox and license: the database's time just before, and until when it is on its way.
        self._on_their_way: OrderedDict[tuple[tuple[str, str], int], tuple[datetime, float]] = OrderedDict()
        # The same by outbox: when a webhook's task was published for last, and until when one covers what comes.
        self._webhooks: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def wake_license(self, license_id: int, *, countdown_seconds: float = 0.0, lane: LaneSeen | None = None) -> bool:
        """Ask for the lane to be driven, where nobody is at it and no wake-up of ours is still on its way.

        A driver looks once more after it has let the lane go, and takes the lane before it looks for messages. So what
        is committed before either is seen, and the one look at the lane that decides here comes after the commit:
        `lane`, which was seen before it, can only say that a wake-up is wanted. Returns True if one was published.
        """
        if not self.broker.can_publish():
            return False
        if countdown_seconds:
            return self.broker.publish(DISPATCH_LICENSE, (license_id,), countdown_seconds)
        published_at = self.on_its_way_since(license_id)
        if lane is None or lane.is_driven or published_at is not None:
            lane = store().look_at_lane(license_id)
            if lane is None or lane.is_driven:
                return False
            if published_at is not None and (lane.taken_at is None or lane.taken_at < published_at - _TAKING):
                return False
        if not self.broker.publish(DISPATCH_LICENSE, (license_id,)):
            return False
        with self._lock:
            self._remember(
                self._on_their_way,
                (outbox_key(), license_id),
                (lane.seen_at, self.clock() + self.ON_ITS_WAY_SECONDS),
            )
        return True

    def on_its_way_since(self, license_id: int) -> datetime | None:
        """The database's time before which that license's wake-up was not published; None where none is on its way."""
        with self._lock:
            published_at, until = self._on_their_way.get((outbox_key(), license_id)) or (None, float("-inf"))
        return published_at if self.clock() < until else None

    def publish_dispatch(
        self, license_id: int, lease_token: uuid.UUID | None = None, countdown_seconds: float = 0.0
    ) -> bool:
        """Publish one drive of a lane. False: the broker did not take it."""
        arguments: tuple[Any, ...] = (license_id,) if lease_token is None else (license_id, str(lease_token))
        return self._publish(DISPATCH_LICENSE, arguments, countdown_seconds)

    def publish_webhook(self, event_id: int) -> bool:
        """Have a webhook event processed that is committed: at once, or with others that came within a moment.

        The first event is processed at once. While others keep coming, one task is published that runs a moment later
        and processes whatever is stored by then, so that those that come before it starts need none. Where it is lost,
        or a worker's clock has it run too soon, beat makes good what it did not find.

        False: nothing was published for it alone, or the broker did not take it.
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
        """Have every webhook event processed whose time has come."""
        return self._publish(PROCESS_DUE_WEBHOOKS, ())

    def _publish(self, task: str, arguments: tuple[Any, ...], countdown_seconds: float = 0.0) -> bool:
        return self.broker.can_publish() and self.broker.publish(task, arguments, countdown_seconds)

    def _remember(self, kept: OrderedDict[Key, Any], key: Key, value: Any) -> None:
        kept[key] = value
        kept.move_to_end(key)
        while len(kept) > self.MOST_REMEMBERED:
            kept.popitem(last=False)


publisher = Publisher()
"""This process's."""
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
