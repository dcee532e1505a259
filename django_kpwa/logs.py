"""Keeps secret paths out of the logs that others write: urllib3's of our requests, Django's of the gateway's.

The path of a webhook is its secret, and that of check-number holds a phone number. A filter of a logger, not of a
handler: it works whatever handlers the site has, and `dictConfig()` leaves it in place.
"""

from __future__ import annotations

import logging
import re

# A token has 43 characters; another app's `/webhooks/stripe/` is none of our business.
# Escape sequences, what turns the writing's direction, and every kind of line end.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")

_SECRET_PATH = re.compile(r"(/check-number/|/webhooks/(?=[\w-]{40}))[^\s?/\"]*")


def mask_paths_in(*logger_names: str) -> None:
    """Have these loggers write `…` for the secret part of a path. Doing it twice changes nothing."""
    for name in logger_names:
        logging.getLogger(name).addFilter(_filter)


def mask_paths(text: str) -> str:
    """Return `text` with `…` for the secret part of every path in it."""
    return _SECRET_PATH.sub(r"\1…", text)


def without_controls(text: str) -> str:
    """Return `text` with a space for all that could move a terminal's cursor, turn its writing or forge a line."""
    return _CONTROL.sub(" ", text)


class _SecretPathsMasked(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(_masked(argument) for argument in record.args)
        return True


def _masked(argument: object) -> object:
    return mask_paths(argument) if isinstance(argument, str) else argument


_filter = _SecretPathsMasked()
