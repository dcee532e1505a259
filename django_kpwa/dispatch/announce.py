"""Sends the signals about messages: after the commit, outside any transaction, robustly."""

from __future__ import annotations

from collections.abc import Iterable

from django.dispatch import Signal

from .. import signals
from ..containing import send_contained
from ..models import OutboundMessage, Status

_BY_STATUS = {
    Status.SENT: signals.message_sent,
    Status.FAILED: signals.message_failed,
    Status.UNKNOWN: signals.message_unknown,
    Status.EXPIRED: signals.message_expired,
    Status.CANCELLED: signals.message_cancelled,
}


def signal_of(status: Status) -> Signal | None:
    """The signal that tells of `status`, where there is one."""
    return _BY_STATUS.get(status)


def announce(signal: Signal | None, message_ids: Iterable[int]) -> None:
    """Send `signal` for each message; messages are read only where somebody listens."""
    if signal is None or not signal.has_listeners(OutboundMessage):
        return
    for message in OutboundMessage.objects.filter(pk__in=list(message_ids)):
        send_contained(signal, OutboundMessage, message=message)


def has_listeners(status: Status) -> bool:
    """Whether somebody wants to hear of `status`: then the next message is claimed only after they did."""
    signal = signal_of(status)
    return signal is not None and signal.has_listeners(OutboundMessage)
