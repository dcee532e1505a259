"""How much of one webhook is looked at, and what is told where that is not enough.

Whoever learns a webhook's address can post there, and a worker must never pay much more for a body than for its bytes.
So what one event may hold is bounded as a whole: its marks before it is read as JSON, the objects that are walked
through, the things that it says, and the text of all of them together.
"""

from __future__ import annotations

MAX_UNPACKED_BYTES = 4_194_304
"""A packed body that holds more is not read."""
MAX_MARKS = 100_000
"""JSON with more commas, brackets and braces is not read: each value costs fifty times its bytes."""
MAX_NODES = 10_000
"""So many objects are walked through for one event."""
MAX_EVENTS = 500
"""A payload that says more things is not read: acting on it would take longer than a worker may."""
MAX_IDS = 2_000
MAX_TEXT = 524_288
"""Characters that all parts of one event may hold together."""


class TooMuchError(Exception):
    """A payload goes beyond a bound; the message says which, and names nothing of the payload."""


class Budget:
    """What is left of the bounds for one event. Raises `TooMuchError` where nothing is."""

    def __init__(self) -> None:
        self._marks = MAX_MARKS
        self._nodes = MAX_NODES
        self._events = MAX_EVENTS

    def spend_marks(self, text: str) -> None:
        self._marks -= text.count(",") + text.count("{") + text.count("[")
        if self._marks < 0:
            raise TooMuchError(f"It holds more than {MAX_MARKS} values.")

    def spend_node(self) -> None:
        self._nodes -= 1
        if self._nodes < 0:
            raise TooMuchError(f"It holds more than {MAX_NODES} objects within one another.")

    def spend_event(self) -> None:
        """Also of what turns out to be none: looking at it costs as much."""
        self._events -= 1
        if self._events < 0:
            raise TooMuchError(f"It says more than {MAX_EVENTS} things.")
