"""Every exception of the package, in one tree.

    KpwaError
    ├── KeyUnreadableError                the stored API key opens with none of the configured secret keys
    │   └── KeyForAnotherUrlError         the base URL was changed after the key was stored
    ├── LicenseChoiceError                no license has the name that was given
    ├── KnownReceiptError                 a receipt's key is known, by what may be another row's message
    ├── InvalidMessageError (ValueError)  refused before anything was stored
    │   ├── InvalidPhoneNumberError
    │   └── InvalidImageUrlError
    ├── TransactionLostError (OperationalError)  the caller's transaction ended while something was stored in it
    ├── RolledBackError                   an atomic() block was rolled back, and no exception said so
    ├── TaskFailedError                   a Celery task raised something; its words are masked
    ├── InvalidApiKeyError (ValueError)   a key that cannot stand in an HTTP header
    ├── WebhookAddressError (ImproperlyConfigured)  what the gateway posts would not come to this site
    └── GatewayError                      an operation of the gateway did not succeed
        ├── NotConnectedError             no connection could be made; nothing was sent
        ├── GatewayTimeoutError           a read timeout, the total deadline, or a 502 or 504 answer
        ├── ConnectionLostError           reset or cut short after the request had left
        ├── UnexpectedAnswerError         an answer that fits no documented shape
        │   └── TurnedAwayError           one by which the request was certainly not carried out; nothing was sent
        └── AnsweredError                 a documented answer other than success
            ├── BadRequestError           400
            ├── UnauthorizedError         401
            ├── RateLimitedError          429
            └── ServerError               500

No message of any of them holds an API key, a QR code, a webhook token or a whole phone number.
"""

from __future__ import annotations

from typing import Any

from django.core import exceptions as core
from django.db import OperationalError


class KpwaError(Exception):
    """Base of everything that this package raises on purpose."""


class KeyUnreadableError(KpwaError):
    """A stored API key opens with none of `KPWA["SECRET_KEYS"]` (or `SECRET_KEY` and its fallbacks)."""


class KeyForAnotherUrlError(KeyUnreadableError):
    """A stored API key was given for another base URL than the license has now; it is not sent there."""


class LicenseChoiceError(KpwaError):
    """No license has the name that was given, or a person's command could not tell which one is meant.

    A message that names no license is never refused for that: it waits.
    """


class KnownReceiptError(KpwaError):
    """A receipt is not sent because its key is known, although its number or its time is another than the message's.

    It is kept as a `ReceiptFailure`, and never raised.
    """


class TransactionLostError(KpwaError, OperationalError):
    """The database ended the caller's transaction while a receipt or message was being stored in it.

    Nothing of that transaction is stored. `__cause__` is what was raised, where something was.
    """


class RolledBackError(KpwaError):
    """An `atomic()` block ends without an exception, although an error that was caught in it undid all of it.

    No `DatabaseError`: Django would catch that one at this place.
    """


class InvalidMessageError(KpwaError, ValueError):
    """A message was refused before anything was stored.

    `index` is the position of the message in the argument of `send_messages()`, counted from 0, else None.
    """

    def __init__(self, message: str, *, index: int | None = None) -> None:
        super().__init__(message if index is None else f"message {index}: {message}")
        self.reason = message
        self.index = index


class InvalidPhoneNumberError(InvalidMessageError):
    """What was given cannot be a phone number; the message says why, with the number masked."""


class InvalidImageUrlError(InvalidMessageError):
    """The image URL is malformed, not http(s), or carries a user name."""


class TaskFailedError(KpwaError):
    """Stands in Celery's logs and events for what a task of ours raised, whose own words may hold a number."""


class InvalidApiKeyError(KpwaError, ValueError):
    """An API key with white space or other characters that cannot stand in an HTTP header."""


class WebhookAddressError(KpwaError, core.ImproperlyConfigured):
    """This site has no address for its webhook, or one where nothing that the gateway posts would arrive.

    `was_tried`: the site asked itself, from inside, and was not answered as its webhook would.
    """

    def __init__(self, message: str, *, was_tried: bool = False) -> None:
        super().__init__(message)
        self.was_tried = was_tried


class GatewayError(KpwaError):
    """An operation of the gateway did not succeed.

    `status_code` is the HTTP status, None where there was no answer; `code` the gateway's own code as it came
    (integer, string or None); `errors` its list of reasons; `words` the gateway's own sentence, with secrets and
    numbers masked; `from_fallback` tells that the answer came from another than the first base URL.
    """

    def __init__(
        self,
        message: str,
        *,
        status_code: int | None = None,
        code: Any = None,
        errors: tuple[str, ...] = (),
        words: str = "",
        from_fallback: bool = False,
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.code = code
        self.errors = errors
        self.words = words or message
        self.from_fallback = from_fallback


class NotConnectedError(GatewayError):
    """No connection could be made (refused, DNS, TLS, connect timeout): nothing was sent."""


class GatewayTimeoutError(GatewayError):
    """The answer did not come in time, or a 502 or 504 came in its place: nobody knows what happened."""


class ConnectionLostError(GatewayError):
    """The connection broke after the request had left: nobody knows what happened."""


class UnexpectedAnswerError(GatewayError):
    """An answer that fits no documented shape: a redirect, HTML, JSON without what it must hold, a strange status."""


class TurnedAwayError(UnexpectedAnswerError):
    """By its status the request was certainly not carried out: nothing was sent.

    `gateway.answers` has the table. `retry_after_seconds` is what the answer asked for, None where it named none.
    """

    def __init__(self, message: str, *, retry_after_seconds: float | None = None, **answer: Any) -> None:
        super().__init__(message, **answer)
        self.retry_after_seconds = retry_after_seconds


class AnsweredError(GatewayError):
    """The gateway answered with a documented failure."""


class BadRequestError(AnsweredError):
    """400: the gateway refused the request; `errors` may say why. A logged-out license may answer so as well."""


class UnauthorizedError(AnsweredError):
    """401: the API key is not accepted."""


class RateLimitedError(AnsweredError):
    """429: too many requests. `retry_after_seconds` is what the answer asked for, None where it named none."""

    def __init__(self, message: str, *, retry_after_seconds: float | None = None, **answer: Any) -> None:
        super().__init__(message, **answer)
        self.retry_after_seconds = retry_after_seconds


class ServerError(AnsweredError):
    """500 in the documented shape. For a send: nobody knows what happened."""
