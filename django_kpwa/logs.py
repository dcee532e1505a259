"""What is written to logs and terminals: no secret path, and no words of others that do more there than be read.

Customers, gateways and a site's own code put words into what is logged. An escape sequence in them would steer the
terminal that shows the log, a line end forge a line of it, a bidirectional mark have it read backwards.

The path of a webhook is its secret, and that of check-number holds a phone number; urllib3 and Django log them.

Filters of loggers, not of handlers: they work whatever handlers the site has, and `dictConfig()` leaves them in place.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Iterator
from contextlib import suppress
from numbers import Number

# A token has 43 characters; another app's `/webhooks/stripe/` is none of our business.
_SECRET_PATH = re.compile(r"(/check-number/|/webhooks/(?=[\w-]{40}))[^\s?/\"]*")
# Escape sequences, what turns the writing's direction, and every kind of line end.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class Lines(str):
    """A text whose line ends are its own: a traceback, with the words of others in it cleaned. Made by `lines_of()`."""

    __slots__ = ()


def get_logger(name: str) -> logging.Logger:
    """The logger called `name`, which cleans whatever it is given. Every module of ours logs by one of these."""
    logger = logging.getLogger(name)
    logger.addFilter(_cleaning)
    return logger


def mask_paths_in(*logger_names: str) -> None:
    """Have these loggers of others write `…` for the secret part of a path, and clean it. Twice changes nothing."""
    for name in logger_names:
        logging.getLogger(name).addFilter(_masking)


def mask_paths(text: str) -> str:
    """Return `text` with `…` for the secret part of every path in it."""
    return _SECRET_PATH.sub(r"\1…", text)


def without_controls(text: str) -> str:
    """Return `text` with a space for all that could move a terminal's cursor, turn its writing or forge a line."""
    return _CONTROL.sub(" ", text)


def escaped_controls(json: str) -> str:
    """Return a JSON document with `\\u202e` for what `without_controls()` would take out."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", json)


def lines_of(text: str) -> Lines:
    """Clean `text` but for its line feeds, which are ours."""
    return Lines("\n".join(without_controls(line) for line in text.split("\n")))


def traceback_of(error: BaseException) -> Lines:
    """The traceback of `error` as text, the words of each exception in it on one line."""
    text = "".join(traceback.format_exception(error))
    for words in _words_in(error, set()):
        text = text.replace(words, without_controls(words))
    return lines_of(text)


def _words_in(error: BaseException, seen: set[int]) -> Iterator[str]:
    if id(error) in seen:
        return
    seen.add(id(error))
    for words in (error, *getattr(error, "__notes__", ())):
        text = ""
        with suppress(Exception):  # what cannot be said stands in no traceback either
            text = str(words)
        if _CONTROL.search(text):
            yield text
    within = getattr(error, "exceptions", ())
    for behind in (error.__cause__, error.__context__, *(within if isinstance(within, tuple) else ())):
        if isinstance(behind, BaseException):
            yield from _words_in(behind, seen)


class _Cleaning(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(_clean(argument) for argument in record.args)
        return True


class _Masking(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                without_controls(mask_paths(argument)) if isinstance(argument, str) else argument
                for argument in record.args
            )
        return True


def _clean(argument: object) -> object:
    if argument is None or isinstance(argument, (Lines, Number)):
        return argument
    return without_controls(str(argument))


_cleaning = _Cleaning()
_masking = _Masking()
