"""Validates the arguments that a site passes for a message, and converts them to the values that are stored."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from datetime import datetime
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from django.db import Error, models
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from . import phone
from .contents import is_out_of_reach, says_something
from .exceptions import InvalidImageUrlError, InvalidMessageError
from .logs import get_logger
from .models import (
    MAX_DATABASE_LENGTH,
    MAX_REFERENCE_LENGTH,
    RecipientType,
    content_types,
    database_of,
    idempotency_digest,
    is_saved,
    source_id_of,
    stored_name,
)

logger = get_logger("django_kpwa.outbox")

MAX_TEXT_LENGTH = 65_536
"""WhatsApp's own limit for one message, in characters."""
MAX_IMAGE_URL_LENGTH = 2000
MAX_KEY_LENGTH = 255
MAX_SOURCE_ID_LENGTH = 255
_MAX_CLEANED = 1000
_JOINERS = "\u200c\u200d"  # invisible, but part of how words and emoji are written


@sensitive_variables()
def recipient_of(to: str, group: str, region: str) -> tuple[str, str, RecipientType]:
    """Return the recipient as typed, in the form that is sent (digits, or a group's name), and its kind.

    Raises `InvalidMessageError`, or its subclass `InvalidPhoneNumberError`.
    """
    if bool(to) == bool(group):
        raise InvalidMessageError("give either a number (to) or a group's name (group).")
    if group:
        name = group.strip()
        if not says_something(name) or len(name) > 255:
            raise InvalidMessageError("a group's name must have 1 to 255 characters.")
        if "\x00" in name:
            raise InvalidMessageError("its group's name contains a NUL character, which databases reject.")
        return group[:255], name, RecipientType.GROUP
    number = phone.parse(to, region)
    return phone.typed(to)[:255], number, RecipientType.NUMBER


@sensitive_variables()
def check_content(text: str, image_url: str) -> None:
    """Raise `InvalidMessageError` if `text` is too long or cannot be stored, or `image_url` cannot be fetched."""
    if len(text) > MAX_TEXT_LENGTH:
        raise InvalidMessageError(
            f"its text has {len(text):,} characters; WhatsApp allows at most {MAX_TEXT_LENGTH:,}."
        )
    if "\x00" in text:
        raise InvalidMessageError("its text contains a NUL character, which databases reject.")
    if image_url:
        check_image_url(image_url)


def check_image_url(url: str) -> None:
    """Raise `InvalidImageUrlError` if the gateway could not, or should not, fetch `url`.

    A host that only this machine or its network can reach is accepted only with `DEBUG = True`.
    """
    if len(url) > MAX_IMAGE_URL_LENGTH:
        raise InvalidImageUrlError(
            f"its image_url has {len(url)} characters; at most {MAX_IMAGE_URL_LENGTH} are allowed."
        )
    if any(character.isspace() or not character.isprintable() for character in url):
        raise InvalidImageUrlError("its image_url contains white space or control characters; percent-encode them.")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise InvalidImageUrlError("its image_url is malformed.") from None
    if parts.scheme not in ("http", "https"):
        raise InvalidImageUrlError(f"its image_url begins with {parts.scheme or 'no scheme'!r}; it must be http(s)://.")
    if not host:
        raise InvalidImageUrlError("its image_url names no host.")
    if parts.username is not None or parts.password is not None:
        raise InvalidImageUrlError(
            "its image_url contains a user name, which everybody who gets the message would see; remove it."
        )
    if "\\" in url:
        raise InvalidImageUrlError(
            "its image_url contains a backslash, by which programs disagree about the host; percent-encode it."
        )
    # In development the image is fetched by the sandbox on the same machine, or by nobody.
    if is_out_of_reach(host) and not settings.DEBUG:
        raise InvalidImageUrlError(
            f"its image_url's host {host!r} can be reached only from this machine or its network; the gateway "
            "fetches the image over the internet."
        )


@sensitive_variables()
def check_encodable(*texts: str) -> None:
    """Raise `InvalidMessageError` if one of `texts` cannot be written in UTF-8."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidMessageError("it contains half of a surrogate pair, which is not a character.") from None


def digest_of(key: str | None) -> str | None:
    """Return the digest of an idempotency key; None for no key. Raises `InvalidMessageError`."""
    if key is None:
        return None
    if not isinstance(key, str):
        raise InvalidMessageError(f"its idempotency_key is a {type(key).__name__}; give a string, or None for no key.")
    if not says_something(key):
        raise InvalidMessageError(
            f"its idempotency_key {key[:20]!r} is empty, blank or invisible, so unrelated messages would share "
            "it; give a string that no other message has, or None for no key."
        )
    if len(key) > MAX_KEY_LENGTH:
        raise InvalidMessageError(
            f"its idempotency_key has {len(key)} characters; at most {MAX_KEY_LENGTH} are allowed."
        )
    if "\x00" in key:
        raise InvalidMessageError("its idempotency_key contains a NUL character, which databases reject.")
    return idempotency_digest(key)


def checked_priority(priority: int) -> int:
    """Return `priority` as an int. Raises `InvalidMessageError` if it is not an integer from 0 to 32767."""
    if isinstance(priority, bool) or not isinstance(priority, int) or not 0 <= priority <= 32_767:
        raise InvalidMessageError(f"its priority is {priority!r}; it must be a whole number from 0 to 32767.")
    return int(priority)


def checked_time(name: str, moment: datetime) -> datetime:
    """Return `moment` if it is aware; otherwise raise `InvalidMessageError`. `name`: the argument's name."""
    if not isinstance(moment, datetime) or timezone.is_naive(moment):
        raise InvalidMessageError(f"its {name} must be an aware datetime, e.g. django.utils.timezone.now().")
    return moment


def source_columns(source: models.Model | None, alias: str = "") -> tuple[ContentType | None, str, str]:
    """Return the columns that refer to the source: content type, primary key as text, and stored name of its database.

    `alias`: its database's alias, if the caller knows it; otherwise it is read from the instance.

    Raises `InvalidMessageError` if the source is not saved, or cannot be stored.
    """
    if source is None:
        return None, "", ""
    if not isinstance(source, models.Model):
        raise InvalidMessageError(f"its source is a {type(source).__name__}; give a saved model instance.")
    if not is_saved(source):
        raise InvalidMessageError(
            "its source has not been saved yet, so no message can point to it. Save it first; for an existing "
            "row, load it from the database."
        )
    source_id = source_id_of(source)
    if len(source_id) > MAX_SOURCE_ID_LENGTH or "\x00" in source_id:
        raise InvalidMessageError(
            f"its source's primary key is longer than {MAX_SOURCE_ID_LENGTH} characters, or contains a NUL character."
        )
    database = stored_name(alias or database_of(source))
    if len(database) > MAX_DATABASE_LENGTH:
        raise InvalidMessageError(
            f"its source is in a database whose alias has {len(database)} characters; at most "
            f"{MAX_DATABASE_LENGTH} are allowed."
        )
    return content_types().get_for_model(source, for_concrete_model=False), source_id, database


def reference_by(ask: Callable[[], object], label: str) -> str:
    """Return the reference that `ask()` returns, in the form that is stored: one line of at most 80 characters.

    Empty if it has no visible text. If `ask()` raises, the reference is empty too, and a warning that names `label` is
    logged; only a `django.db.Error` is re-raised.
    """
    try:
        given = ask()
        return "" if given is None or given == "" else _one_line(str(given))
    except Error:
        raise  # it may have ended the caller's transaction
    except Exception as error:
        # Only the type, because the error's text may contain data of a customer.
        logger.warning("The reference of %s is left empty: it raised %s.", label, type(error).__name__)
        return ""


def name_of(source: models.Model | None) -> str:
    """Return `str(source)`; empty if its model does not define `__str__()`: `Sale object (7)` tells people nothing."""
    return "" if source is None or type(source).__str__ is models.Model.__str__ else str(source)


def _one_line(text: str) -> str:
    seen = "".join(
        character
        if character in _JOINERS
        else {"Cc": " ", "Zl": " ", "Zp": " ", "Cf": "", "Cs": ""}.get(kind, character)
        for character in text[:_MAX_CLEANED]
        for kind in [unicodedata.category(character)]
    )
    line = " ".join(seen.split())
    if not says_something(line):
        return ""
    return line if len(line) <= MAX_REFERENCE_LENGTH else f"{line[: MAX_REFERENCE_LENGTH - 1]}…"
