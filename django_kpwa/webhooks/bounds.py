"""Limits on how much of one webhook is examined, and the message shown when a payload exceeds one.

Whoever learns a webhook's address can post there, and processing a body must never cost a worker much more than its
size suggests. So each event is limited as a whole: the number of JSON separators before it is parsed, the objects
visited, the events it reports, and the total length of their texts.
"""

from __future__ import annotations

MAX_UNPACKED_BYTES = 4_194_304
"""Maximum size in bytes of a compressed body after decompression; a larger one is not read."""
MAX_MARKS = 100_000
"""Maximum number of commas, brackets and braces in JSON that is parsed: a parsed value takes fifty times its bytes."""
MAX_NODES = 10_000
"""Maximum number of objects visited for one event."""
MAX_EVENTS = 500
"""Maximum number of events in one payload; one with more is not read: acting on it would exceed a worker's time."""
MAX_IDS = 2_000
"""Maximum number of message ids that all parts of one event may name together."""
MAX_TEXT = 524_288
"""Maximum number of characters in all parts of one event together."""


class TooMuchError(Exception):
    """A payload exceeds a limit. The message names the limit and quotes nothing of the payload."""


class Budget:
    """What is left of the limits for one event. The methods raise `TooMuchError` when a limit is exceeded."""

    def __init__(self) -> None:
        self._marks = MAX_MARKS
        self._nodes = MAX_NODES
        self._events = MAX_EVENTS

    def spend_marks(self, text: str) -> None:
        """Count the separators of a JSON text that is about to be parsed."""
        self._marks -= text.count(",") + text.count("{") + text.count("[")
        if self._marks < 0:
            raise TooMuchError(f"It holds more than {MAX_MARKS} values.")

    def spend_node(self) -> None:
        """Count an object that is visited."""
        self._nodes -= 1
        if self._nodes < 0:
            raise TooMuchError(f"It holds more than {MAX_NODES} objects within one another.")

    def spend_event(self) -> None:
        """Count a possible event, even if it turns out not to be one: examining it costs the same."""
        self._events -= 1
        if self._events < 0:
            raise TooMuchError(f"It says more than {MAX_EVENTS} things.")
