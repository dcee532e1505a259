"""Secrets in memory and at rest.

`Secret` keeps a value out of reprs, logs, tracebacks and pickles. `encrypt` and `decrypt` store API keys under rotating
Fernet keys (`cryptography.fernet.MultiFernet`), derived from `KPWA["SECRET_KEYS"]`, newest first, or else from
`SECRET_KEY` and `SECRET_KEY_FALLBACKS`. Of a forgotten phone number, only the result of `keyed_digests` is kept.

A function that holds a secret in plain text sets `__traceback_hide__`, so that error reports (Django's, also under
DEBUG, and Sentry's) omit its frame. `sensitive_variables` is not enough: it has no effect under DEBUG or in Sentry.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from django.conf import settings
from django.utils.encoding import force_bytes
from django.views.decorators.debug import sensitive_variables

from .conf import kpwa_settings
from .exceptions import InvalidApiKeyError, KeyUnreadableError

if TYPE_CHECKING:
    from cryptography.fernet import Fernet, MultiFernet


class Secret:
    """A string whose value is available only from `reveal()`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        __traceback_hide__ = True
        self._value = value

    def reveal(self) -> str:
        """Return the value in plain text."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('…')"

    __str__ = __repr__

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(("Secret", self._value))

    def __reduce__(self) -> NoReturn:
        raise TypeError("A Secret cannot be pickled: it would leave the process in the clear.")


def clean_api_key(value: str) -> str:
    """Return `value` without surrounding white space.

    Raises `InvalidApiKeyError` for a key that cannot be sent in an HTTP header: `http.client` would raise an error that
    quotes it.
    """
    __traceback_hide__ = True
    key = value.strip()
    if not key:
        raise InvalidApiKeyError("The API key is empty. Copy it from the gateway's dashboard.")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidApiKeyError(
            "The API key contains white space or unusual characters. Copy it again from the gateway's dashboard."
        )
    return key


def encrypt(value: str) -> str:
    """Return `value` encrypted with the newest key, as ASCII text."""
    __traceback_hide__ = True
    return _fernet().encrypt(value.encode()).decode("ascii")


def decrypt(token: str) -> Secret:
    """Decrypt a result of `encrypt()` with any of the configured keys.

    Raises `KeyUnreadableError` if none of them decrypts it.
    """
    from cryptography.fernet import InvalidToken

    try:
        return Secret(_fernet().decrypt(token.encode("ascii")).decode())
    except (InvalidToken, UnicodeError):
        raise KeyUnreadableError(
            "The stored API key cannot be decrypted with any of the configured secret keys. Put the secret key "
            'that it was encrypted with back into KPWA["SECRET_KEYS"] (or SECRET_KEY_FALLBACKS), or enter the '
            "API key again."
        ) from None


def is_under_newest_key(token: str) -> bool:
    """True if the newest key decrypts `token`, so that older keys are no longer needed for it."""
    from cryptography.fernet import InvalidToken

    try:
        _fernets()[0].decrypt(token.encode("ascii"))
    except (InvalidToken, UnicodeError):
        return False
    return True


def _fernet() -> MultiFernet:
    from cryptography.fernet import MultiFernet

    return MultiFernet(_fernets())


@sensitive_variables()
def _fernets() -> list[Fernet]:
    # Imported here, because processes that only queue messages never decrypt a key and should not load this.
    from cryptography.fernet import Fernet

    return [Fernet(_derived_key(secret)) for secret in _secrets()]


@sensitive_variables()
def keyed_digests(value: str) -> list[str]:
    """Return the HMAC-SHA-256 of `value`, in hex, under each configured secret, newest first.

    They are what is kept of a forgotten number. A digest without a key could be reversed by trying all numbers.
    """
    return [hmac.digest(b"django_kpwa.forgotten" + secret, value.encode(), "sha256").hex() for secret in _secrets()]


@sensitive_variables()
def _secrets() -> list[bytes]:
    secrets: Sequence[str | bytes] = kpwa_settings().SECRET_KEYS or (
        settings.SECRET_KEY,
        *settings.SECRET_KEY_FALLBACKS,
    )
    return [force_bytes(secret) for secret in secrets]


@sensitive_variables()
def _derived_key(secret: bytes) -> bytes:
    # One keyed hash suffices to derive a Fernet key from any string: SECRET_KEY is long and random, not a password.
    # Any change of this derivation makes all stored API keys unreadable.
    digest = hmac.new(b"django_kpwa.encryption", secret, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest)
