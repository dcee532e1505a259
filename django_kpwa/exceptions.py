"""All exceptions of the package, in one tree.

    KpwaError
    ├── KeyUnreadableError                no configured secret key decrypts the stored API key
    │   └── KeyForAnotherUrlError         the base URL was changed after the key was stored
    ├── LicenseChoiceError                no license has the name that was given
    ├── KnownReceiptError                 a receipt's key belongs to a message that may be about another row
    ├── InvalidMessageError (ValueError)  refused before anything was stored
    │   ├── InvalidPhoneNumberError
    │   ├── RecipientStoppedError         the owner of the number wants no messages
    │   ├── RecipientForgottenError       the message's number and text were forgotten
    │   └── InvalidImageUrlError
    ├── TransactionLostError (OperationalError)  the caller's transaction ended while something was stored in it
    ├── RolledBackError                   an atomic() block was rolled back without an exception
    ├── TaskFailedError                   a Celery task raised an exception, whose message is masked
    ├── InvalidApiKeyError (ValueError)   a key that cannot be sent in an HTTP header
    ├── WebhookAddressError (ImproperlyConfigured)  the gateway's webhooks would not reach this site
    └── GatewayError                      an operation of the gateway did not succeed
        ├── NotConnectedError             no connection could be made; nothing was sent
        ├── GatewayTimeoutError           a read timeout, the total deadline, or a 502 or 504 answer
        ├── ConnectionLostError           reset or cut short after the request had left
        ├── UnexpectedAnswerError         an answer in no documented format
        │   └── TurnedAwayError           an answer which proves that nothing was carried out or sent
        └── AnsweredError                 a documented answer other than success
            ├── BadRequestError           400
            ├── UnauthorizedError         401
            ├── RateLimitedError          429
            └── ServerError               500

Their messages never contain an API key, a QR code, a webhook token or a complete phone number.
"""

from __future__ import annotations

from typing import Any

from django.core import exceptions as core
from django.db import OperationalError


class KpwaError(Exception):
    """Base class of all exceptions that this package raises on purpose."""


class KeyUnreadableError(KpwaError):
    """A stored API key cannot be decrypted with any of `KPWA["SECRET_KEYS"]` (or `SECRET_KEY` and its fallbacks)."""


class KeyForAnotherUrlError(KeyUnreadableError):
    """The stored API key was entered for another base URL than the license has now, and is not sent to this one."""


class LicenseChoiceError(KpwaError):
    """No license has the given name, or a command does not make clear which license it is about.

    A message without a license is not refused for this reason: it waits until a license can be chosen.
    """


class KnownReceiptError(KpwaError):
    """A receipt is not sent: a message with its key exists, but the number or the time of the event differs.

    It is only kept as a `ReceiptFailure`, never raised.
    """


class TransactionLostError(KpwaError, OperationalError):
    """The database ended the caller's transaction while a receipt or message was being stored in it.

    Nothing of that transaction is stored. `__cause__` is the exception that was raised meanwhile, if any.
    """


class RolledBackError(KpwaError):
    """An `atomic()` block ends without an exception, although an error caught inside has rolled all of it back.

    It is not a `DatabaseError`, because Django's `atomic()` would catch that at this point.
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
    """The value is not a valid phone number; the message says why, with the number masked."""


class RecipientStoppedError(InvalidMessageError):
    """The owner of the number has written that they want no messages, or that it is the wrong number.

    Nothing is sent to it until they ask for messages again, or a person ends the stop.
    """


class RecipientForgottenError(InvalidMessageError):
    """The number and the text of the message were emptied (`kpwa forget`), so it cannot be sent again."""


class InvalidImageUrlError(InvalidMessageError):
    """The image URL is malformed, not http(s), or contains a user name."""


class TaskFailedError(KpwaError):
    """Replaces an exception of a task in Celery's logs and events, because its message may hold a phone number."""


class InvalidApiKeyError(KpwaError, ValueError):
    """An API key that is empty, or contains characters that cannot be sent in an HTTP header."""


class WebhookAddressError(KpwaError, core.ImproperlyConfigured):
    """This site has no address for its webhook, or one that the gateway's posts would not reach.

    `was_tried` is True if the site itself requested the address, and the answer was not that of its webhook.
    """

    def __init__(self, message: str, *, was_tried: bool = False) -> None:
        super().__init__(message)
        self.was_tried = was_tried


class GatewayError(KpwaError):
    """An operation of the gateway did not succeed.

    `status_code`: the HTTP status; None if there was no answer.
    `code`: the gateway's own code, unchanged (integer, string or None).
    `errors`: the gateway's list of reasons.
    `words`: the gateway's own message, with secrets and numbers masked; if it sent none, the exception's message.
    `said`: the gateway's own message only; empty if it sent none.
    `from_fallback`: True if the answer came from a base URL other than the first.
    """

    _is_answered = False

    def __init__(
        self,
        message: str,
        *,
        status_code: int | None = None,
        code: Any = None,
        errors: tuple[str, ...] = (),
        words: str | None = None,
        from_fallback: bool = False,
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.code = code
        self.errors = errors
        self.words = words or message
        # A site's own gateway class may pass the gateway's words as the exception's message only.
        self.said = message if words is None and self._is_answered else (words or "")
        self.from_fallback = from_fallback


class NotConnectedError(GatewayError):
    """No connection could be made (refused, DNS, TLS, connect timeout): nothing was sent."""


class GatewayTimeoutError(GatewayError):
    """The answer did not come in time, or was a 502 or 504: it is unknown whether the operation was carried out."""


class ConnectionLostError(GatewayError):
    """The connection broke after the request had left: it is unknown whether the operation was carried out."""


class UnexpectedAnswerError(GatewayError):
    """An answer in no documented format: a redirect, HTML, JSON without required fields, an unknown status."""


class TurnedAwayError(UnexpectedAnswerError):
    """An answer whose status proves that the request was not carried out: nothing was sent.

    `gateway.answers` lists these statuses. `retry_after_seconds` is the wait that the answer asked for, or None.
    """

    def __init__(self, message: str, *, retry_after_seconds: float | None = None, **answer: Any) -> None:
        super().__init__(message, **answer)
        self.retry_after_seconds = retry_after_seconds


class AnsweredError(GatewayError):
    """The gateway answered with a documented failure."""

    _is_answered = True


class BadRequestError(AnsweredError):
    """400: the gateway refused the request; `errors` may say why. A logged-out license may also answer with 400."""


class UnauthorizedError(AnsweredError):
    """401: the API key is not accepted."""


class RateLimitedError(AnsweredError):
    """429: too many requests. `retry_after_seconds` is the wait that the answer asked for, or None."""

    def __init__(self, message: str, *, retry_after_seconds: float | None = None, **answer: Any) -> None:
        super().__init__(message, **answer)
        self.retry_after_seconds = retry_after_seconds


class ServerError(AnsweredError):
    """500 in the documented format: it is unknown whether the operation was carried out."""
