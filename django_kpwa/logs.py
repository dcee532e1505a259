"""Keeps secret paths, and control characters in foreign text, out of logs and terminals.

Customers, gateways and a site's own code supply parts of what is logged. An escape sequence in them would control the
terminal that shows the log, a line break would forge a log line, and a bidirectional mark would reverse the text.

The paths of webhooks and of the health addresses are secrets, and the path of check-number holds a phone number;
urllib3 and Django log paths.

The filters are set on loggers rather than on handlers: they work with any handlers of the site, and `dictConfig()`
leaves them in place.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Iterator
from contextlib import suppress
from numbers import Number

# A webhook's token has 43 characters, and a health secret at least 32; the minimum leaves another app's
# `/webhooks/stripe/` alone.
_SECRET_PATH = re.compile(r"(/check-number/|/webhooks/(?=[\w-]{40})|/(?:health|metrics)/(?=[\w-]{24}))[^\s?/\"]*")
# Control characters (escape sequences begin with one), bidirectional marks, and every kind of line break.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class Lines(str):
    """A text of several lines that is already clean, such as a traceback, so that the filter keeps its line breaks."""

    __slots__ = ()


def get_logger(name: str) -> logging.Logger:
    """Return the logger `name`, with a filter that cleans all arguments. All modules of this package must use it."""
    logger = logging.getLogger(name)
    logger.addFilter(_cleaning)
    return logger


def mask_paths_in(*logger_names: str) -> None:
    """Make these loggers of other packages write `…` for the secret part of a path, and clean their texts.

    Calling it again has no effect.
    """
    for name in logger_names:
        logging.getLogger(name).addFilter(_masking)


def mute_thread(thread_name: str, *logger_names: str) -> None:
    """Make these loggers of other packages drop the records of threads with that name, whose whole paths are secret.

    Calling it again has no effect.
    """
    muting = _muting.setdefault(thread_name, _Muting(thread_name))
    for name in logger_names:
        logging.getLogger(name).addFilter(muting)


def mask_paths(text: str) -> str:
    """Return `text` with `…` in place of the secret part of every path."""
    return _SECRET_PATH.sub(r"\1…", text)


def without_controls(text: str) -> str:
    """Return `text` with a space for every character that could control a terminal, reverse text or forge a line."""
    return _CONTROL.sub(" ", text)


def escaped_controls(json: str) -> str:
    """Return a JSON document with escapes like `\\u202e` for the characters that `without_controls()` would replace."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", json)


def lines_of(text: str) -> Lines:
    """Clean `text`, but keep its line feeds, which must be the package's own."""
    return Lines("\n".join(without_controls(line) for line in text.split("\n")))


def traceback_of(error: BaseException) -> Lines:
    """Return the traceback of `error` as clean text, with the message of each exception on a single line."""
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
        with suppress(Exception):  # if str() of an exception fails, the traceback has no message of it either
            text = str(words)
        if _CONTROL.search(text):
            yield text
    within = getattr(error, "exceptions", ())
    for behind in (error.__cause__, error.__context__, *(within if isinstance(within, tuple) else ())):
        if isinstance(behind, BaseException):
            yield from _words_in(behind, seen)


class _Cleaning(logging.Filter):
    """Cleans the arguments of a record. Its format string is the package's own text."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(_clean(argument) for argument in record.args)
        return True


class _Masking(logging.Filter):
    """Masks paths in a record's arguments, which is where Django and urllib3 put them, and cleans the arguments."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                without_controls(mask_paths(argument)) if isinstance(argument, str) else argument
                for argument in record.args
            )
        return True


class _Muting(logging.Filter):
    """Drops the records of threads with a given name."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.threadName != self.name


def _clean(argument: object) -> object:
    if argument is None or isinstance(argument, (Lines, Number)):
        return argument
    return without_controls(str(argument))


_cleaning = _Cleaning()
_masking = _Masking()
_muting: dict[str, _Muting] = {}
