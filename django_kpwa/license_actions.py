"""A license and the WhatsApp account behind it: status, QR, restart, and registration of the webhook.

Every function that asks the gateway stores what it said on the lane, and may raise `GatewayError` or
`KeyUnreadableError`; none of those is called inside a transaction. `pause()`, `resume()` and `confirm_number()` ask
nobody. `within_seconds` bounds all that one of them asks together; None: each call has the settings' deadline.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from django.views.decorators.debug import sensitive_variables

from . import alerts, announce, pace, webhook_address
from .conf import kpwa_settings
from .encryption import Secret
from .exceptions import GatewayError
from .gateway import Gateway, LoginQr, NumberCheck, ServiceStatus, SessionStatus
from .models import ENDED_BY_STATUS, DatabaseNow, Lane, License, PauseReason, WebhookToken, in_seconds
from .store import store
from .store.results import Lease, Pause
from .wake import wake_license
from .webhook_address import webhook_url

OLD_TOKEN_DAYS = 1
WEB_SECONDS = 20.0
"""What a web request may spend on the gateway: gunicorn ends a worker after 30 seconds, with whatever else it holds.

The site's look at its own address before a webhook is registered comes on top, with five seconds.
"""
RESUMABLE = tuple(reason for reason in PauseReason if reason not in (PauseReason.NONE, PauseReason.NUMBER_CHANGED))
"""The pauses that `resume()` ends."""


@contextmanager
def _asking(license_: License, within_seconds: float | None) -> Iterator[Gateway]:
    with license_.get_gateway() as gateway:
        if within_seconds is not None:
            gateway.ends_at = monotonic() + within_seconds
        yield gateway


def check_status(license_: License, *, deadline_seconds: float | None = None) -> ServiceStatus:
    """Ask whether WhatsApp is linked. Linked again, a lane that was paused for it goes on."""
    with license_.get_gateway() as gateway:
        status = gateway.get_status(deadline_seconds=deadline_seconds)
    note_status(license_, status.session_status)
    return status


def restart(license_: License, *, within_seconds: float | None = None) -> ServiceStatus:
    """Restart the license's service, then ask for the status: restart's `ready` may not mean linked."""
    with _asking(license_, within_seconds) as gateway:
        gateway.restart()
        status = gateway.get_status()
    note_status(license_, status.session_status)
    return status


def get_login_qr(license_: License, *, within_seconds: float | None = None) -> LoginQr | None:
    """The QR code to scan now, or None where the license turns out to be linked."""
    with _asking(license_, within_seconds) as gateway:
        try:
            return gateway.get_login_qr()
        except GatewayError:
            if gateway.ends_at is not None and monotonic() >= gateway.ends_at:
                raise
            # A linked license may answer with an error; what is the case, the status tells.
            status = gateway.get_status()
            note_status(license_, status.session_status)
            if status.session_status == SessionStatus.CONNECTED:
                return None
            raise


@sensitive_variables("phone_number")
def check_number(license_: License, phone_number: str, *, within_seconds: float | None = None) -> NumberCheck:
    """Ask whether `phone_number` (digits with the country code) has WhatsApp."""
    with _asking(license_, within_seconds) as gateway:
        return gateway.check_number(phone_number)


def note_status(license_: License, session_status: SessionStatus, *, lease: Lease | None = None) -> bool:
    """Store a status that the gateway told, and pause or free the lane where that follows from it.

    `lease` is that of a caller who drives the lane and goes on by itself; for any other, a lane that is free again is
    woken. Returns False where the lane has to wait for a scan.
    """
    previous = store().note_session(license_.pk, session_status)
    announce.session_became(license_, session_status, previous)
    lane = Lane.objects.get(pk=license_.pk)
    lane.license = license_
    is_unclear = session_status == SessionStatus.UNKNOWN
    if session_status == SessionStatus.QR or (is_unclear and lane.pause_reason == PauseReason.LOGGED_OUT):
        # A license that is being set up has not stopped sending; one that is driven has messages that wait.
        is_loss = lease is not None or previous == SessionStatus.CONNECTED
        stop(lane, PauseReason.LOGGED_OUT, lease=lease, alerts_people=is_loss)
        return False
    # It was asked with the present key, which is therefore readable and accepted. A word that nobody documented does
    # not keep the shop's messages back either: the send itself will tell.
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
    """Pause a lane until it is asked again, or (`UNAUTHORIZED`) until it has another key; alert once per pause.

    `lease`: as in `note_status()`; its driver counts the status checks that a pause outlasts, which come ever more
    seldom. `words` are the gateway's, `error` what went wrong in words of ours.
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
        alerts.lane_paused(lane.license, pause_)


def pause(license_: License) -> bool:
    """Hold the license's messages until a person resumes it. False: it is held already, by a person or for its number.

    Any other pause becomes a person's: it no longer ends by itself.
    """
    return store().pause_license(license_.pk, Pause(PauseReason.BY_PERSON, None))


def resume(license_: License) -> bool:
    """End a pause, whatever its reason, and send. False: the license was not paused, or for its changed number.

    What a clock that was ahead made it wait for ends as well.

    That last one ends with `confirm_number()` alone: somebody has to say that the other phone is the shop's.
    """
    lifted = store().lift_pause(license_.pk, *RESUMABLE)
    goes_on = bool(store().bring_back_times_ahead([license_.pk])) or lifted
    if goes_on:
        wake_license(license_.pk)
    return goes_on


def confirm_number(license_: License, *, keep: bool = False) -> bool:
    """Say which phone sends from now on, after another one was found linked, and send. False: nothing to confirm.

    The phone that is linked now, whose number `lane.linked_number` shows, becomes the license's. `keep`: it does not;
    the one before, `lane.confirmed_number`, has been linked again. Should the next send come from any other phone than
    the one confirmed here, the license stops again after that one message.
    """
    confirmed = store().confirm_number(license_.pk, keep=keep)
    if confirmed:
        wake_license(license_.pk)
    return confirmed


def check_webhook_address(license_: License, *, is_tried: bool = True) -> None:
    """Raise `WebhookAddressError` where nothing that the license's gateway posts would come to this site.

    `is_tried`: the site asks itself, which takes up to five seconds. A gateway that stays in the process posts nothing.
    """
    with license_.get_gateway() as gateway:
        if gateway.leaves_the_process:
            webhook_address.check(gateway.base_urls, is_tried=is_tried)


def set_webhook(license_: License, *, within_seconds: float | None = None) -> str:
    """Register this site's webhook with a new token: reset, then set. Returns the URL, which is a secret.

    The tokens before it live until the first event under the new one, and a day more. Where nobody looked at the
    address, `check_webhook_address()` does. Raises `WebhookAddressError` where there is none.
    """
    token = Secret(secrets.token_urlsafe(32))
    url = Secret(webhook_url(token.reveal()))
    tokens = WebhookToken.objects
    row = tokens.create(license=license_, digest=token_digest(token.reveal()), created_at=DatabaseNow())
    try:
        with _asking(license_, within_seconds) as gateway:
            gateway.reset_webhook()
            gateway.set_webhook(url.reveal())
    except GatewayError:
        # The gateway may have stored it in spite of its answer, so the token stays good for a day.
        tokens.filter(pk=row.pk).update(expires_at=in_seconds(OLD_TOKEN_DAYS * 86400))
        raise
    tokens.filter(pk=row.pk).update(registered_at=DatabaseNow())
    return url.reveal()


def reset_webhook(license_: License, *, within_seconds: float | None = None) -> ServiceStatus:
    """Remove the webhook from the gateway and let the license's tokens expire."""
    with _asking(license_, within_seconds) as gateway:
        status = gateway.reset_webhook()
    note_status(license_, status.session_status)
    WebhookToken.objects.filter(license=license_, expires_at=None).update(expires_at=in_seconds(OLD_TOKEN_DAYS * 86400))
    return status


def token_digest(token: str) -> str:
    """SHA-256 of a webhook token, as stored."""
    __traceback_hide__ = True
    return hashlib.sha256(token.encode()).hexdigest()
