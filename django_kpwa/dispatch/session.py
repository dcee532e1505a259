"""Whether a lane may send now: is it paused, is that over, and is WhatsApp linked. Asks the gateway where need be."""

from __future__ import annotations

from collections.abc import Callable

from django.core.exceptions import ImproperlyConfigured

from .. import alerts, signals
from ..conf import Settings
from ..containing import send_contained
from ..exceptions import GatewayError, InvalidApiKeyError, KeyUnreadableError, UnauthorizedError
from ..gateway import Gateway, SessionStatus
from ..gateway.outcome import outcome_of_error
from ..models import HELD_BY_PEOPLE, DatabaseNow, Lane, License, PauseReason
from ..store.decisions import lift_pause, note_session
from ..store.lanes import pause_lane
from ..store.results import Lease, Pause
from . import pace
from .verdict import error_words


def may_send(lease: Lease, lane: Lane, open_gateway: Callable[[], Gateway], read: Settings) -> bool:
    """Decide for a lane that one drives; pause it, pause it anew or lift its pause where the gateway says so."""
    reason = PauseReason(lane.pause_reason)
    license_ = lane.license
    if lane.has_changed_number and reason not in HELD_BY_PEOPLE:
        # Found while a person's pause stood, which went before.
        pause = Pause(PauseReason.NUMBER_CHANGED, None)
        if pause_lane(lease, pause):
            alerts.lane_paused(license_, pause, lane.confirmed_number, lane.linked_number)
        return False
    if reason == PauseReason.UNAUTHORIZED and lane.paused_key_version != license_.api_key_version:
        lift_pause(lane.license_id, reason)
    elif reason != PauseReason.NONE:
        if not Lane.objects.filter(pk=lane.pk, paused_until__lte=DatabaseNow()).exists():
            return False
        if reason == PauseReason.RATE_LIMITED:
            lift_pause(lane.license_id, reason)
    elif lane.session_status == SessionStatus.CONNECTED.value:
        return _opened(lease, lane, open_gateway, read) is not None
    return _probe(lease, lane, open_gateway, read)


def _opened(lease: Lease, lane: Lane, open_gateway: Callable[[], Gateway], read: Settings) -> Gateway | None:
    """The gateway, or None where it cannot be opened: the lane is paused then, with what to mend."""
    try:
        return open_gateway()
    except (KeyUnreadableError, InvalidApiKeyError) as error:
        _pause(lease, lane, PauseReason.KEY_UNREADABLE, str(error), read, error=str(error))
    except ImproperlyConfigured as error:
        _pause(lease, lane, PauseReason.FAILING, str(error), read, error=str(error))
    return None


def _probe(lease: Lease, lane: Lane, open_gateway: Callable[[], Gateway], read: Settings) -> bool:
    """Ask for the status: pause, pause anew, or lift the pause, by what it says."""
    license_ = lane.license
    gateway = _opened(lease, lane, open_gateway, read)
    if gateway is None:
        return False
    try:
        status = gateway.get_status(deadline_seconds=read.STATUS_DEADLINE_SECONDS).session_status
    except GatewayError as error:
        _pause(lease, lane, _reason(error, lane), error.words, read, error=error_words(outcome_of_error(error)))
        return False
    announce_session(license_, note_session(lane.license_id, status), status)
    lane.session_status = status.value
    if status == SessionStatus.QR:
        _pause(lease, lane, PauseReason.LOGGED_OUT, "", read)
        return False
    if status == SessionStatus.UNKNOWN and lane.pause_reason == PauseReason.LOGGED_OUT:
        _pause(lease, lane, PauseReason.LOGGED_OUT, "", read)
        return False
    # A word that nobody documented does not keep the shop's messages back: the send itself will tell.
    lift_pause(lane.license_id, PauseReason.LOGGED_OUT, PauseReason.FAILING, PauseReason.KEY_UNREADABLE)
    return True


def _reason(error: GatewayError, lane: Lane) -> PauseReason:
    """Why a lane is paused whose status could not be told."""
    if isinstance(error, UnauthorizedError):
        return PauseReason.FAILING if error.from_fallback else PauseReason.UNAUTHORIZED
    # Logged out stays logged out while the gateway does not say otherwise.
    return PauseReason.LOGGED_OUT if lane.pause_reason == PauseReason.LOGGED_OUT else PauseReason.FAILING


def announce_session(license_: License, previous: SessionStatus, status: SessionStatus) -> None:
    """Send `license_status_changed` where it did."""
    if previous != status:
        send_contained(
            signals.license_status_changed,
            License,
            license=license_,
            session_status=status,
            previous_session_status=previous,
        )


def _pause(lease: Lease, lane: Lane, reason: PauseReason, words: str, read: Settings, *, error: str = "") -> None:
    is_same = lane.pause_reason == reason
    probes = lane.probes + 1 if is_same else 0
    waits_for_a_key = reason == PauseReason.UNAUTHORIZED
    pause = Pause(
        reason,
        None if waits_for_a_key else pace.probe(probes, read),
        words,
        lane.license.api_key_version if waits_for_a_key else None,
    )
    if pause_lane(lease, pause, probes=min(probes, 1000), error=error) and not is_same:
        alerts.lane_paused(lane.license, pause)
