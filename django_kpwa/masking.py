"""What an error of a site's code, or of the gateway's, may say to people and to logs: customers' numbers are masked."""

from __future__ import annotations

from .encryption import Secret
from .logs import Lines, traceback_of, without_controls
from .phone import mask_numbers


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
