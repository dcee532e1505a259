"""The moments of a send at which the death of its worker matters. In production these functions do nothing.

tests/faults replaces them by functions that kill, freeze or break the process. For failures within the POST, the tests
use the transport.
"""

from __future__ import annotations


def before_claim() -> None:
    """The lane is leased, and no message is claimed yet."""


def after_check() -> None:
    """The gateway has answered whether a number has WhatsApp, and only this process knows the answer."""


def after_claim() -> None:
    """The message is committed as `sending`, and the gateway has not been called."""


def after_post() -> None:
    """The call has ended, and only this process knows its outcome."""


def after_record() -> None:
    """The outcome is committed, perhaps together with the next message's claim, and no signal has been sent."""
