"""The state of a license as its admin page shows it, from a few indexed queries however many messages there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils import formats
from django.utils.translation import gettext

from .. import phone
from ..counts import BoundedCount, count_up_to
from ..formatting import grouped
from ..license_conditions import lane_of, license_condition, new_customers
from ..models import License, OutboundMessage, PauseReason, Status, WebhookEvent, WebhookToken
from ..webhook_address import webhook_url
from ..words import Condition, Tone, error_told


def state_of(license_: License, *, max_queued: int) -> dict[str, Any]:
    """Return the state of a license, for its page.

    Args:
        license_: Fetched with its lane, and annotated with `looked_at`, the database's time.
        max_queued: Waiting messages are counted up to this number.
    """
    from ..health import nobody_sends

    lane = lane_of(license_)
    error, is_gateways = error_told(lane.last_error) if lane else ("", False)
    # Pause words of ours are English texts for the log; the condition or the last error says the same to people.
    is_ours = lane is not None and (
        lane.pause_reason == PauseReason.KEY_UNREADABLE
        or (not is_gateways and lane.last_error.endswith(lane.pause_words))
    )
    condition = condition_of(license_)
    return {
        "error": error,
        "error_is_gateways": is_gateways,
        "pause_words": lane.pause_words if lane and not is_ours else "",
        "condition": condition,
        # Shown only if the license itself works: a problem of the license takes precedence.
        "nobody_sends": nobody_sends() if condition.tone == Tone.GOOD else None,
        "lane": lane,
        "linked_number": phone.written(lane.linked_number) if lane else "",
        "confirmed_number": phone.written(lane.confirmed_number) if lane else "",
        # Sending is paused because another phone was linked, until a person confirms its number.
        "another_phone": pause_of(license_) == PauseReason.NUMBER_CHANGED,
        "queued": count_up_to(max_queued, OutboundMessage.objects.filter(license_id=license_.pk, status=Status.QUEUED)),
        "pace": pace_of(license_),
        "new_customers": new_customers(license_, license_.looked_at),  # type: ignore[attr-defined] # annotated
        "webhook": webhook_of(license_),
        "webhook_address": webhook_address(),
        "last_event_at": _last_event_at(license_),
    }


def condition_of(license_: License) -> Condition:
    """Return the condition of a license that was annotated with `looked_at`, the database's time."""
    looked_at: datetime = license_.looked_at  # type: ignore[attr-defined] # annotated
    return license_condition(license_, looked_at)


def pause_of(license_: License) -> str:
    """Return the reason why the license is paused (a `PauseReason` value); empty if it is not."""
    lane = lane_of(license_)
    return lane.pause_reason if lane else ""


def webhook_of(license_: License) -> WebhookToken | None:
    """Return the license's registered webhook. It is cached on the object, because several buttons depend on it."""
    if "kpwa_webhook" not in license_.__dict__:
        tokens = WebhookToken.objects.filter(license_id=license_.pk, expires_at=None)
        found = tokens.filter(registered_at__isnull=False).order_by("-pk").first()
        license_.__dict__["kpwa_webhook"] = found
    webhook: WebhookToken | None = license_.__dict__["kpwa_webhook"]
    return webhook


def webhook_address() -> str:
    """Return the URL that the gateway posts to, with `…` instead of its token; empty if none can be built.

    Tokens are stored as hashes, so the real URL can't be shown.
    """
    try:
        address = webhook_url("token")
    except ImproperlyConfigured:
        return ""
    return f"{address.rstrip('/').rpartition('/')[0]}/…/"


def note_queued(licenses: Iterable[Any], *, max_queued: int) -> None:
    """Set `kpwa_queued`, the number of waiting messages, on each of `licenses` with one query.

    `max_queued`: the waiting messages of all of them, taken together, are counted up to this number.
    """
    waiting = OutboundMessage.objects.filter(
        status=Status.QUEUED, license_id__in=[license_.pk for license_ in licenses]
    )
    found = list(waiting.order_by().values_list("license_id", flat=True)[: max_queued + 1])
    counts, is_cut = Counter(found), len(found) > max_queued
    for license_ in licenses:
        license_.kpwa_queued = BoundedCount(counts[license_.pk], is_cut)


def _last_event_at(license_: License) -> datetime | None:
    events = WebhookEvent.objects.filter(license_id=license_.pk)
    return events.order_by("-received_at").values_list("last_received_at", flat=True).first()


def between(low: float, high: float) -> str:
    """Return a gap in words, for example "4 to 8 seconds, at random"; "none" if `high` is not above 0."""
    if high <= 0:
        return gettext("none")
    low_words, high_words = _seconds(low), _seconds(high)
    if low_words == high_words:
        return gettext("%(seconds)s seconds") % {"seconds": high_words}
    return gettext("%(low)s to %(high)s seconds, at random") % {"low": low_words, "high": high_words}


def pace_of(license_: License) -> str:
    """Return how fast a license sends, in words: the gap between two messages, and the messages per hour."""
    low, high = license_.pace_seconds
    if low + high <= 0:
        return gettext("no gap between two messages")
    hourly = grouped(round(7200 / (low + high)))
    words = gettext("%(gap)s between two messages; at most about %(count)s an hour")
    return words % {"gap": between(low, high), "count": hourly}


def _seconds(seconds: float) -> str:
    return formats.number_format(round(seconds, 2) if seconds % 1 else int(seconds))
