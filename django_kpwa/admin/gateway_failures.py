"""Errors when the gateway is asked, in words for the person who asked, and with what to press next.

The gateway's own words are masked and shortened by `gateway.answers`; they are only quoted here.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..exceptions import (
    AnsweredError,
    BadRequestError,
    ConnectionLostError,
    GatewayError,
    GatewayTimeoutError,
    InvalidApiKeyError,
    KeyForAnotherUrlError,
    KeyUnreadableError,
    NotConnectedError,
    RateLimitedError,
    ServerError,
    TurnedAwayError,
    UnauthorizedError,
    UnexpectedAnswerError,
    WebhookAddressError,
)
from ..words import Words

ASKING_ERRORS = (GatewayError, KeyUnreadableError, InvalidApiKeyError, ImproperlyConfigured)
"""The errors that asking the gateway may raise."""

TRY_AGAIN, ENTER_KEY, RESTART = "", "change", "restart"
"""What helps: asking again, or the page of the license with this name."""


@dataclass(frozen=True)
class Failure:
    """`title` is a summary, `words` tell what to do, `quote` is what the gateway itself said."""

    title: Words
    words: Words
    quote: str = ""
    help: str = TRY_AGAIN

    @property
    def sentence(self) -> str:
        """The whole failure in one line."""
        told = f"{self.title}. {self.words}"
        if not self.quote:
            return told
        said = gettext("The gateway said: %(words)s") % {"words": self.quote}
        return f"{told} {said}"


_KEY_REFUSED = Failure(
    _("Key refused"),
    _("The gateway does not accept the API key. Enter the present one; it is in the gateway's dashboard."),
    help=ENTER_KEY,
)
_KEY_UNREADABLE = Failure(
    _("Key unreadable"),
    _("No API key is stored, or it cannot be read: the site's own secret key was changed. Enter the API key again."),
    help=ENTER_KEY,
)
_KEY_FOR_ANOTHER_URL = Failure(
    _("Key unreadable"),
    _("The base URL is another one than the API key was given for. Enter the API key again."),
    help=ENTER_KEY,
)
_UNREACHABLE = Failure(
    _("Gateway unreachable"),
    _("No connection to the gateway could be made. Look at this site's internet connection, then try again."),
)
_BY_ERROR: dict[type[Exception], Failure] = {
    NotConnectedError: _UNREACHABLE,
    TurnedAwayError: Failure(
        _("Turned away"),
        _(
            "The gateway, or something in front of it, did not take the request. Wait a minute, then try again; if it "
            "stays so, check its base URL and ask its support."
        ),
    ),
    GatewayTimeoutError: Failure(
        _("No answer in time"), _("The gateway did not answer in time. Wait a minute, then try again.")
    ),
    ConnectionLostError: Failure(
        _("Connection lost"), _("The connection to the gateway broke before its answer came. Try again.")
    ),
    BadRequestError: Failure(_("Refused"), _("The gateway refused what was asked.")),
    ServerError: Failure(
        _("Gateway failed"), _("The gateway had a failure of its own. Wait a minute, then try again.")
    ),
    UnexpectedAnswerError: Failure(
        _("Answer not understood"),
        _("What the gateway answered makes no sense. Wait a minute, then try again; if it stays so, ask its support."),
    ),
}
_NO_CODE = Failure(
    _("Restart needed"),
    _("The gateway gave no code. Restart its service, then ask for the code again."),
    help=RESTART,
)


def failure_of(error: Exception) -> Failure:
    """What to tell a person about one of the `ASKING_ERRORS`."""
    if isinstance(error, UnauthorizedError):
        # The fallback address may not know the license; the real problem is that the first was not reached.
        return _UNREACHABLE if error.from_fallback else _KEY_REFUSED
    if isinstance(error, RateLimitedError):
        return _asked_to_wait(error)
    if isinstance(error, KeyForAnotherUrlError):
        return _KEY_FOR_ANOTHER_URL
    if isinstance(error, (KeyUnreadableError, InvalidApiKeyError)):
        return _KEY_UNREADABLE
    if isinstance(error, GatewayError):
        failure = next((known for kind, known in _BY_ERROR.items() if isinstance(error, kind)), _UNREACHABLE)
        return _with_quote(failure, error)
    return _not_set_up(error)


def failure_of_code(error: Exception) -> Failure:
    """The same for a request for a login code: a service that gives none needs a restart."""
    if isinstance(error, TurnedAwayError) and error.status_code not in (404, 422):
        return failure_of(error)
    if isinstance(error, (BadRequestError, ServerError, UnexpectedAnswerError)):
        return _with_quote(_NO_CODE, error)
    return failure_of(error)


def _with_quote(failure: Failure, error: GatewayError) -> Failure:
    if not isinstance(error, (AnsweredError, TurnedAwayError)):
        return failure
    # If the answer had no words, these are the error's own, which are for developers.
    said = "" if error.words == str(error) else error.words
    quote = "; ".join(filter(None, (said, *error.errors)))
    return Failure(failure.title, failure.words, quote, failure.help)


def _asked_to_wait(error: RateLimitedError) -> Failure:
    title = _("The gateway asks to wait")
    if error.retry_after_seconds is None:
        return Failure(title, _("It was asked too often. Wait a minute, then try again."))
    words = gettext("It was asked too often. Try again in %(count)s seconds.")
    return Failure(title, words % {"count": max(round(error.retry_after_seconds), 1)})


def _not_set_up(error: Exception) -> Failure:
    if isinstance(error, WebhookAddressError) and error.was_tried:
        hint = gettext(
            "Where this site has a single worker, which is busy with this page, or cannot reach its own address from "
            "inside, its developer registers the webhook by a command: %(command)s"
        ) % {"command": "manage.py kpwa webhook set"}
        return Failure(_("A webhook would not arrive"), f"{error} {hint}")
    title = _("A setting is missing")
    if isinstance(error, WebhookAddressError):
        return Failure(title, str(error))
    return Failure(title, gettext("The site's developer can mend this: %(words)s") % {"words": error})
