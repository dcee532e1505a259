"""The sweep recovers whatever was lost: abandoned leases, overdue messages, and lanes with due messages that nobody
drives.

It starts from the waiting messages, because most licenses are idle most of the time. It does not read these messages
row by row (`store.backlog`), so a sweep after an outage of a day does not cost more.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from django.db import DatabaseError

from .. import alerts, announce, heartbeat_url
from ..conf import kpwa_settings
from ..logs import get_logger
from ..models import DatabaseNow, Lane, License
from ..store import choosing, store
from ..store.choosing import GIVEN_AT_ONCE
from ..store.clock_ahead import may_be_ahead
from ..store.heartbeats import note_alive
from ..store.locks import waited_too_long

logger = get_logger("django_kpwa.dispatch")

_EXPIRED_AT_ONCE = 1000
# Maximum number of messages per sweep. The rest is left to the next sweep, because lanes wait to be woken at the end of
# this one. Overdue and unassigned messages are not sent until then.
_MAX_EXPIRED = 20_000
_MAX_GIVEN = 20_000


class Swept(NamedTuple):
    """The result of a sweep.

    `license_ids`: the licenses whose lanes have to be driven.
    `abandoned_lanes`, `expired_messages`: how many were settled.
    `has_events`: True if webhook events are due. The caller has to process them.
    """

    license_ids: tuple[int, ...] = ()
    abandoned_lanes: int = 0
    expired_messages: int = 0
    has_events: bool = False


def sweep(*, max_expired: int = _MAX_EXPIRED, expired_at_once: int = _EXPIRED_AT_ONCE) -> Swept:
    """Settle abandoned lanes and overdue messages, and find the lanes that have to be driven.

    On an idle site this takes a single statement. `max_expired`: maximum number of messages to expire, of which
    `expired_at_once` are expired by one statement.
    """
    waiting = store().look()
    abandoned = _settle_abandoned() if waiting.lanes else 0
    swept = Swept(has_events=waiting.events)
    # A lane that was settled may have given messages back.
    if waiting.messages or abandoned:
        expired = _expire(max_expired, expired_at_once)
        _give_unassigned()
        if store().bring_back_messages_ahead():
            logger.warning("Messages were stored while the database's clock was ahead; they are due now.")
        swept = Swept(tuple(_startable_license_ids()), abandoned, expired, waiting.events)
    _tell_of_it()
    return swept


def look(driven: Collection[int]) -> Swept:
    """Find the lanes that have to be driven, except those that the caller drives (`driven`).

    This is for the time between two sweeps: nothing is settled. It takes two statements if only the driven lanes have
    waiting messages. So a process can look every second while its lanes wait for their pace.
    """
    waiting = store().look()
    found = _startable_license_ids(frozenset(driven)) if waiting.messages else []
    _tell_of_it()
    return Swept(tuple(found), has_events=waiting.events)


def _tell_of_it() -> None:
    note_alive("sweep")
    heartbeat_url.ask()
    alerts.check_soon()


def _settle_abandoned() -> int:
    conf = kpwa_settings()
    abandoned = list(Lane.objects.abandoned().values_list("pk", flat=True))
    for license_id in abandoned:
        resend_lost = "worker_lost" in conf.RESEND_UNKNOWN
        try:
            changed = store().settle_abandoned(license_id, resend_lost=resend_lost, max_attempts=conf.MAX_ATTEMPTS)
        except DatabaseError as error:
            # A frozen process has locked a row of this lane. Other lanes must not wait for it.
            if not waited_too_long(error):
                raise
            logger.warning("Settling license %s is postponed: another process has locked its rows.", license_id)
            continue
        announce.messages_moved(changed)
    return len(abandoned)


def _expire(limit: int, at_once: int) -> int:
    count = 0
    while count < limit:
        changed = store().expire_overdue(at_once)
        announce.messages_moved(changed)
        count += len(changed)
        if len(changed) < at_once:
            break
    return count


def _give_unassigned() -> None:
    """Assign messages that wait without a license, if one can be chosen now."""
    for _ in range(_MAX_GIVEN // GIVEN_AT_ONCE):
        if choosing.give_unassigned(kpwa_settings().DEFAULT_LICENSE) is None:
            break


def _startable_license_ids(skipped: Collection[int] = ()) -> list[int]:
    """Return the licenses whose lanes are free, may send now and have a message due. A missing lane counts as free.

    Before that, times of the lanes that were stored while the database's clock was ahead are corrected.
    """
    found: list[int] = []
    for queued in store().queued_license_ids():
        license_ids = [license_id for license_id in queued if license_id not in skipped]
        if not license_ids:
            continue
        lanes = Lane.objects.filter(pk__in=license_ids)
        known = dict(lanes.annotate(is_ahead=may_be_ahead(kpwa_settings())).values_list("pk", "is_ahead"))
        if ahead := store().bring_back_times_ahead([license_id for license_id, is_ahead in known.items() if is_ahead]):
            logger.warning(
                "Times of %d licenses were set while the database's clock was ahead; they were corrected.", len(ahead)
            )
        startable = set(lanes.free().startable().exclude(next_send_at__gt=DatabaseNow()).values_list("pk", flat=True))
        without_lane = set(license_ids) - set(known)
        if without_lane:
            # Licenses that were deleted while a message of theirs was being stored are skipped: nobody can drive them.
            licenses = License.objects.filter(pk__in=without_lane)
            without_lane = set(licenses.values_list("pk", flat=True))
        found += store().due_license_ids(startable | without_lane)
    return found
