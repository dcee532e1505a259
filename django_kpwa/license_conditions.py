"""The condition of a license as people see it, and its queue. Reads only the database; the gateway is not called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import NamedTuple

from django.db.models import Count, Min, Q
from django.utils import timezone

from . import words
from .conf import kpwa_settings
from .counts import MAX_COUNTED, BoundedCount, bounded, count_up_to
from .gateway import SessionStatus, session_trouble_of
from .models import (
    LIVE,
    DatabaseNow,
    HoldReason,
    Lane,
    License,
    OutboundMessage,
    OutboundMessageQuerySet,
    PauseReason,
    Status,
)
from .store import store
from .words import Condition, Tone

NOT_SEEN_AFTER = timedelta(minutes=60)
"""Time without a sign of life from the gateway after which a license is shown as not seen instead of connected."""
_MAX_OLDEST_READ = 1000


@dataclass(frozen=True)
class PutOff:
    """Waiting messages that are put off for one reason.

    `until`: when the first of them is due. `count`: their number; None if unknown.
    """

    reason: str
    until: datetime
    count: BoundedCount | None = None


class Queue(NamedTuple):
    """A license's waiting messages: their number, when the oldest was created, and when the first is due.

    `live_due_at`: when the first message with a `LIVE` priority is due. The times are None if they are unknown.
    For a long backlog, `put_off` covers at most the next message.
    """

    waiting: BoundedCount
    oldest_at: datetime | None = None
    due_at: datetime | None = None
    live_due_at: datetime | None = None
    put_off: tuple[PutOff, ...] = ()


NO_QUEUE = Queue(BoundedCount(0))


def license_condition(license_: License, now: datetime) -> Condition:
    """Return the condition of `license_`, fetched with its lane, at `now` by the database's clock."""
    if not license_.is_active:
        return words.INACTIVE
    if not license_.api_key_ciphertext:
        return words.NO_KEY
    lane = lane_of(license_)
    if lane is None:
        return words.NEVER_LINKED
    if lane.has_new_key:
        return words.NEW_KEY
    trouble = _trouble(lane)
    if trouble is not None:
        return trouble
    if lane.pause_reason:
        return words.PAUSES[lane.pause_reason]
    if lane.session_status == SessionStatus.QR.value:
        return words.PAUSES[PauseReason.LOGGED_OUT]
    if lane.session_seen_at is None:
        return words.NEVER_LINKED if not lane.linked_number else words.NOT_SEEN
    if lane.session_status == SessionStatus.UNKNOWN.value:
        return words.UNCLEAR
    return words.NOT_SEEN if now - lane.session_seen_at > NOT_SEEN_AFTER else words.CONNECTED


# The trouble that the gateway's own word names takes precedence over these pauses, whose advice (link again, or wait)
# would be wrong then.
_LESS_THAN_TROUBLE = (PauseReason.NONE, PauseReason.LOGGED_OUT, PauseReason.FAILING)


def _trouble(lane: Lane) -> Condition | None:
    """The condition that the gateway's own word for an unknown status stands for; None if it stands for none."""
    if lane.session_status != SessionStatus.UNKNOWN.value or lane.pause_reason not in _LESS_THAN_TROUBLE:
        return None
    trouble = session_trouble_of(lane.session_word)
    return None if trouble is None else words.TROUBLES[trouble]


class NewCustomers(NamedTuple):
    """Today's messages of a license to people who have not written to it.

    `limit`: maximum for today; None if there is no limit.
    `is_asked`: True if it is still to be entered how long the number has been in use, which decides about the limit.
    `unanswered`: messages of this calendar month to people who have not written since, as last counted.
    `is_much`: True if that is more than `KPWA["UNANSWERED_A_MONTH"]`.
    """

    sent: int
    limit: int | None
    is_asked: bool
    unanswered: int
    is_much: bool


def new_customers(license_: License, now: datetime) -> NewCustomers:
    """Return what `license_`, fetched with its lane, has sent to new customers. `now`: by the database's clock."""
    today = timezone.localtime(now, license_.time_zone).date()
    lane, limit = lane_of(license_), license_.cold_limit_on(today)
    sent = lane.cold_sent if lane is not None and lane.cold_day == today else 0
    is_asked = license_.in_use_since is None and license_.cold_limit is None
    unanswered, allowed = _unanswered(license_, lane, today), kpwa_settings().UNANSWERED_A_MONTH
    return NewCustomers(sent, limit, is_asked, unanswered, is_much=bool(allowed) and unanswered > allowed)


def _unanswered(license_: License, lane: Lane | None, today: date) -> int:
    if lane is None or lane.unanswered_at is None:
        return 0
    counted_on = timezone.localtime(lane.unanswered_at, license_.time_zone).date()
    return lane.unanswered if counted_on.replace(day=1) == today.replace(day=1) else 0


def held_by(message: OutboundMessage) -> Condition | None:
    """Return the condition of the license that keeps a waiting message from being sent; None if the license does not.

    Takes no query if the message was fetched with `license__lane`.
    """
    if message.status != Status.QUEUED:
        return None
    try:
        license_ = message.license
    except License.DoesNotExist:  # deleted while the transaction that stored the message was open
        license_ = None
    if license_ is None:
        return None
    condition = license_condition(license_, timezone.now())
    return condition if condition.tone in (Tone.BAD, Tone.ATTENTION) or condition is words.INACTIVE else None


def lane_of(license_: License) -> Lane | None:
    """Return the license's lane, or None if no worker has needed one yet."""
    return getattr(license_, "lane", None)


def stopped_since(license_: License) -> datetime | None:
    """Return since when the license, fetched with its lane, is paused or waits for a scan; None if unknown."""
    lane = lane_of(license_)
    if lane is None or not license_.api_key_ciphertext:
        return None
    if lane.pause_reason:
        return lane.paused_at
    return lane.session_seen_at if lane.session_status == SessionStatus.QR.value else None


def queues_of(license_ids: Sequence[int], limit: int = MAX_COUNTED) -> dict[int | None, Queue]:
    """Return the queue of each license that has waiting messages, by license id.

    Up to `limit` waiting messages in total, which is the normal case, are grouped by one query. Grouping a larger
    backlog would read all of it, so it is counted license by license, each up to the limit.
    """
    queued = OutboundMessage.objects.filter(status=Status.QUEUED)
    if count_up_to(limit, queued).is_more:
        return _backlog(queued, license_ids, limit)
    live = Min("due_at", filter=Q(priority__in=LIVE))
    is_put_off = Q(reason__in=HoldReason.values, due_at__gt=DatabaseNow())
    columns = (Count("pk"), Min("created_at"), Min("due_at"))
    grouped = (
        queued.order_by()
        .values_list("license_id")
        .annotate(*columns, live=live, put_off=Count("pk", filter=is_put_off))
    )
    found = list(grouped)
    put_off = _put_off(limit) if any(row[-1] for row in found) else {}
    return {
        license_id: Queue(bounded(limit, waiting), oldest_at, due_at, live_due_at, put_off.get(license_id, ()))
        for license_id, waiting, oldest_at, due_at, live_due_at, _ in found
    }


def _put_off(limit: int) -> dict[int | None, tuple[PutOff, ...]]:
    found: dict[int | None, tuple[PutOff, ...]] = {}
    put_off = OutboundMessage.objects.put_off().order_by("reason").values_list("license_id", "reason")
    for license_id, reason, until, count in put_off.annotate(Min("due_at"), Count("pk")):
        found[license_id] = (*found.get(license_id, ()), PutOff(reason, until, bounded(limit, count)))
    return found


def _backlog(queued: OutboundMessageQuerySet, license_ids: Sequence[int], limit: int) -> dict[int | None, Queue]:
    oldest: dict[int | None, datetime] = {}
    by_age = queued.order_by("created_at").values_list("license_id", "created_at")
    for license_id, created_at in by_age[:_MAX_OLDEST_READ]:
        oldest.setdefault(license_id, created_at)
    queues: dict[int | None, Queue] = {}
    for license_id in [*license_ids, *store().queued_without_their_license().values_list("license_id", flat=True)[:1]]:
        of_license = queued.filter(license_id=license_id)
        waiting = count_up_to(limit, of_license)
        if waiting:
            next_one = (
                of_license.order_by("priority", "due_at", "id").only("due_at", "priority", "reason", "status").first()
            )
            due_at = next_one.due_at if next_one else None
            live_due_at = due_at if next_one and next_one.priority in LIVE else None
            put_off = (PutOff(next_one.reason, next_one.due_at),) if next_one and next_one.is_put_off else ()
            queues[license_id] = Queue(waiting, oldest.get(license_id), due_at, live_due_at, put_off)
    return queues
