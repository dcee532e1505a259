"""Evaluates delivery ticks: finds sent messages with one tick only, and licenses with fewer deliveries than usual.

A license whose gateway does not report ticks is recognised by its last messages; nothing is reported about it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Q, Sum
from django.utils import timezone

from .models import ARRIVED, DatabaseNow, HourlyStatistic, OutboundMessage, Status, in_seconds

LATE_SECONDS = 1800.0
"""Seconds after sending within which a message should have been received."""
LAST_SENT = 50
USUALLY = 45
"""Minimum number of a license's `LAST_SENT` messages with a second tick for a second tick to count as usual."""
_MAX_READ = 4 * LAST_SENT
"""Maximum number of messages that are read to find the `LAST_SENT` ones."""
_MAX_LICENSES = 20
_CLOCK_SECONDS = 300.0
USUAL_DAYS = 14
USUAL_MESSAGES, HOUR_MESSAGES = 200, 20
"""Minimum numbers of messages in the `USUAL_DAYS` before, and in the last hour, for a license to be evaluated."""
USUAL_SHARE = 0.5
"""Minimum usual share of messages that reach a phone. Below it, the gateway does not report most deliveries, and the
license is not evaluated."""
FAR_BELOW = 0.5
"""The last hour's share is reported if it is below this fraction of the usual one."""


def mark_lacking(messages: Iterable[OutboundMessage]) -> None:
    """Set `lacks_tick` on each of `messages` that has one tick only.

    Takes no query if none of them was sent at least half an hour ago, else one for each of their licenses, up to a
    limit.
    """
    # By this process's clock, which only saves queries; the database's clock decides.
    maybe_late = timezone.now() - timedelta(seconds=LATE_SECONDS - _CLOCK_SECONDS)
    single = [
        message
        for message in messages
        if message.status == Status.SENT
        and message.sent_at is not None
        and message.sent_at <= maybe_late
        and not message.is_undelivered
    ]
    of_licenses = {message.license_id for message in single if message.license_id is not None}
    usually: dict[int, datetime] = {}
    for license_id in sorted(of_licenses)[:_MAX_LICENSES]:
        if (late_at := _late_at(license_id)) is not None:
            usually[license_id] = late_at
    for message in single:
        late_at = usually.get(message.license_id or 0)
        message.lacks_tick = late_at is not None and message.sent_at is not None and message.sent_at <= late_at


def _late_at(license_id: int) -> datetime | None:
    """The time before which a sent message of this license should have been received; None if a second tick is not
    usual for the license."""
    newest = OutboundMessage.objects.filter(license_id=license_id, created_at__lte=in_seconds(-LATE_SECONDS))
    rows = list(newest.order_by("-created_at").values_list("status", "sent_at", DatabaseNow())[:_MAX_READ])
    late_at = rows[0][2] - timedelta(seconds=LATE_SECONDS) if rows else None
    sent = [status for status, sent_at, _ in rows if status in ARRIVED and sent_at and sent_at <= late_at][:LAST_SENT]
    return late_at if sum(status != Status.SENT for status in sent) >= USUALLY else None


class Shares(NamedTuple):
    """A license's messages in the last full hour, and the shares that reached a phone in that hour and usually."""

    sent: int
    last: float
    usual: float


def lately(now: datetime, license_ids: Collection[int]) -> tuple[int, dict[int, Shares]]:
    """Return how many messages of the last day were reported as not delivered, and the shares of those of `license_ids`
    of whose messages far fewer than usual reached a phone in the last full hour.

    Reads the hourly statistics in one query, or two if some license sent enough to be evaluated.
    """
    last = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    in_last = Q(hour=last, delivered__isnull=False)
    hours = HourlyStatistic.objects.filter(hour__gt=now - timedelta(days=1)).order_by().values("license_id")
    figures = hours.annotate(
        reported=Sum("undelivered", default=0),
        sent_last=Sum("sent", filter=in_last, default=0),
        delivered_last=Sum("delivered", filter=in_last, default=0),
    )
    total, last_hour = 0, {}
    for license_id, reported, sent, delivered in figures.values_list(*_LATELY):
        total += reported
        if sent >= HOUR_MESSAGES and license_id in license_ids:
            last_hour[license_id] = (sent, delivered / sent)
    usual = _usual_shares(last_hour, last)
    compared = {pk: Shares(*figures, usual[pk]) for pk, figures in last_hour.items() if usual.get(pk, 0) >= USUAL_SHARE}
    return total, {pk: shares for pk, shares in compared.items() if shares.last < FAR_BELOW * shares.usual}


_LATELY = ("license_id", "reported", "sent_last", "delivered_last")


def _usual_shares(license_ids: Collection[int], until: datetime) -> dict[int, float]:
    """The share of each license's messages that reached a phone in `USUAL_DAYS` before `until`, if it sent enough."""
    if not license_ids:
        return {}
    first = until - timedelta(days=USUAL_DAYS)
    hours = HourlyStatistic.objects.filter(
        license_id__in=license_ids, hour__gte=first, hour__lt=until, delivered__isnull=False
    )
    sums = hours.order_by().values("license_id").annotate(Sum("sent"), Sum("delivered"))
    enough = sums.filter(sent__sum__gte=USUAL_MESSAGES).values_list("license_id", "sent__sum", "delivered__sum")
    return {license_id: delivered / sent for license_id, sent, delivered in enough}
