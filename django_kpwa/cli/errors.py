"""Turns exceptions into one line for a terminal, with an exit code that scripts can branch on."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management.base import CommandError
from django.db import DatabaseError, InterfaceError, OperationalError, ProgrammingError

from ..exceptions import (
    GatewayError,
    InvalidApiKeyError,
    InvalidMessageError,
    InvalidPhoneNumberError,
    KpwaError,
    LicenseChoiceError,
)
from ..logs import without_controls
from ..phone import mask_numbers
from .console import EXIT_GATEWAY, EXIT_NO, EXIT_USAGE

_SIGNS_OF_NO_TABLE = ("relation", "no such table", "no such column", "doesn't exist", "Unknown column")


def as_command_error(error: Exception) -> CommandError | None:
    """Return the `CommandError` to show for `error`; None if `error` is a bug, whose traceback should be shown."""
    if isinstance(error, CommandError):
        return error
    if isinstance(error, GatewayError):
        return CommandError(_gateway_words(error), returncode=EXIT_GATEWAY)
    if isinstance(error, InvalidMessageError):
        # The messages begin with "it" or "its" and need a sentence before them, except those about a phone number.
        words = str(error) if isinstance(error, InvalidPhoneNumberError) else f"This cannot be sent: {error}"
        return CommandError(_one_line(words), returncode=EXIT_USAGE)
    if isinstance(error, (InvalidApiKeyError, LicenseChoiceError)):
        return CommandError(_one_line(str(error)), returncode=EXIT_USAGE)
    if isinstance(error, ValidationError):
        return CommandError(_one_line(" ".join(error.messages)), returncode=EXIT_USAGE)
    if isinstance(error, (KpwaError, ImproperlyConfigured)):
        return CommandError(_one_line(str(error)), returncode=EXIT_NO)
    if isinstance(error, (DatabaseError, InterfaceError)):
        return CommandError(_database_words(error), returncode=EXIT_NO)
    return None


def _gateway_words(error: GatewayError) -> str:
    reasons = "; ".join(error.errors)
    words = "" if error.words == str(error) or error.words in str(error) else f" It said: {error.words}"
    return _one_line(f"{error}{words}{f' ({reasons})' if reasons and reasons not in str(error) else ''}")


def _database_words(error: Exception) -> str:
    # Only the first line: PostgreSQL appends the statement, with the customer's data that it was to store.
    # Numbers are masked: MariaDB quotes the duplicate value, which may be a phone number.
    words = mask_numbers((str(error).splitlines() or [type(error).__name__])[0])
    if isinstance(error, (ProgrammingError, OperationalError)) and any(sign in words for sign in _SIGNS_OF_NO_TABLE):
        return f"The database does not have all tables of django-kpwa. Run `manage.py migrate`. ({words})"
    return f"The database failed: {words}"


def _one_line(text: str) -> str:
    return " ".join(without_controls(text).split())
