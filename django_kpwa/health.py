"""Finds what keeps receipts from going out or needs attention, and what to do about it. This is the only place that
does: the dashboard, the banner at the counter, `kpwa doctor`, the alerts and the health endpoint show its findings.

`look()` reads only the database, in about a dozen queries that stay cheap however many messages there are. It connects
neither to the gateway nor to the broker, which could keep a page waiting; `kpwa doctor` connects to both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple

from django.db.models import Exists, OuterRef, Subquery, Sum
from django.utils import timezone
from django.utils.translation import gettext, ngettext

from . import broker, ticks
from .conf import kpwa_settings
from .counts import MAX_COUNTED, BoundedCount, count_up_to
from .formatting import coming_day, duration, grouped, percent, short_time
from .license_conditions import NO_QUEUE, Queue, lane_of, license_condition, queues_of, stopped_since
from .models import (
    ARRIVED,
    SILENT_SECONDS,
    DatabaseNow,
    EventStatus,
    FailureCause,
    Heartbeat,
    HoldReason,
    HourlyStatistic,
    License,
    OutboundMessage,
    ReceiptFailure,
    ReceiptLook,
    RecipientType,
    Status,
    WebhookEvent,
    WebhookToken,
    in_seconds,
)
from .receipts import registry
from .receipts.base import Receipt
from .receipts.looks import last_looks
from .senders import Senders, senders
from .site_urls import find_url
from .store import choosing
from .store.choosing import Unchosen
from .store.heartbeats import takes_changes
from .wake import DISPATCH_LICENSE
from .words import FAILURES, PROBLEMS, UNCHOSEN, Condition, Help, Problem, ProblemRow, Tells, Tone, Words, quoted

MAX_LICENSES = 500
"""Maximum number of licenses whose condition is examined."""
LATE_SECONDS = 600.0
"""Seconds after its due time from which a message is late."""
FAILURES_LATELY_SECONDS = 172_800.0
"""Maximum age of a receipt failure that counts: a sale of two days ago no longer gets a receipt (`Receipt.max_age`)."""
LAST_MESSAGES = 200
MAX_IN_DOUBT = 4
"""Maximum number of messages in doubt among the `LAST_MESSAGES` (2 %); above it, the gateway itself is in question."""
SILENT_WEBHOOK_SECONDS = 3600.0
SILENT_WEBHOOK_MESSAGES = 20
"""A webhook is silent if no event came for this many seconds, while at least this many messages were sent."""
_SILENT_WEBHOOK_HOURS = 6
LATE_WEBHOOK_SECONDS = 300.0
_FAILURES_IN_A_ROW = 3
_MAX_IDS = 10
_URGENCY_OF_LICENSES = 30
"""Offset that ranks the conditions of licenses among the problems of the site."""


NOBODY_SENDS = (
    Problem.READ_ONLY,
    Problem.NO_SENDER,
    Problem.NO_WORKER_AND_NO_BEAT,
    Problem.NO_WORKER,
    Problem.OTHER_QUEUE,
    Problem.BROKER_DOWN,
)
"""The problems that keep every message from going out, whatever its license."""


@dataclass(frozen=True)
class Finding:
    """Something that is wrong or needs attention, with one license or the whole site.

    `figures`: inserted into the row's texts; they never contain a phone number, key or message text.
    `since`: when it began, by the database's clock; None if that is unknown.
    """

    code: str
    row: ProblemRow | Condition
    license: License | None = None
    figures: Mapping[str, object] = field(default_factory=dict)
    since: datetime | None = None

    @property
    def tone(self) -> Tone:
        return self.row.tone

    @property
    def blocks(self) -> bool:
        """True if no receipts, or none of the license, go out."""
        return self.row.blocks if isinstance(self.row, ProblemRow) else True

    @property
    def part(self) -> str:
        """The HTML id of the dashboard's part with details; may be empty."""
        return self.row.part if isinstance(self.row, ProblemRow) else ""

    @property
    def help(self) -> Help:
        """The button that fixes the license's condition."""
        return self.row.help if isinstance(self.row, Condition) else Help.NONE

    @property
    def help_label(self) -> Words:
        """The label of that button."""
        return self.row.help_label if isinstance(self.row, Condition) else ""

    @property
    def command(self) -> str:
        """What to do on the command line, in English."""
        if isinstance(self.row, ProblemRow) or self.license is None:
            return self.say("command")
        return self.row.command.format(name=quoted(self.license.name))

    def say(self, text: str) -> str:
        """Return the row's `meaning`, `advice`, `headline`, `counter` or `command`, with the figures inserted."""
        words = str(getattr(self.row, text))
        return words % self.figures if self.figures else words


class Looked(NamedTuple):
    """An examined license, fetched with its lane, with its condition and its queue."""

    license: License
    condition: Condition
    queue: Queue = NO_QUEUE


@dataclass(frozen=True)
class Health:
    """The result of `look()`. `licenses` and `findings` are ordered by urgency, most urgent first.

    `is_cut`: True if the site has more licenses than were examined.
    """

    now: datetime
    licenses: Sequence[Looked]
    is_cut: bool
    senders: Senders
    findings: Sequence[Finding]

    @cached_property
    def is_blocked(self) -> bool:
        """True if no receipts, or none of some license, go out."""
        return any(finding.blocks for finding in self.findings)

    def find(self, *problems: Problem) -> Finding | None:
        """Return the first finding that is one of `problems`; None if there is none."""
        return next((finding for finding in self.findings if finding.code in problems), None)

    def sentence(self, finding: Finding) -> str:
        """Describe a stopped license, for example "WhatsApp logged out since 19.04, 37 receipts waiting"."""
        said = finding.say("counter")
        if finding.since is not None:
            said = gettext("%(problem)s since %(time)s") % {"problem": said, "time": short_time(finding.since)}
        license_ = finding.license
        waiting = "".join(receipts_waiting(each.queue.waiting) for each in self.licenses if each.license == license_)
        return gettext("%(problem)s, %(waiting)s") % {"problem": said, "waiting": waiting} if waiting else said


def look(max_licenses: int = MAX_LICENSES, *, with_urls: bool = True) -> Health:
    """Examine the site, and the first `max_licenses` licenses by name.

    `with_urls`: also check that the site includes our URLs. This imports all of the site's URL configuration, which
    only web processes have loaded anyway.

    Raises `DatabaseError` if the database does not answer.
    """
    rows, now, is_cut = _licenses(max_licenses)
    queues = queues_of([license_.pk for license_ in rows])
    licenses = [
        Looked(license_, license_condition(license_, now), queues.get(license_.pk, NO_QUEUE)) for license_ in rows
    ]
    # The sort is stable: equally urgent licenses stay ordered by name.
    licenses.sort(key=lambda each: each.condition.urgency)
    sending = senders()
    is_used = any(license_.is_active for license_ in rows) or bool(queues)
    found = [
        *(_sending(sending, now) if is_used else ()),
        *_choice(licenses),
        *(finding for each in licenses for finding in _license(each)),
        *_receipts(),
        *_missing_receipts(),
        *_lateness(licenses, now),
        *_doubt(),
        *_undelivered(licenses, now),
        *(finding for each in licenses for finding in _restriction(each.license, now)),
        *_webhooks(licenses, now, with_urls),
        *_without_their_license(set(queues) - {license_.pk for license_ in rows}),
    ]
    found.sort(key=_urgency)
    return Health(now, licenses, is_cut, sending, found)


def nobody_sends() -> Finding | None:
    """Return what keeps every message from going out, whatever its license; None if nothing does.

    For the page of a single license or message, which does not need the rest of `look()`.
    """
    return next((finding for finding in _sending(senders(), timezone.now()) if finding.code in NOBODY_SENDS), None)


def is_quiet() -> bool:
    """True if `look()` would find nothing that concerns the counter. One query, cheap enough for every page of a till.

    It may be False although there is nothing to show; `look()` decides then.
    """
    of_license = OutboundMessage.objects.filter(status=Status.QUEUED, license=OuterRef("pk"))
    sweep = Heartbeat.objects.filter(name="sweep", seen_at__gt=in_seconds(-SILENT_SECONDS))
    failures = ReceiptFailure.objects.filter(occurred_at__gt=in_seconds(-FAILURES_LATELY_SECONDS))
    gaps = ReceiptLook.objects.filter(never_queued__gt=0)
    refused = Heartbeat.objects.filter(name="publish failed", seen_at__gt=in_seconds(-SILENT_SECONDS))
    rows = License.objects.kept().select_related("lane").defer("base_url").order_by("name")
    licenses: list[Any] = list(
        rows.annotate(
            looked_at=DatabaseNow(),
            kpwa_is_swept=Exists(sweep),
            kpwa_is_odd=Exists(choosing.unassigned()) | Exists(failures) | Exists(gaps) | Exists(refused),
            kpwa_waits=Exists(of_license),
            # Only of the next message: a license may have a long backlog, and this query runs for every page.
            kpwa_due_at=Subquery(of_license.order_by("priority", "due_at", "id").values("due_at")[:1]),
        )[:MAX_LICENSES]
    )
    if not licenses:
        return not choosing.unassigned().exists()
    if licenses[0].kpwa_is_odd or any(license_.is_active and not license_.kpwa_is_swept for license_ in licenses):
        return False
    return not any(_needs_a_look(license_) for license_ in licenses)


def _needs_a_look(license_: Any) -> bool:
    if not license_.is_active:
        return bool(license_.kpwa_waits)
    lane = lane_of(license_)
    if lane is not None and lane.restricted_until is not None:
        return True
    tone, now, due_at = license_condition(license_, license_.looked_at).tone, license_.looked_at, license_.kpwa_due_at
    is_late = due_at is not None and (now - due_at).total_seconds() > LATE_SECONDS
    return tone in (Tone.BAD, Tone.ATTENTION) or (is_late and tone != Tone.WAITING)


def _urgency(finding: Finding) -> tuple[int, str]:
    row, name = finding.row, finding.license.name if finding.license else ""
    return (row.urgency, name) if isinstance(row, ProblemRow) else (_URGENCY_OF_LICENSES + row.urgency, name)


# --- licenses ---


def _licenses(limit: int) -> tuple[list[License], datetime, bool]:
    """Return the first `limit` licenses by name, the database's time, and True if there are more licenses."""
    # By the indexed column. A repeat of an older event may have come later; it proves that the webhook works as well.
    newest = WebhookEvent.objects.filter(license=OuterRef("pk")).order_by("-received_at")
    has_webhook = WebhookToken.objects.filter(license=OuterRef("pk"), registered_at__isnull=False, expires_at=None)
    rows = License.objects.kept().select_related("lane").defer("base_url").order_by("name")
    rows = rows.annotate(
        looked_at=DatabaseNow(),
        kpwa_has_webhook=Exists(has_webhook),
        kpwa_event_at=Subquery(newest.values("last_received_at")[:1]),
    )
    found: list[Any] = list(rows[: limit + 1])
    is_cut, found = len(found) > limit, found[:limit]
    now = found[0].looked_at if found else timezone.now()
    return found, now, is_cut


def _license(looked: Looked) -> Iterator[Finding]:
    license_, condition = looked.license, looked.condition
    if not license_.is_active:
        if looked.queue.waiting:
            figures = {"name": license_.name, "quoted": quoted(license_.name), "count": receipts(looked.queue.waiting)}
            yield Finding(Problem.HELD, PROBLEMS[Problem.HELD], license_, figures)
    elif condition.tone in (Tone.BAD, Tone.ATTENTION):
        yield Finding(STOPPED, condition, license_, since=stopped_since(license_))


STOPPED = "license_stopped"
"""The code of a finding about an active license that does not send; its row is the license's condition."""


# --- the choice of a license ---


def unassigned() -> Finding | None:
    """Return a finding about messages that wait because no license can be chosen; None if there are none."""
    count = count_up_to(MAX_COUNTED, choosing.unassigned())
    # If a license can be chosen by now, there is no problem: the next sweep assigns the messages to it.
    why_not = choosing.choose(kpwa_settings().DEFAULT_LICENSE).why_not if count else None
    return None if why_not is None else _unchosen(Problem.UNCHOSEN, why_not, count)


def _choice(licenses: Sequence[Looked]) -> Iterator[Finding]:
    if not licenses:
        yield Finding(Problem.NOT_SET_UP, PROBLEMS[Problem.NOT_SET_UP])
    elif not any(each.license.is_active for each in licenses):
        yield Finding(Problem.NONE_ACTIVE, PROBLEMS[Problem.NONE_ACTIVE])
    waiting = unassigned()
    if waiting is not None:
        yield waiting
    elif _needs_a_default([each.license for each in licenses if each.license.is_active]):
        why_not = choosing.choose(kpwa_settings().DEFAULT_LICENSE).why_not
        if why_not is not None:
            yield _unchosen(Problem.WILL_BE_UNCHOSEN, why_not, BoundedCount(0))


def _unchosen(problem: Problem, why_not: Unchosen, count: BoundedCount) -> Finding:
    row = UNCHOSEN[why_not]
    figures = {
        "count": count,
        "waiting": receipts_waiting(count),
        "why": row.label,
        "advice": row.advice,
        "command": row.command,
    }
    return Finding(problem, PROBLEMS[problem], figures=figures)


def _needs_a_default(active: Sequence[License]) -> bool:
    """True if none of several active licenses is the default, and a receipt class relies on the default license."""
    if len(active) < 2 or (any(license_.is_default for license_ in active) and not kpwa_settings().DEFAULT_LICENSE):
        return False
    return any(type(each.receipt).get_license is Receipt.get_license for each in registry.registrations())


# --- who sends ---


def _sending(found: Senders, now: datetime) -> Iterator[Finding]:
    since = now - timedelta(seconds=found.seen["sweep"]) if "sweep" in found.seen else None
    if found.problem is None:
        if found.has_broker and not found.is_without_broker and found.is_alive("publish failed"):
            # Sweeps still run, so the broker went down a moment ago, or refuses only this site's web processes.
            yield Finding(Problem.BROKER_DOWN, PROBLEMS[Problem.BROKER_DOWN])
        return
    if found.problem is not Problem.STARTING and not takes_changes():
        yield Finding(Problem.READ_ONLY, PROBLEMS[Problem.READ_ONLY], since=since)
    figures = {"queue": broker.queue_of(DISPATCH_LICENSE)} if found.problem is Problem.OTHER_QUEUE else {}
    yield Finding(found.problem, PROBLEMS[found.problem], figures=figures, since=since)


# --- messages ---


def _receipts() -> Iterator[Finding]:
    """Receipts that failed before they became messages, so that no list of messages shows them."""
    failures = ReceiptFailure.objects.filter(occurred_at__gt=in_seconds(-FAILURES_LATELY_SECONDS))
    newest = failures.order_by("-occurred_at").first()
    if newest is None:
        return
    count = count_up_to(MAX_COUNTED, failures)
    figures = {"number": count, "said": FAILURES[newest.cause].label}
    raised = failures.filter(cause=FailureCause.RAISED)
    lately = OutboundMessage.objects.order_by("-created_at").values_list("renderer", "created_at")[:LAST_MESSAGES]
    last_made = next((created_at for renderer, created_at in lately if renderer), None)
    since = raised if last_made is None else raised.filter(occurred_at__gt=last_made)
    all_fail = since.order_by()[:_FAILURES_IN_A_ROW].count() >= (1 if last_made is None else _FAILURES_IN_A_ROW)
    problem = Problem.RECEIPTS_FAIL if all_fail else Problem.RECEIPTS_MISSING
    yield Finding(problem, PROBLEMS[problem], figures=figures)


def _missing_receipts() -> Iterator[Finding]:
    """Sales whose receipt was never queued, from the last result that `receipts.looks` stored for each class."""
    rows = [row for _, row in last_looks()]
    if number := sum(row.never_queued for row in rows):
        figures = {"number": grouped(number)}
        yield Finding(Problem.NEVER_QUEUED, PROBLEMS[Problem.NEVER_QUEUED], figures=figures)
    if any(row.unclear or row.error for row in rows):
        yield Finding(Problem.MISSING_UNKNOWN, PROBLEMS[Problem.MISSING_UNKNOWN])


def _lateness(licenses: Sequence[Looked], now: datetime) -> Iterator[Finding]:
    """The message that has been due for the longest. Licenses that are known not to send have a finding of their own.

    It opens an alert only if a live message is late as well: a backlog after an outage takes its time.
    """
    sending = [each for each in licenses if each.license.is_active and each.condition.tone in (Tone.GOOD, Tone.NEUTRAL)]
    due = [each.queue.due_at for each in sending if each.queue.due_at is not None]
    latest = (now - min(due)).total_seconds() if due else 0.0
    if latest > LATE_SECONDS:
        live = [each.queue.live_due_at for each in sending if each.queue.live_due_at is not None]
        is_told = bool(live) and (now - min(live)).total_seconds() > LATE_SECONDS
        row = PROBLEMS[Problem.LATE] if is_told else replace(PROBLEMS[Problem.LATE], tells=Tells.NOTHING)
        yield Finding(Problem.LATE, row, figures={"time": duration(latest)})


def _doubt() -> Iterator[Finding]:
    if undecided := count_up_to(MAX_COUNTED, OutboundMessage.objects.undecided()):
        need = ngettext("%(count)s message needs a decision.", "%(count)s messages need a decision.", undecided.number)
        figures = {"count": undecided, "told": need % {"count": undecided}}
        yield Finding(Problem.DOUBT, PROBLEMS[Problem.DOUBT], figures=figures)
    settled = OutboundMessage.objects.filter(settled_at__isnull=False).order_by("-settled_at")
    lately = list(settled.values_list("status", "in_doubt")[:LAST_MESSAGES])
    doubtful = sum(status == Status.UNKNOWN or in_doubt for status, in_doubt in lately)
    if doubtful > MAX_IN_DOUBT:
        figures = {"count": doubtful, "of": len(lately)}
        yield Finding(Problem.MUCH_DOUBT, PROBLEMS[Problem.MUCH_DOUBT], figures=figures)


def _undelivered(licenses: Sequence[Looked], now: datetime) -> Iterator[Finding]:
    """Messages that the gateway accepted and then reported as not delivered, and licenses with too few deliveries."""
    active = {each.license.pk: each.license for each in licenses if each.license.is_active}
    reported, fallen = ticks.lately(now, active)
    if reported:
        yield Finding(Problem.UNDELIVERED, PROBLEMS[Problem.UNDELIVERED], figures={"count": grouped(reported)})
    for license_id, shares in fallen.items():
        figures = {"name": active[license_id].name, "sent": grouped(shares.sent)}
        figures |= {"share": percent(shares.last), "usual": percent(shares.usual)}
        yield Finding(Problem.FEW_DELIVERED, PROBLEMS[Problem.FEW_DELIVERED], active[license_id], figures)


def _restriction(license_: License, now: datetime) -> Iterator[Finding]:
    """Messages that wait because WhatsApp restricts the number. The license's other messages go out."""
    lane = lane_of(license_)
    if lane is None or lane.restricted_until is None or not license_.is_active:
        return
    waiting = OutboundMessage.objects.filter(status=Status.QUEUED, license=license_, reason=HoldReason.RESTRICTED)
    count = count_up_to(MAX_COUNTED, waiting)
    until = gettext("until one of them gets through")
    if lane.restricted_until > now:
        until = gettext("until %(time)s") % {"time": coming_day(lane.restricted_until)}
    figures = {"name": license_.name, "quoted": quoted(license_.name), "until": until}
    figures["count"] = _waiting_and_sent(count, _sent_since(license_, lane.restricted_at))
    yield Finding(Problem.RESTRICTED, PROBLEMS[Problem.RESTRICTED], license_, figures)


def _sent_since(license_: License, since: datetime | None) -> BoundedCount:
    """Count the messages to customers that the gateway has accepted since then; during a restriction, to known ones."""
    if since is None:
        return BoundedCount(0)
    # By the indexed time of creation, so messages that were queued before `since` are not counted.
    sent = OutboundMessage.objects.filter(license=license_, created_at__gte=since, status__in=ARRIVED)
    return count_up_to(MAX_COUNTED, sent.filter(recipient_type=RecipientType.NUMBER))


def _waiting_and_sent(waiting: BoundedCount, sent: BoundedCount) -> str:
    """Return a text such as "12 receipts waiting, 31 to known customers went out"."""
    words = receipts_waiting(waiting) or gettext("none waits")
    if not sent:
        return words
    known = ngettext("%(count)s to a known customer went out", "%(count)s to known customers went out", sent.number) % {
        "count": sent
    }
    return gettext("%(waiting)s, %(sent)s") % {"waiting": words, "sent": known}


def _without_their_license(license_ids: Set[int | None]) -> Iterator[Finding]:
    """Messages that wait for a deleted license. `license_ids`: licenses with a queue that were not examined."""
    other = [license_id for license_id in license_ids if license_id is not None]
    there = set(License.objects.filter(pk__in=other).values_list("pk", flat=True)) if other else set()
    if not (deleted := [license_id for license_id in other if license_id not in there]):
        return
    lost = OutboundMessage.objects.filter(status=Status.QUEUED, license_id__in=deleted)
    count = count_up_to(MAX_COUNTED, lost)
    ids = " ".join(str(pk) for pk in lost.order_by("pk").values_list("pk", flat=True)[:_MAX_IDS])
    figures = {"count": receipts(count), "ids": f"{ids}{' …' if count.number > _MAX_IDS else ''}"}
    yield Finding(Problem.DELETED_LICENSE, PROBLEMS[Problem.DELETED_LICENSE], figures=figures)


# --- webhooks ---


def _webhooks(licenses: Sequence[Looked], now: datetime, with_urls: bool) -> Iterator[Finding]:
    if with_urls and not find_url("django_kpwa:webhook", "token"):
        yield Finding(Problem.NO_URLS, PROBLEMS[Problem.NO_URLS])
    # Unmatched events, which are retried for an hour, have another status.
    pending = WebhookEvent.objects.filter(status=EventStatus.PENDING).order_by("received_at")
    oldest = pending.values_list("received_at", flat=True).first()
    if oldest is not None and (age := (now - oldest).total_seconds()) > LATE_WEBHOOK_SECONDS:
        yield Finding(Problem.WEBHOOKS_LATE, PROBLEMS[Problem.WEBHOOKS_LATE], figures={"time": duration(age)})
    for license_, seconds in _silent_webhooks(licenses, now):
        figures = {"name": license_.name, "quoted": quoted(license_.name), "time": duration(seconds)}
        yield Finding(Problem.WEBHOOKS_SILENT, PROBLEMS[Problem.WEBHOOKS_SILENT], license_, figures)


def _silent_webhooks(licenses: Sequence[Looked], now: datetime) -> Iterator[tuple[License, float]]:
    """Yield the licenses that have sent messages since their webhook's last event, and the seconds since that event."""
    silent: dict[int, tuple[License, datetime]] = {}
    for each in licenses:
        license_: Any = each.license
        event_at = license_.kpwa_event_at
        if not license_.is_active or not license_.kpwa_has_webhook or event_at is None:
            continue
        if (now - event_at).total_seconds() > SILENT_WEBHOOK_SECONDS:
            silent[license_.pk] = license_, event_at
    if not silent:
        return
    # Only full hours after the last event: a tick comes within minutes, so the current hour proves nothing yet.
    first = now - timedelta(hours=_SILENT_WEBHOOK_HOURS)
    hours = HourlyStatistic.objects.filter(license_id__in=silent, hour__gte=first, hour__lte=now - timedelta(hours=1))
    sent: dict[int, int] = {}
    for license_id, hour, count in hours.values_list("license_id", "hour").annotate(total=Sum("sent")):
        if hour > silent[license_id][1]:
            sent[license_id] = sent.get(license_id, 0) + count
    for license_id, (license_, event_at) in silent.items():
        if sent.get(license_id, 0) >= SILENT_WEBHOOK_MESSAGES:
            yield license_, (now - event_at).total_seconds()


def receipts(count: BoundedCount) -> str:
    """Return a text such as "37 receipts"."""
    return ngettext("%(count)s receipt", "%(count)s receipts", count.number) % {"count": count}


def receipts_waiting(count: BoundedCount) -> str:
    """Return a text such as "37 receipts waiting"; empty if none wait."""
    if not count:
        return ""
    return ngettext("%(count)s receipt waiting", "%(count)s receipts waiting", count.number) % {"count": count}


def last_seen(seconds: float | None) -> str:
    """Return a text such as "Last seen 3 h ago."; "Never seen." for None."""
    if seconds is None:
        return gettext("Never seen.")
    return gettext("Last seen %(time)s ago.") % {"time": duration(seconds)}
