"""Times that were stored while the database's clock was ahead: they are found by their size, and corrected.

Without that, a license would wait until the wrong time comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db.models import BooleanField, ExpressionWrapper, F, Q

from .. import pace
from ..conf import Settings, kpwa_settings, lease_seconds
from ..models.database import DatabaseNow, in_seconds
from ..models.lane import Lane, PauseReason
from ..models.message import HoldReason, OutboundMessage, Status
from .lanes import Lanes

CLOCK_SECONDS = 60.0
"""Tolerance in seconds. If a stored time exceeds its latest possible value by more than this, it was written while the
database's clock was ahead."""


class ClockAhead(Lanes):
    """Corrects times of lanes and messages that lie further in the future than anything could have set them."""

    STEPPED_AT_ONCE = 1000
    """Maximum number of messages per statement that are moved behind newer ones, or whose times are corrected."""

    def bring_back_times_ahead(self, license_ids: Sequence[int]) -> list[int]:
        """Correct times in the lanes of `license_ids` that were stored while the database's clock was ahead.

        Such a time is further in the future than any pace, pause, lease or backoff lasts. It is set to the value that
        it would have if it began now. A lease is shortened but not ended, because its driver may be in the middle of a
        send. Returns the ids of the licenses whose lanes were changed.
        """
        conf = kpwa_settings()
        lanes = Lane.objects.filter(pk__in=license_ids).select_related("license")
        changed = []
        for lane in lanes.annotate(now=DatabaseNow()):
            columns = _brought_back(lane, lane.now, conf)  # type: ignore[attr-defined]  # annotated just above
            # Only if the lane has not changed since it was read. Otherwise the next sweep looks at it again.
            as_seen = Lane.objects.filter(
                pk=lane.pk, lease_token=lane.lease_token, pause_reason=lane.pause_reason, paused_until=lane.paused_until
            )
            if columns and as_seen.update(**columns):
                changed.append(lane.license_id)
        longest = max(pace.MAX_RETRY_SECONDS * 1.2, self.RENDER_STEP_BACK_SECONDS) + CLOCK_SECONDS
        waiting = OutboundMessage.objects.filter(license_id__in=changed, status=Status.QUEUED)
        # Messages that were put off by that clock are checked again, and put off again if necessary.
        tried = waiting.filter(Q(attempts_made__gt=0) | Q(renderings_begun__gt=0) | Q(reason__in=HoldReason.values))
        tried.filter(due_at__gt=in_seconds(longest)).update(due_at=DatabaseNow())
        return changed

    def bring_back_messages_ahead(self) -> int:
        """Correct messages queued while the database's clock was ahead, up to `STEPPED_AT_ONCE`. Returns how many.

        A message that was due when it was stored, or within `CLOCK_SECONDS` after that, becomes due now. If the site
        asked for a later `due_at`, that stays.
        """
        messages = OutboundMessage.objects
        ahead = messages.filter(status=Status.QUEUED, created_at__gt=in_seconds(CLOCK_SECONDS)).order_by()
        message_ids = list(ahead.values_list("pk", flat=True)[: self.STEPPED_AT_ONCE])
        if message_ids:
            some = ahead.filter(pk__in=message_ids)
            some.filter(due_at__lte=F("created_at") + timedelta(seconds=CLOCK_SECONDS)).update(due_at=DatabaseNow())
            some.update(created_at=DatabaseNow())
        return len(message_ids)


def may_be_ahead(conf: Settings) -> ExpressionWrapper[Q]:
    """Return a condition that is true for all lanes, and maybe for others, that `bring_back_times_ahead()` would
    change.
    """
    longest = min(longest_pause(reason, conf) for reason in (PauseReason.FAILING, PauseReason.RATE_LIMITED))
    expression: ExpressionWrapper[Q] = ExpressionWrapper(
        Q(next_send_at__gt=in_seconds(CLOCK_SECONDS))
        | Q(lease_expires_at__gt=in_seconds(2 * lease_seconds(conf) + CLOCK_SECONDS))
        | Q(lease_taken_at__gt=in_seconds(CLOCK_SECONDS))
        | Q(paused_at__gt=in_seconds(CLOCK_SECONDS))
        | Q(paused_until__gt=in_seconds(longest + CLOCK_SECONDS)),
        output_field=BooleanField(),
    )
    return expression


def _brought_back(lane: Lane, now: datetime, conf: Settings) -> dict[str, Any]:
    """Return the corrected columns of a lane whose times are too far in the future; empty if none is."""

    def is_ahead(moment: datetime | None, max_seconds: float = 0.0) -> bool:
        return moment is not None and moment > now + timedelta(seconds=max_seconds + CLOCK_SECONDS)

    columns: dict[str, Any] = {}
    longest_gap, lease = lane.license.pace_seconds[1], lease_seconds(conf)
    if is_ahead(lane.next_send_at, longest_gap):
        columns["next_send_at"] = in_seconds(longest_gap)
    if is_ahead(lane.lease_taken_at):
        columns["lease_taken_at"] = DatabaseNow()
    # Twice the lease is allowed, because another process may have been started with other settings.
    if lane.lease_token is not None and is_ahead(lane.lease_expires_at, 2 * lease):
        columns["lease_expires_at"] = in_seconds(lease)
    longest = longest_pause(PauseReason(lane.pause_reason), conf)
    if lane.paused_until is not None and (is_ahead(lane.paused_until, longest) or is_ahead(lane.paused_at)):
        asked = (lane.paused_until - lane.paused_at).total_seconds() if lane.paused_at is not None else longest
        columns["paused_until"] = in_seconds(min(max(asked, 0.0), longest))
    if is_ahead(lane.paused_at):
        columns["paused_at"] = DatabaseNow()
    if is_ahead(lane.restricted_until, pace.MAX_RESTRICTION_SECONDS):
        columns["restricted_until"] = in_seconds(pace.MAX_RESTRICTION_SECONDS)
    return columns


def longest_pause(reason: PauseReason, conf: Settings) -> float:
    """Return the maximum number of seconds that a pause for `reason` lasts before the lane is checked again."""
    return pace.MAX_RETRY_AFTER_SECONDS if reason == PauseReason.RATE_LIMITED else conf.max_probe_seconds * 1.2
