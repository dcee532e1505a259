"""The sentence at the top of the dashboard that says whether receipts are going out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.translation import gettext, ngettext

from ..counts import BoundedCount
from ..formatting import duration, grouped
from ..health import Missing, Senders, Unassigned
from ..models import PauseReason
from ..words import Help, Mark, Tone
from .dashboard_cards import NO_QUEUE, Found, Queue

LATE_SECONDS = 600.0
"""A message is late once it has been due for longer than this."""


@dataclass(frozen=True)
class Detail:
    """A sentence below the summary; `part` is the HTML id of the part of the page that it links to."""

    words: str
    part: str = ""


@dataclass(frozen=True)
class Summary:
    """`mark` contains the sentence; `details` explain it; `asks_for_license` shows a link to add the first license."""

    mark: Mark
    details: list[Detail]
    asks_for_license: bool = False


def summary_of(
    found: Sequence[Found],
    queues: dict[int, Queue],
    senders: Senders,
    undecided: BoundedCount,
    waiting: Unassigned | None,
    *,
    has_sent: bool,
) -> Summary:
    """Return the dashboard's summary: the worst problem that exists, or that receipts are going out.

    Args:
        found: All examined licenses, most urgent first.
        queues: Waiting messages by license id.
        senders: What the heartbeats say about the processes that send.
        undecided: Number of messages that need a decision.
        waiting: Messages for which no license is chosen; None if there are none.
        has_sent: False if no message was ever queued.
    """
    if not found:
        words = gettext("WhatsApp is not set up yet.")
        told = gettext("Add a license first: its API key comes from the gateway's dashboard. Then link WhatsApp.")
        kept = [Detail(_waiting(waiting))] if waiting else []
        return Summary(Mark(Tone.NEUTRAL, "→", words), [*kept, Detail(told)], asks_for_license=True)
    details = [Detail(_undecided(undecided), "kpwa-decisions")] if undecided else []
    active = [each for each in found if each.license.is_active]
    if not active:
        words = gettext("Nothing is sent: no license is active.")
        return Summary(Mark(Tone.ATTENTION, "!", words), [*([Detail(_waiting(waiting))] if waiting else []), *details])
    if waiting:
        words = gettext("Receipts are not going out: it is not clear which license sends them.")
        return Summary(Mark(Tone.BAD, "✕", words), [Detail(_waiting(waiting)), *details])
    if senders.missing != Missing.NOTHING:
        words = gettext("Receipts are not going out: the sending service is not running.")
        return Summary(
            Mark(Tone.BAD, "✕", words),
            [Detail(gettext("Which part is missing, and how to start it"), "kpwa-services"), *details],
        )
    stopped = [each for each in active if each.condition.tone in (Tone.BAD, Tone.ATTENTION)]
    if stopped:
        return Summary(_stopped(stopped, len(active)), details)
    late = _latest(active, queues)
    if late:
        words = gettext("Receipts are going out late.")
        told = gettext("The oldest has been due for %(time)s.") % {"time": duration(late)}
        return Summary(Mark(Tone.ATTENTION, "!", words), [Detail(told), *details])
    if not has_sent:
        told = gettext("No message has been queued yet. The first one appears here automatically.")
        return Summary(Mark(Tone.GOOD, "✓", gettext("Ready: receipts can go out.")), [Detail(told), *details])
    return Summary(Mark(Tone.GOOD, "✓", gettext("Receipts are going out.")), details)


def _stopped(stopped: Sequence[Found], active: int) -> Mark:
    worst = stopped[0].condition
    if len(stopped) < active:
        words = ngettext(
            "Receipts of %(count)s of %(all)s licenses are not going out.",
            "Receipts of %(count)s of %(all)s licenses are not going out.",
            len(stopped),
        ) % {"count": grouped(len(stopped)), "all": grouped(active)}
    elif all(each.condition.help == Help.RESUME for each in stopped):
        words = gettext("Receipts are not going out: a person paused them.")
    elif active == 1 and worst.help == Help.LINK and not _was_linked(stopped[0]):
        words = gettext("WhatsApp is not linked yet.")
    else:
        words = gettext("Receipts are not going out.")
    return Mark(worst.tone, "✕" if worst.tone == Tone.BAD else "!", words)


def _was_linked(found: Found) -> bool:
    lane = getattr(found.license, "lane", None)
    return lane is not None and (bool(lane.linked_number) or lane.pause_reason == PauseReason.LOGGED_OUT)


def _latest(active: Sequence[Found], queues: dict[int, Queue]) -> float:
    """Return for how many seconds the longest overdue message has been due; 0 if no message is late.

    Licenses with the tone `WAITING` are left out, because they resume by themselves.
    """
    latest = 0.0
    for each in active:
        due_at = queues.get(each.license.pk, NO_QUEUE).due_at
        if due_at is not None and each.condition.tone != Tone.WAITING:
            latest = max(latest, (each.now - due_at).total_seconds())
    return latest if latest > LATE_SECONDS else 0.0


def _waiting(waiting: Unassigned) -> str:
    words = ngettext(
        "%(count)s message waits, because %(why)s. %(what_to_do)s",
        "%(count)s messages wait, because %(why)s. %(what_to_do)s",
        waiting.count.number,
    )
    return words % {"count": waiting.count, "why": waiting.why, "what_to_do": waiting.what_to_do}


def _undecided(undecided: BoundedCount) -> str:
    words = ngettext("%(count)s message needs a decision.", "%(count)s messages need a decision.", undecided.number)
    return words % {"count": undecided}
