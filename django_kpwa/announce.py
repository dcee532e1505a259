"""Reports what happened to the site: sends signals, and logs alerts.

Signals, whose arguments `signals` describes, are sent with `send_robust()`, after the commit of what they report, and
without a query if a signal has no receivers. Alerts are logged for the people who run the site: by the logger
`django_kpwa.alerts` at level ERROR, so that Django's `AdminEmailHandler`, Sentry or whatever the site has set up
forwards them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from django.db import connections
from django.dispatch import Signal

from . import signals
from .containing import contained, is_open
from .gateway import SessionStatus
from .logs import get_logger
from .models import Alert, License, OutboundMessage, PauseReason, Status, WebhookEvent
from .phone import mask
from .store import store
from .words import PAUSES, Tone, what_to_do

if TYPE_CHECKING:
    from .store.results import Pause

logger = get_logger("django_kpwa.announce")
alerts = get_logger("django_kpwa.alerts")

_OF_STATUS = {
    Status.SENT: signals.message_sent,
    Status.DELIVERED: signals.message_delivered,
    Status.READ: signals.message_read,
    Status.FAILED: signals.message_failed,
    Status.UNKNOWN: signals.message_unknown,
    Status.EXPIRED: signals.message_expired,
    Status.CANCELLED: signals.message_cancelled,
}
_NAMES_ITS_EVENT = (Status.DELIVERED, Status.READ)


def has_listeners(status: Status) -> bool:
    """True if a receiver is connected to the signal of `status`."""
    return status in _OF_STATUS and _OF_STATUS[status].has_listeners(OutboundMessage)


def messages_became(status: Status | None, message_ids: Iterable[int]) -> None:
    """Send the signal of `status` for each of these messages; nothing for None or a status without a signal."""
    if status is not None:
        messages_moved([(message_id, status) for message_id in message_ids])


def message_became_on_commit(status: Status, message_id: int) -> None:
    """Send the signal of `status` for one message after the current transaction is committed."""
    store().on_commit(lambda: messages_became(status, [message_id]))


def messages_moved(moves: Iterable[tuple[int, Status]], event: WebhookEvent | None = None) -> None:
    """Send the signals for `moves`, pairs of a message's id and its new status, in this order.

    `event`: the webhook event that caused them, if any.
    """
    subscribed = [(message_id, status) for message_id, status in moves if has_listeners(status)]
    if not subscribed:
        return
    messages = OutboundMessage.objects.in_bulk([message_id for message_id, _ in subscribed])
    for message_id, status in subscribed:
        if message := messages.get(message_id):
            about = {"event": event} if status in _NAMES_ITS_EVENT else {}
            _send(_OF_STATUS[status], OutboundMessage, message=message, **about)


def undelivered_has_listeners() -> bool:
    """True if a receiver is connected to `message_undelivered`."""
    return bool(signals.message_undelivered.has_listeners(OutboundMessage))


def messages_undelivered(message_ids: Sequence[int], event: WebhookEvent) -> None:
    """Send `message_undelivered` for each of these messages, which `event` reports on."""
    if not message_ids or not undelivered_has_listeners():
        return
    for message in OutboundMessage.objects.filter(pk__in=message_ids).order_by("pk"):
        _send(signals.message_undelivered, OutboundMessage, message=message, event=event)


def session_became(license_: License, status: SessionStatus, previous: SessionStatus) -> None:
    """Send `license_status_changed`, unless `status` is `previous`."""
    if status != previous:
        named = {"license": license_, "session_status": status, "previous_session_status": previous}
        _send(signals.license_status_changed, License, **named)


def events_have_listeners() -> bool:
    """True if a receiver is connected to one of the two signals about webhook events."""
    return any(signal.has_listeners(WebhookEvent) for signal in (signals.webhook_received, signals.message_received))


def event_processed(event: WebhookEvent, incoming: Iterable[object]) -> None:
    """Send `webhook_received`, and `message_received` for each customer's message (a `ParsedEvent`) in the event."""
    _send(signals.webhook_received, WebhookEvent, event=event)
    for part in incoming:
        _send(signals.message_received, WebhookEvent, event=event, incoming=part)


def lane_paused(license_: License, pause: Pause, confirmed_number: str = "", linked_number: str = "") -> None:
    """Log that `license_` was just paused. Call it once per pause. A short pause that ends by itself is logged as INFO.

    `confirmed_number`, `linked_number`: digits, for a pause because another phone is linked; they are masked here.
    """
    if PAUSES[pause.reason].tone != Tone.BAD:
        alerts.info("License %s paused: %s.", license_.name, pause.reason.value)
        return
    words, advice = pause.words, what_to_do(pause.reason, license_.name)
    if pause.reason == PauseReason.KEY_UNREADABLE and words:
        # Here `pause.words` already says what is wrong with the key and what to do.
        advice = ""
    if pause.reason == PauseReason.NUMBER_CHANGED:
        words = f"{mask(linked_number)} instead of {mask(confirmed_number)}"
    alerts.error(
        "License %s stopped sending (%s%s). Its messages are kept.%s",
        license_.name,
        pause.reason.value,
        f": {words}" if words else "",
        f" {advice}" if advice else "",
    )


def alerts_have_listeners() -> bool:
    """True if a receiver is connected to `alert_opened`."""
    return bool(signals.alert_opened.has_listeners(Alert))


def alert_opened(alert: Alert, title: str, text: str, command: str, *, is_logged: bool) -> None:
    """Send `alert_opened`, and log the alert unless `is_logged`: a license's pause was logged when it began.

    `title`, `text`: in the site's language. `command`: what to do on the command line, in English.
    """
    if not is_logged:
        alerts.error("Alert %s. %s", alert, command)
    _send(signals.alert_opened, Alert, alert=alert, title=title, text=text)


def alert_closed(alert: Alert, title: str, text: str) -> None:
    """Log that an alert is over, and send `alert_closed`."""
    alerts.info("Alert %s is over: %s waiting, %s expired meanwhile.", alert, alert.waiting, alert.expired)
    _send(signals.alert_closed, Alert, alert=alert, title=title, text=text)


def _send(signal: Signal, sender: Any, **named: Any) -> None:
    """Call `signal.send_robust()` inside savepoints of all open transactions: receivers may use any database."""
    if not signal.has_listeners(sender):
        return
    aliases = [connection.alias for connection in connections.all(initialized_only=True) if is_open(connection)]
    with contained(*aliases) as caught:
        signal.send_robust(sender, **named)
    if caught.error is not None:
        logger.error("The database changes of a signal's receivers were rolled back (%s).", type(caught.error).__name__)
