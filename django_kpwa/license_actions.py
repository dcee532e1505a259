"""Actions on a license and its WhatsApp account: status, QR code, restart, pauses, and registration of the webhook.

A license's messages wait in its *lane*, the queue of that license with its state.

`pause()`, `resume()`, `end_restriction()` and `confirm_number()` do not call the gateway. The other functions do: they
may raise `GatewayError` or `KeyUnreadableError`, store the status that the gateway reports in the lane, and must not be
called inside a transaction.

`within_seconds` limits all gateway calls of one function together; None: each call has the deadline of the settings.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from django.views.decorators.debug import sensitive_variables

from . import announce, pace, webhook_address
from .conf import kpwa_settings
from .encryption import Secret
from .exceptions import GatewayError, InvalidApiKeyError, KeyUnreadableError, UnauthorizedError
from .gateway import Gateway, LoginQr, NumberCheck, ServiceStatus, SessionStatus
from .models import ENDED_BY_STATUS, Lane, License, PauseReason
from .store import store
from .store.results import Lease, Pause
from .wake import wake_license
from .webhook_address import webhook_url

WEB_SECONDS = 20.0
"""Time limit for the gateway's calls in a web request: gunicorn kills a worker after 30 seconds.

Before a webhook is registered, the site also tries its own address, for up to five more seconds.
"""
RESUMABLE = tuple(reason for reason in PauseReason if reason not in (PauseReason.NONE, PauseReason.NUMBER_CHANGED))
"""The pauses that `resume()` ends."""


@contextmanager
def _asking(license_: License, within_seconds: float | None) -> Iterator[Gateway]:
    """Yield the license's gateway. If the gateway refuses the key, or the key cannot be decrypted, the lane is paused,
    so that all screens show it before a message is refused because of it."""
    try:
        with license_.get_gateway() as gateway:
            if within_seconds is not None:
                gateway.ends_at = monotonic() + within_seconds
            yield gateway
    except UnauthorizedError as error:
        if not error.from_fallback:
            _stop_for_its_key(license_, PauseReason.UNAUTHORIZED, error.said)
        raise
    except (KeyUnreadableError, InvalidApiKeyError) as error:
        _stop_for_its_key(license_, PauseReason.KEY_UNREADABLE, str(error))
        raise


def _stop_for_its_key(license_: License, reason: PauseReason, words: str) -> None:
    store().ensure_lane(license_.pk)
    lane = Lane.objects.get(pk=license_.pk)
    lane.license = license_
    # A license that is still being set up has not stopped sending, so it needs no alert.
    stop(lane, reason, words, alerts_people=lane.session_status == SessionStatus.CONNECTED.value)


def check_status(license_: License, *, deadline_seconds: float | None = None) -> ServiceStatus:
    """Ask the gateway whether WhatsApp is linked, pause or resume the license accordingly, and return the answer.

    `deadline_seconds`: for the call; None: the settings' deadline.
    """
    with _asking(license_, None) as gateway:
        status = gateway.get_status(deadline_seconds=deadline_seconds)
    note_status(license_, status)
    return status


def restart(license_: License, *, within_seconds: float | None = None) -> ServiceStatus:
    """Restart the license's service, then ask for its status and return that.

    The answer to the restart itself is not enough: `ready` in it may not mean that a phone is linked.
    """
    with _asking(license_, within_seconds) as gateway:
        gateway.restart()
        status = gateway.get_status()
    note_status(license_, status)
    return status


def get_login_qr(license_: License, *, within_seconds: float | None = None) -> LoginQr | None:
    """Return the QR code to scan now, or None if the license is linked already."""
    with _asking(license_, within_seconds) as gateway:
        try:
            return gateway.get_login_qr()
        except GatewayError:
            if gateway.ends_at is not None and monotonic() >= gateway.ends_at:
                raise
            # The gateway may answer with an error because the license is already linked; the status shows that.
            status = gateway.get_status()
            note_status(license_, status)
            if status.session_status == SessionStatus.CONNECTED:
                return None
            raise


@sensitive_variables("phone_number")
def check_number(license_: License, phone_number: str, *, within_seconds: float | None = None) -> NumberCheck:
    """Ask the gateway whether `phone_number` (digits with the country code) has WhatsApp."""
    with _asking(license_, within_seconds) as gateway:
        return gateway.check_number(phone_number)


def note_status(license_: License, status: ServiceStatus, *, lease: Lease | None = None) -> bool:
    """Store a status that the gateway reported, and pause the lane or end its pause accordingly.

    `lease`: the lease of a caller that drives the lane and continues by itself; without it, a lane whose pause ended is
    woken. Returns False if the lane has to wait for a scan.
    """
    session_status = status.session_status
    previous = store().note_session(license_.pk, session_status, status.word)
    announce.session_became(license_, session_status, previous)
    lane = Lane.objects.get(pk=license_.pk)
    lane.license = license_
    is_unclear = session_status == SessionStatus.UNKNOWN
    if session_status == SessionStatus.QR or (is_unclear and lane.pause_reason == PauseReason.LOGGED_OUT):
        # No alert for a license that is being set up, because it has not stopped sending. A lane that is driven has
        # messages waiting.
        is_loss = lease is not None or previous == SessionStatus.CONNECTED
        stop(lane, PauseReason.LOGGED_OUT, lease=lease, alerts_people=is_loss)
        return False
    # The status was requested with the current key, which is therefore readable and accepted. An undocumented status
    # does not hold the messages back either: the next send will show whether they can be sent.
    lifted = store().lift_pause(
        license_.pk, *ENDED_BY_STATUS, *([PauseReason.UNAUTHORIZED] if lane.has_new_key else [])
    )
    if lease is None and (store().bring_back_times_ahead([license_.pk]) or lifted):
        wake_license(license_.pk)
    return True


def stop(
    lane: Lane,
    reason: PauseReason,
    words: str = "",
    *,
    lease: Lease | None = None,
    error: str = "",
    alerts_people: bool = True,
) -> None:
    """Pause a lane until its next status check, or (`UNAUTHORIZED`) until it has another key; alert once per pause.

    `lease`: as in `note_status()`. `words`: the gateway's message. `error`: this package's description of the error.
    `alerts_people`: False for a pause that needs no alert.

    Each status check that does not end the pause lengthens the wait for the next one.
    """
    is_same = lane.pause_reason == reason
    probes = lane.probes + 1 if is_same else 0
    waits_for_a_key = reason == PauseReason.UNAUTHORIZED
    pause_ = Pause(
        reason,
        None if waits_for_a_key else pace.probe(probes, kpwa_settings()),
        words,
        lane.license.api_key_version if waits_for_a_key else None,
    )
    if lease is None:
        is_written = store().pause_license(lane.pk, pause_)
    else:
        is_written = store().pause_lane(lease, pause_, probes=min(probes, 1000), error=error)
    if is_written and not is_same and alerts_people:
        announce.lane_paused(lane.license, pause_)


def pause(license_: License) -> bool:
    """Hold the license's messages until a person resumes it. This replaces a pause that would end by itself.

    Returns False if it is already paused by a person, or because its number changed.
    """
    return store().pause_license(license_.pk, Pause(PauseReason.BY_PERSON, None))


def resume(license_: License) -> bool:
    """End the pause of the license, so that its messages are sent again. Returns False if there was nothing to end.

    A pause because the number changed is ended only by `confirm_number()`: a person has to state that the other phone
    is the shop's. `resume()` also ends waits that were stored while the database's clock was ahead.
    """
    lifted = store().lift_pause(license_.pk, *RESUMABLE)
    goes_on = bool(store().bring_back_times_ahead([license_.pk])) or lifted
    if goes_on:
        wake_license(license_.pk)
    return goes_on


def end_restriction(license_: License) -> bool:
    """Record that WhatsApp no longer restricts the number, and send what waits for that. Returns False if the number
    was not restricted.

    If WhatsApp still rejects a message to a new customer, the restriction starts again.
    """
    has_ended = store().end_restriction(license_.pk)
    if has_ended:
        wake_license(license_.pk)
    return has_ended


def confirm_number(license_: License, *, keep: bool = False) -> bool:
    """Confirm which phone sends, after another one was found linked, so that messages are sent again.

    Confirms the phone that is linked now (`lane.linked_number`). With `keep`, confirms the former phone
    (`lane.confirmed_number`), which has been linked again. If the next message is sent from another phone than the
    confirmed one, the license is paused again after that message. Returns False if there was nothing to confirm.
    """
    confirmed = store().confirm_number(license_.pk, keep=keep)
    if confirmed:
        wake_license(license_.pk)
    return confirmed


def check_webhook_address(license_: License, *, is_tried: bool = True) -> None:
    """Raise `WebhookAddressError` if the license's gateway could not reach this site's webhook.

    `is_tried`: also send a request to the address, which takes up to five seconds. A gateway that does not leave the
    process posts nothing, and is not checked.
    """
    with license_.get_gateway() as gateway:
        if gateway.leaves_the_process:
            webhook_address.check(gateway.base_urls, is_tried=is_tried)


def set_webhook(license_: License, *, within_seconds: float | None = None) -> str:
    """Register this site's webhook under a new token with the gateway. Returns the URL, which is a secret.

    Earlier tokens stay valid until one day after the first event under the new one. Call `check_webhook_address()`
    first: this function does not check that the address is reachable. Raises `WebhookAddressError` if there is none.
    """
    token = Secret(secrets.token_urlsafe(32))
    url = Secret(webhook_url(token.reveal()))
    token_id = store().add_token(license_.pk, token_digest(token.reveal()))
    try:
        with _asking(license_, within_seconds) as gateway:
            gateway.reset_webhook()
            gateway.set_webhook(url.reveal())
    except GatewayError:
        # The gateway may have stored the URL in spite of the error, so the token stays valid for a day.
        store().expire_tokens(license_.pk, pk=token_id)
        raise
    store().note_token_registered(token_id)
    return url.reveal()


def reset_webhook(license_: License, *, within_seconds: float | None = None) -> ServiceStatus:
    """Remove the webhook from the gateway, let the license's tokens expire in a day, and return the status."""
    with _asking(license_, within_seconds) as gateway:
        status = gateway.reset_webhook()
    note_status(license_, status)
    store().expire_tokens(license_.pk)
    return status


def token_digest(token: str) -> str:
    """Return the SHA-256 digest of a webhook token, which is stored instead of the token."""
    __traceback_hide__ = True
    return hashlib.sha256(token.encode()).hexdigest()
