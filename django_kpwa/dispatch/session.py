"""Whether a lane may send now: is it paused, is that over, and is WhatsApp linked. Asks the gateway where need be."""

from __future__ import annotations

from collections.abc import Callable

from django.core.exceptions import ImproperlyConfigured

from .. import alerts
from ..conf import Settings
from ..exceptions import GatewayError, InvalidApiKeyError, KeyUnreadableError
from ..gateway import Gateway, SessionStatus
from ..gateway.outcome import outcome_of_error
from ..license_actions import note_status, stop
from ..models import HELD_BY_PEOPLE, DatabaseNow, Lane, PauseReason
from ..store import store
from ..store.results import Lease, Pause
from .verdict import PAUSED_AT_ONCE, error_words


def may_send(lease: Lease, lane: Lane, open_gateway: Callable[[], Gateway], conf: Settings) -> bool:
    """Decide for a lane that one drives; pause it, pause it anew or lift its pause where the gateway says so."""
    reason = PauseReason(lane.pause_reason)
    if lane.has_changed_number and reason not in HELD_BY_PEOPLE:
        # Found while a person's pause stood, which went before.
        pause = Pause(PauseReason.NUMBER_CHANGED, None)
        if store().pause_lane(lease, pause):
            alerts.lane_paused(lane.license, pause, lane.confirmed_number, lane.linked_number)
        return False
    if reason == PauseReason.NONE:
        if lane.session_status == SessionStatus.CONNECTED.value:
            return _opened(lease, lane, open_gateway) is not None
    elif not lane.has_new_key:
        if not Lane.objects.filter(pk=lane.pk, paused_until__lte=DatabaseNow()).exists():
            return False
        if reason == PauseReason.RATE_LIMITED:
            store().lift_pause(lane.license_id, reason)
    return _probe(lease, lane, open_gateway, conf)


def _opened(lease: Lease, lane: Lane, open_gateway: Callable[[], Gateway]) -> Gateway | None:
    """The gateway, or None where it cannot be opened: the lane is paused then, with what to mend."""
    try:
        return open_gateway()
    except (KeyUnreadableError, InvalidApiKeyError) as error:
        stop(lane, PauseReason.KEY_UNREADABLE, str(error), lease=lease, error=str(error))
    except ImproperlyConfigured as error:
        stop(lane, PauseReason.FAILING, str(error), lease=lease, error=str(error))
    return None


def _probe(lease: Lease, lane: Lane, open_gateway: Callable[[], Gateway], conf: Settings) -> bool:
    """Ask for the status: pause, pause anew, or lift the pause, by what it says."""
    gateway = _opened(lease, lane, open_gateway)
    if gateway is None:
        return False
    try:
        status = gateway.get_status(deadline_seconds=conf.status_deadline_seconds).session_status
    except GatewayError as error:
        stop(lane, _reason(error, lane), error.words, lease=lease, error=error_words(outcome_of_error(error)))
        return False
    lane.session_status = status.value
    return note_status(lane.license, status, lease=lease)


def _reason(error: GatewayError, lane: Lane) -> PauseReason:
    """Why a lane is paused whose status could not be told."""
    reason = PAUSED_AT_ONCE.get(outcome_of_error(error).cause)
    if reason is not None and reason != PauseReason.RATE_LIMITED:
        return reason
    # Logged out stays logged out while the gateway does not say otherwise.
    return PauseReason.LOGGED_OUT if lane.pause_reason == PauseReason.LOGGED_OUT else PauseReason.FAILING
