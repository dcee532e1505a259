"""Whether messages are being sent: each license's condition, the choice of a license, and the sending processes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from . import broker, words
from .conf import kpwa_settings
from .counts import BoundedCount, count_up_to
from .gateway import SessionStatus
from .models import DatabaseNow, Heartbeat, Lane, License, PauseReason
from .store import choosing
from .words import Condition, Words

NOT_SEEN_AFTER = timedelta(minutes=60)
"""After this time without a sign of the gateway, a license is shown as not seen instead of connected."""


def license_condition(license_: License, now: datetime) -> Condition:
    """The condition of `license_`, fetched with its lane, at `now` by the database's clock."""
    if not license_.is_active:
        return words.INACTIVE
    if not license_.api_key_ciphertext:
        return words.NO_KEY
    lane = lane_of(license_)
    if lane is None:
        return words.NEVER_LINKED
    if lane.has_new_key:
        return words.NEW_KEY
    if lane.pause_reason:
        return words.PAUSES[lane.pause_reason]
    if lane.session_status == SessionStatus.QR.value:
        return words.PAUSES[PauseReason.LOGGED_OUT]
    if lane.session_seen_at is None or lane.session_status == SessionStatus.UNKNOWN.value:
        return words.NEVER_LINKED if not lane.linked_number else words.NOT_SEEN
    return words.NOT_SEEN if now - lane.session_seen_at > NOT_SEEN_AFTER else words.CONNECTED


def lane_of(license_: License) -> Lane | None:
    """The license's lane, or None if no worker has needed one yet."""
    return getattr(license_, "lane", None)


MAX_UNASSIGNED = 1000
"""Limit up to which messages that wait for a license are counted."""


@dataclass(frozen=True)
class Unassigned:
    """Messages wait because it is not clear which license sends them. `count` stops at `MAX_UNASSIGNED`."""

    count: BoundedCount
    why: Words
    what_to_do: Words


def unassigned() -> Unassigned | None:
    """How many messages wait for a license to be chosen, why, and what helps; None if none do."""
    count = count_up_to(MAX_UNASSIGNED, choosing.unassigned())
    if not count:
        return None
    why_not = choosing.choose(kpwa_settings().DEFAULT_LICENSE).why_not
    if why_not is None:  # a license was chosen a moment ago; the next sweep assigns the messages to it
        return None
    row = words.UNCHOSEN[why_not]
    return Unassigned(count, row.label, row.advice)


SILENT_SECONDS = 120.0
"""Time without a sweep after which the site is reported as not sending. Cron and beat sweep at least every minute."""


class Missing(Enum):
    """Which of the processes that send has left no heartbeat lately."""

    NOTHING = "nothing"
    BEAT = "beat"
    WORKER_AND_BEAT = "worker and beat"
    SENDER = "sender"
    """On a site without a broker: `kpwa run`, or `kpwa dispatch` by cron."""


@dataclass(frozen=True)
class Senders:
    """Which senders are alive, and the seconds since the last sweep and since a worker began a task (None: never)."""

    missing: Missing
    swept_seconds: float | None
    worked_seconds: float | None

    @property
    def has_worker(self) -> bool:
        return self.worked_seconds is not None and self.worked_seconds <= SILENT_SECONDS


def senders() -> Senders:
    """Which senders are alive, by the heartbeats of beat and workers, `kpwa run` or cron. Each of them sweeps."""
    seen = Heartbeat.objects.values_list("name", "seen_at", DatabaseNow())
    silence = {name: (now - seen_at).total_seconds() for name, seen_at, now in seen}
    # A heartbeat from the future was stored while the database's clock was ahead, and says nothing about now.
    silence = {name: seconds for name, seconds in silence.items() if seconds > -SILENT_SECONDS}
    swept, worked = silence.get("sweep"), silence.get("worker")
    if swept is not None and swept <= SILENT_SECONDS:
        missing = Missing.NOTHING
    elif not broker.is_configured():
        missing = Missing.SENDER
    elif worked is not None and worked <= SILENT_SECONDS:
        missing = Missing.BEAT
    else:
        missing = Missing.WORKER_AND_BEAT
    return Senders(missing, swept, worked)
