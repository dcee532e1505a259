"""Texts of errors from a site's code or a gateway class, with customers' numbers masked, for people and logs."""

from __future__ import annotations

from .encryption import Secret
from .logs import Lines, traceback_of, without_controls
from .phone import mask_numbers


def words_of(error: Exception) -> str:
    """Return the text of `error` for the admin: with numbers masked, on one line, at most 1000 characters.

    It can be stored: NUL and lone surrogates, which PostgreSQL refuses and a customer's text may contain, are removed
    or replaced.
    """
    words = mask_numbers(f"{type(error).__name__}: {error}")
    return without_controls(words.replace("\x00", "")).encode("utf-8", "replace").decode()[:1000]


def masked_traceback(error: BaseException, *secrets: Secret) -> Lines:
    """Return the traceback of `error` for a log, with numbers and `secrets` masked.

    Log this instead of `exc_info`, with which a handler would print the exception's unmasked text, and an error report
    the variables of every frame.
    """
    text: str = traceback_of(error)
    for secret in filter(None, secrets):
        text = text.replace(secret.reveal(), "…")
    return Lines(mask_numbers(text))
