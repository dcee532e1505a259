"""Who renders a message's text when its turn comes.

A message that is stored without its text names its renderer as `family/label`; `receipts` registers a family here, so
that the dispatcher need not know it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .encryption import Secret
from .exceptions import KpwaError
from .logs import Lines, traceback_of, without_controls
from .models import License, OutboundMessage
from .phone import mask_numbers


@dataclass(frozen=True)
class Rendered:
    """What the message says. One of both must not be empty."""

    text: str = field(repr=False)
    image_url: str = ""
    to: Addressee | None = field(default=None, repr=False)
    """Another number than the message was queued for; None: the same."""


@dataclass(frozen=True)
class Addressee:
    """A number as it was typed, and its digits."""

    typed: str = field(repr=False)
    digits: str = field(repr=False)


@dataclass(frozen=True)
class Moved:
    """Another license sends the message now, and its text is written when its turn comes there."""

    license: License


@dataclass(frozen=True)
class Withdrawn:
    """The message is not to be sent any more; `reason` says why, for people."""

    reason: str


Renderer = Callable[[OutboundMessage, str], Rendered | Withdrawn | Moved]
"""Called with the message and the label; whatever it raises makes the message `failed`."""

_families: dict[str, Renderer] = {}


def register_renderer(family: str, renderer: Renderer) -> None:
    """Let `renderer` render the messages whose `renderer` begins with `family/`."""
    _families[family] = renderer


def render(message: OutboundMessage) -> Rendered | Withdrawn | Moved:
    """Render `message`. Raises `KpwaError` where nobody is registered for it, else whatever the renderer raises."""
    family, _, label = message.renderer.partition("/")
    if family not in _families:
        raise KpwaError(f"Nobody renders {message.renderer!r}: is the app that registered it still installed?")
    return _families[family](message, label)


def words_of(error: Exception) -> str:
    """What a site's code raised, for the admin: numbers masked, one line, at most 1000 characters, storable.

    PostgreSQL refuses NUL and halves of surrogate pairs, which a customer's text may have brought into the words.
    """
    words = mask_numbers(f"{type(error).__name__}: {error}")
    return without_controls(words.replace("\x00", "")).encode("utf-8", "replace").decode()[:1000]


def masked_traceback(error: BaseException, *secrets: Secret) -> Lines:
    """The traceback for a log, with numbers and `secrets` masked.

    Not `exc_info`: a handler would print the exception's own words, and a report the variables of every frame.
    """
    text: str = traceback_of(error)
    for secret in filter(None, secrets):
        text = text.replace(secret.reveal(), "…")
    return Lines(mask_numbers(text))
