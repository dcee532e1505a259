"""Why messages still wait after a round of `kpwa dispatch`: for each license, the first obstacle that is found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice
from typing import Any

from ..health import unassigned
from ..models import DatabaseNow, Lane, License, OutboundMessage, Status
from ..store import store
from ..words import PAUSES, Tone, quoted
from .console import duration, in_english

MOST_LICENSES = 20
"""Maximum number of licenses that a round reports: it comes every minute, and each license costs some queries."""


@dataclass(frozen=True)
class Waiting:
    """The waiting messages of one license, and why they wait.

    `license` is the license's name, empty if no license is chosen or it was deleted. `is_trouble` is True if the
    obstacle neither ends by itself nor was set up by a person.
    """

    license: str
    count: int | str
    why: str
    is_trouble: bool = False

    def __str__(self) -> str:
        return f"{self.count} {f'of {self.license}' if self.license else 'without a license'}: {self.why}"


def why_waiting() -> list[Waiting]:
    """Return why messages wait, for at most `MOST_LICENSES` licenses, and for messages without a license."""
    found = list(_without_license())
    license_ids = list(islice(chain.from_iterable(store().queued_license_ids()), MOST_LICENSES))
    licenses = License.objects.in_bulk(license_ids)
    lanes = Lane.objects.in_bulk(license_ids)
    for license_id in license_ids:
        if (license_ := licenses.get(license_id)) is None:
            found.append(Waiting("", _queued(license_id).count(), _GONE, is_trouble=True))
            continue
        why, is_trouble = _why(license_, lanes.get(license_id))
        found.append(Waiting(license_.name, _queued(license_id).count(), why, is_trouble))
    return [waiting for waiting in found if waiting.count]


_GONE = "their license was deleted while they were being stored; see manage.py kpwa doctor"


def _without_license() -> Iterator[Waiting]:
    if (found := unassigned()) is not None:
        yield Waiting(
            "", in_english(found.count), f"{in_english(found.why)}. {in_english(found.what_to_do)}", is_trouble=True
        )


def _queued(license_id: int) -> Any:
    return OutboundMessage.objects.filter(license_id=license_id, status=Status.QUEUED).order_by()


def _why(license_: License, lane: Lane | None) -> tuple[str, bool]:
    """Return why the license's messages wait, and True if that is trouble (see `Waiting`)."""
    name = quoted(license_.name)
    if not license_.is_active:
        return "the license is not active", False
    if not license_.api_key_ciphertext:
        return f"there is no API key; enter it: manage.py kpwa licenses set-key {name}", True
    first = _queued(license_.pk).order_by("due_at").annotate(looked_at=DatabaseNow()).first()
    if first is None:
        return "", False
    now: datetime = first.looked_at
    if lane is not None and lane.pause_reason and not lane.has_new_key:
        looked_at = "" if lane.paused_until is None else f"; checked again {_when(lane.paused_until, now)}"
        pause = PAUSES[lane.pause_reason]
        return f"{in_english(pause.why)}{looked_at}", pause.tone == Tone.BAD
    if first.due_at > now:
        return f"{_not_due(first)}; due {_when(first.due_at, now)}", False
    if lane is not None and lane.lease_expires_at is not None and lane.lease_expires_at > now:
        return "another process sends for this license", False
    if lane is not None and lane.next_send_at is not None and lane.next_send_at > now:
        return f"the pace of the license; the next goes out {_when(lane.next_send_at, now)}", False
    return "not reached in this round; the next one continues", False


def _not_due(first: OutboundMessage) -> str:
    if first.attempts_made:
        said = f" ({first.reason_words or first.reason})" if first.reason else ""
        return f"the last attempt sent nothing{said}, and it is tried again"
    return "lines may still be added to its sale" if first.needs_rendering else "it is scheduled for later"


def _when(at: datetime, now: datetime) -> str:
    return f"in {duration(max((at - now).total_seconds(), 1))}" if at > now else "with the next round"
