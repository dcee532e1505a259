"""How many messages wait for each license, and since when.

Counted over the whole outbox first: where few wait, as nearly always, one query groups them all. A backlog is counted
license by license, each up to the limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Min

from ...counts import BoundedCount, bounded, count_up_to
from ...models import OutboundMessage, Status
from ...models.message import OutboundMessageQuerySet
from ..paginator import MOST_COUNTED

_OLDEST_LOOKED_AT = 1000


@dataclass(frozen=True)
class Queue:
    """Of one license: how many wait, since when the oldest does, and when the first is due. None: not known."""

    waiting: BoundedCount
    oldest_at: datetime | None = None
    due_at: datetime | None = None


NO_QUEUE = Queue(BoundedCount(0))


def queues_of(license_ids: Sequence[int]) -> dict[int, Queue]:
    """The queue of each license that has one."""
    queued = OutboundMessage.objects.filter(status=Status.QUEUED)
    if count_up_to(MOST_COUNTED, queued).is_more:
        return _backlog(queued, license_ids)
    grouped = queued.order_by().values_list("license_id").annotate(Count("pk"), Min("created_at"), Min("due_at"))
    return {
        license_id: Queue(bounded(MOST_COUNTED, waiting), oldest_at, due_at)
        for license_id, waiting, oldest_at, due_at in grouped
    }


def _backlog(queued: OutboundMessageQuerySet, license_ids: Sequence[int]) -> dict[int, Queue]:
    oldest: dict[int, datetime] = {}
    for license_id, created_at in queued.order_by("created_at").values_list("license_id", "created_at")[
        :_OLDEST_LOOKED_AT
    ]:
        oldest.setdefault(license_id, created_at)
    queues = {}
    for license_id in license_ids:
        waiting = count_up_to(MOST_COUNTED, queued.filter(license_id=license_id))
        if waiting:
            queues[license_id] = Queue(waiting, oldest.get(license_id))
    return queues
