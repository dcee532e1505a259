"""Decides whether a lane may send now: whether it is paused, whether that pause is over, and if WhatsApp is linked."""

from __future__ import annotations

from collections.abc import Callable

from django.core.exceptions import ImproperlyConfigured

from .. import announce
from ..conf import Settings
from ..exceptions import GatewayError, InvalidApiKeyError, KeyUnreadableError
from ..gateway import Gateway, SessionStatus
from ..gateway.outcome import outcome_of_error
from ..license_actions import note_status, stop
from ..logs import get_logger
from ..masking import words_of
from ..models import HELD_BY_PEOPLE, DatabaseNow, Lane, PauseReason
from ..store import store
from ..store.results import Lease, Pause
from ..words import FOR_DEVELOPER
from .verdict import PAUSED_AT_ONCE, error_words, in_sites_language

logger = get_logger("django_kpwa.dispatch")


def may_send(lease: Lease, lane: Lane, open_gateway: Callable[[], Gateway], conf: Settings) -> bool:
    """True if the lane of this lease may send now.

    If the session's status is unknown or was bad, it is checked at the gateway. According to the answer, the lane is
    paused, its pause is extended, or its pause is lifted.

    `open_gateway`: returns the lane's gateway; called only if the status has to be checked.
    """
    reason = PauseReason(lane.pause_reason)
    if lane.has_changed_number and reason not in HELD_BY_PEOPLE:
        # The change was found while a person's pause was in force, which no other pause replaces. It is over now.
        pause = Pause(PauseReason.NUMBER_CHANGED, None)
        if store().pause_lane(lease, pause):
            announce.lane_paused(lane.license, pause, lane.confirmed_number, lane.linked_number)
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
    """Return the gateway. If it cannot be opened, pause the lane with the error as its reason, and return None."""
    try:
        return open_gateway()
    except (KeyUnreadableError, InvalidApiKeyError) as error:
        told = in_sites_language(PauseReason.KEY_UNREADABLE.label)
        stop(lane, PauseReason.KEY_UNREADABLE, str(error), lease=lease, error=told)
    except ImproperlyConfigured as error:
        told = in_sites_language(FOR_DEVELOPER) % {"words": error}
        stop(lane, PauseReason.FAILING, str(error), lease=lease, error=told)
    return None


def _probe(lease: Lease, lane: Lane, open_gateway: Callable[[], Gateway], conf: Settings) -> bool:
    """Check the status at the gateway, and pause the lane, extend its pause or lift it. True if the lane may send."""
    gateway = _opened(lease, lane, open_gateway)
    if gateway is None:
        return False
    try:
        status = gateway.get_status(deadline_seconds=conf.status_deadline_seconds)
    except GatewayError as error:
        outcome = outcome_of_error(error)
        if not error.said:
            logger.warning("The status of license %s could not be asked: %s", lane.license_id, words_of(error))
        stop(lane, _reason(error, lane), outcome.words, lease=lease, error=error_words(outcome))
        return False
    lane.session_status = status.session_status.value
    return note_status(lane.license, status, lease=lease)


def _reason(error: GatewayError, lane: Lane) -> PauseReason:
    """Return the reason for the pause after a status check that failed with `error`."""
    reason = PAUSED_AT_ONCE.get(outcome_of_error(error).cause)
    if reason is not None and reason != PauseReason.RATE_LIMITED:
        return reason
    # A failed check does not prove that a logged-out license was linked again.
    return PauseReason.LOGGED_OUT if lane.pause_reason == PauseReason.LOGGED_OUT else PauseReason.FAILING
