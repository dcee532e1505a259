"""The moments of a send at which its worker's death matters. Nothing happens at them.

tests/faults puts functions of its own in their place, which kill, freeze or break the process that reaches them. The
moments inside the POST are the transport's, and the tests make them there.
"""

from __future__ import annotations


def before_claim() -> None:
    """The lane is ours, and no message yet."""


def after_claim() -> None:
    """The message is `sending`, committed, and nothing of it has left."""


def after_post() -> None:
    """What became of the call is known to this process alone."""


def after_record() -> None:
    """It is committed; the next message may be claimed with it, and no signal has been sent."""
