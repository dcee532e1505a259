"""Reports what became of each sale's receipt, by comparing the outbox with what the phone received.

A receipt counts as arrived only if the outbox calls it sent and it is on the phone exactly once. A receipt in doubt
never counts as arrived, even if the phone has it: a real shop has no ledger of the phone to compare with.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

ARRIVED_STATUSES = ("sent", "delivered", "read")
UNSETTLED_STATUSES = ("queued", "sending")


@dataclass(frozen=True)
class Delivery:
    """An entry of the phone's ledger."""

    id: str
    recipient: str
    text: str
    accepted_at: datetime


@dataclass
class Fate:
    """One sale and its receipt. `status`: that of the message; empty if there is no message."""

    label: str
    rung_up_at: datetime
    status: str = ""
    reason: str = ""
    deliveries: list[Delivery] = field(default_factory=list)

    @property
    def milliseconds(self) -> float:
        """Time from the sale's save to the phone."""
        return (self.deliveries[0].accepted_at - self.rung_up_at).total_seconds() * 1000

    @property
    def has_arrived(self) -> bool:
        return self.status in ARRIVED_STATUSES and len(self.deliveries) == 1

    @property
    def is_lost(self) -> bool:
        """The outbox says that it was sent, but the phone does not have it."""
        return self.status in ARRIVED_STATUSES and not self.deliveries

    @property
    def is_doubled(self) -> bool:
        return len(self.deliveries) > 1

    @property
    def is_misjudged(self) -> bool:
        """The outbox says that it was not sent, but the phone has it."""
        return bool(self.deliveries) and self.status not in (*ARRIVED_STATUSES, *UNSETTLED_STATUSES, "unknown")


@dataclass(frozen=True)
class Report:
    """The comparison of all sales.

    `strangers`: messages on the phone that are not in the outbox. `not_rung_up`: number of sales that were not made
    before the time limit. `hindrances`: sentences that say why something is missing.
    """

    fates: Sequence[Fate]
    strangers: Sequence[Delivery]
    not_rung_up: int = 0
    hindrances: Sequence[str] = ()

    @property
    def is_good(self) -> bool:
        return not self.strangers and not self.not_rung_up and all(fate.has_arrived for fate in self.fates)

    def lines(self) -> list[str]:
        """The report, ending with the verdict."""
        arrived = [fate for fate in self.fates if fate.has_arrived]
        lines = []
        if arrived:
            times = sorted(fate.milliseconds for fate in arrived)
            lines.append(
                f"From the sale's save to the phone: median {statistics.median(times):,.0f} ms, "
                f"95th percentile {percentile(times, 95):,.0f} ms, slowest {times[-1]:,.0f} ms."
            )
        for title, belongs in _WRONG:
            lines += _listed(title, [fate for fate in self.fates if belongs(fate)])
        if self.strangers:
            lines.append(f"{len(self.strangers)} on the phone that the outbox does not know.")
        lines += self.hindrances
        if self.not_rung_up:
            lines.append(f"{self.not_rung_up} sales were not rung up before the time limit.")
        lines.append(self._verdict(len(arrived)))
        return lines

    def _verdict(self, arrived: int) -> str:
        of_all = f"{arrived} of {len(self.fates)} receipts arrived, once each"
        if self.is_good:
            return f"✔ {of_all}: the phone's ledger and the outbox agree."
        is_wrong = self.strangers or any(fate.is_lost or fate.is_doubled or fate.is_misjudged for fate in self.fates)
        if is_wrong:
            return f"✘ {of_all}. The phone's ledger and the outbox DISAGREE."
        return f"✘ {of_all}. None was lost and none came twice; what did not arrive is listed above."


def percentile(ordered: Sequence[float], percent: int) -> float:
    """Return the smallest of the `ordered` values that at least `percent` percent of them do not exceed."""
    return ordered[max(-(-len(ordered) * percent // 100) - 1, 0)]


def _is_doubtful(fate: Fate) -> bool:
    return fate.status == "unknown" and not fate.is_doubled


def _is_unsent(fate: Fate) -> bool:
    return not fate.deliveries and bool(fate.status) and fate.status not in (*ARRIVED_STATUSES, "unknown")


def _is_unfinished(fate: Fate) -> bool:
    return len(fate.deliveries) == 1 and fate.status in UNSETTLED_STATUSES


_WRONG: tuple[tuple[str, Callable[[Fate], bool]], ...] = (
    ("CAME TWICE", lambda fate: fate.is_doubled),
    ("LOST: sent, says the outbox, and the phone does not have it", lambda fate: fate.is_lost),
    ("On the phone, though the outbox says otherwise", lambda fate: fate.is_misjudged),
    ("In doubt, kept for a person's decision (see the admin)", _is_doubtful),
    ("On the phone, but not yet recorded in the outbox", _is_unfinished),
    ("Not sent", _is_unsent),
    ("Without any message in the outbox", lambda fate: not fate.status),
)


def _listed(title: str, fates: Iterable[Fate]) -> list[str]:
    lines = [f"    {fate.label}  {_story(fate)}" for fate in fates]
    return [f"{title}: {len(lines)}", *lines] if lines else []


def _story(fate: Fate) -> str:
    on_phone = {0: "not on the phone", 1: "on the phone once"}.get(
        len(fate.deliveries), f"on the phone {len(fate.deliveries)} times"
    )
    return f"{fate.status or 'no message'}{f' ({fate.reason})' if fate.reason else ''}, {on_phone}"
