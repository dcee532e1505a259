"""Whether messages go out: the condition of each license, the choice of one, and the processes that send."""

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
"""A license that nothing was sent from for so long is only known to have been connected."""


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
    """The license's lane, or None where no worker has needed one yet."""
    return getattr(license_, "lane", None)


MAX_UNASSIGNED = 1000
"""Messages that wait for a license are counted up to this."""


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
    if why_not is None:  # chosen a moment ago: the next sweep gives them to it
        return None
    row = words.UNCHOSEN[why_not]
    return Unassigned(count, row.label, row.advice)


SILENT_SECONDS = 120.0
"""Without a sweep for this long, nothing looks after the outbox. Cron comes every minute, and so does any beat."""


class Missing(Enum):
    """Which part of what sends shows no sign of life."""

    NOTHING = "nothing"
    BEAT = "beat"
    WORKER_AND_BEAT = "worker and beat"
    SENDER = "sender"
    """On a site without a broker: `kpwa run`, or `kpwa dispatch` by cron."""


@dataclass(frozen=True)
class Senders:
    """Whether somebody sends. Seconds since the last sweep and since a worker took a task; None: never."""

    missing: Missing
    swept_seconds: float | None
    worked_seconds: float | None

    @property
    def has_worker(self) -> bool:
        return self.worked_seconds is not None and self.worked_seconds <= SILENT_SECONDS


def senders() -> Senders:
    """Who sends leaves signs of life: a broker's beat and workers, `kpwa run`, or cron. Each sweeps."""
    seen = Heartbeat.objects.values_list("name", "seen_at", DatabaseNow())
    silence = {name: (now - seen_at).total_seconds() for name, seen_at, now in seen}
    # One from the future was left while the database's clock was ahead, and says nothing of now.
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
