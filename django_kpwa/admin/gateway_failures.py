"""Texts for errors of calls to the gateway, for the user who pressed the button, with what to do next.

The gateway's own words were masked and shortened by `gateway.answers`, so they can be quoted unchanged.
"""

from __future__ import annotations

from typing import NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..exceptions import (
    BadRequestError,
    GatewayError,
    InvalidApiKeyError,
    KeyForAnotherUrlError,
    KeyUnreadableError,
    RateLimitedError,
    ServerError,
    TurnedAwayError,
    UnexpectedAnswerError,
    WebhookAddressError,
)
from ..gateway.outcome import Cause, outcome_of_error
from ..words import CAUSES, FOR_DEVELOPER, Words

ASKING_ERRORS = (GatewayError, KeyUnreadableError, InvalidApiKeyError, ImproperlyConfigured)
"""The errors that a call to the gateway may raise."""

TRY_AGAIN, ENTER_KEY, RESTART = "", "change", "restart"
"""What fixes the failure: trying again, or the page or button of the license with this name."""


class Failure(NamedTuple):
    """A failed call: `title` is a summary, `words` say what to do, `quote` is what the gateway itself said."""

    title: Words
    words: Words
    quote: str = ""
    help: str = TRY_AGAIN

    @property
    def sentence(self) -> str:
        """The whole failure on one line."""
        told = f"{self.title}. {self.words}"
        if not self.quote:
            return told
        said = gettext("The gateway said: %(words)s") % {"words": self.quote}
        return f"{told} {said}"


_KEY_UNREADABLE = Failure(
    _("Key unreadable"),
    _("No API key is stored, or it cannot be read: the site's own secret key was changed. Enter the API key again."),
    help=ENTER_KEY,
)
_KEY_FOR_ANOTHER_URL = Failure(
    _("Key unreadable"),
    _("The base URL is not the one that the API key was entered for. Enter the API key again."),
    help=ENTER_KEY,
)
_NO_CODE = Failure(
    _("Restart needed"),
    _("The gateway gave no code. Restart its service, then ask for the code again."),
    help=RESTART,
)


def failure_of(error: Exception) -> Failure:
    """Return what to show to the user for one of the `ASKING_ERRORS`."""
    if isinstance(error, KeyForAnotherUrlError):
        return _KEY_FOR_ANOTHER_URL
    if isinstance(error, (KeyUnreadableError, InvalidApiKeyError)):
        return _KEY_UNREADABLE
    if not isinstance(error, GatewayError):
        return _not_set_up(error)
    cause = outcome_of_error(error).cause
    row = CAUSES[cause]
    failure = Failure(row.title, row.asking, help=ENTER_KEY if cause == Cause.UNAUTHORIZED else TRY_AGAIN)
    if isinstance(error, RateLimitedError) and error.retry_after_seconds is not None:
        words = gettext("The gateway was asked too often. Try again in %(count)s seconds.")
        return Failure(row.title, words % {"count": max(round(error.retry_after_seconds), 1)})
    return _with_quote(failure, error)


def failure_of_code(error: Exception) -> Failure:
    """Return what to show if a request for a login code failed: a service that gives no code needs a restart."""
    if isinstance(error, TurnedAwayError) and error.status_code not in (404, 422):
        return failure_of(error)
    if isinstance(error, (BadRequestError, ServerError, UnexpectedAnswerError)):
        return _with_quote(_NO_CODE, error)
    return failure_of(error)


def _with_quote(failure: Failure, error: GatewayError) -> Failure:
    # The texts for a refused key and for a rate limit are complete by themselves; errors of other classes carry no
    # words of the gateway's.
    if not isinstance(error, (BadRequestError, ServerError, TurnedAwayError)):
        return failure
    # An answer without words has the error's own message, which is for developers.
    said = "" if error.said == str(error) else error.said
    quote = "; ".join(filter(None, (said, *error.errors)))
    return Failure(failure.title, failure.words, quote, failure.help)


def _not_set_up(error: Exception) -> Failure:
    if isinstance(error, WebhookAddressError) and error.was_tried:
        hint = gettext(
            "If this site has a single worker, which is busy with this page, or cannot reach its own address "
            "from inside, its developer can register the webhook with a command: %(command)s"
        ) % {"command": "manage.py kpwa webhook set"}
        return Failure(_("A webhook would not arrive"), f"{error} {hint}")
    title = _("A setting is missing")
    if isinstance(error, WebhookAddressError):
        return Failure(title, str(error))
    return Failure(title, str(FOR_DEVELOPER) % {"words": error})
