"""Classifies the answer or failure of a send. This table is the only place that decides it.

| what happened | kind | cause |
|---|---|---|
| 200 with a JSON object and a non-empty `result.id` | accepted | |
| no connection: refused, DNS, TLS, connect timeout | not sent | `not_connected` |
| 429 | rate limited | `rate_limited` |
| 400 | refused | `refused` |
| 401 from the first base URL | license refused | `unauthorized` |
| 401 from another base URL: does not count against the key | not sent | `not_connected` |
| a status that means that nothing was done: 403, 413, 521, 503 with a Retry-After | not sent | `turned_away` |
| 500 in the documented shape | in doubt | `server_error` |
| read timeout or total deadline passed, 502, 504 | in doubt | `timeout` |
| reset after the request left, a body cut short | in doubt | `connection_lost` |
| a 400 or 500 that contains a mark of a restriction | not sent | `restricted` |
| any other status, a redirect, a 200 that fits no documented shape | in doubt | `bad_answer` |

`answers.TURNED_AWAY` lists the statuses of `turned_away`. The marks of a restriction are a setting; the caller
checks `is_restriction()`. The causes `worker_lost` (a lease ran out) and `logged_out`
(reported by a status check after a 400 or 500) are added by the caller. They do not change the kind: a message that was
answered with 500 may have been sent, even if the phone is logged out when the status is checked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..exceptions import (
    BadRequestError,
    ConnectionLostError,
    GatewayError,
    GatewayTimeoutError,
    NotConnectedError,
    RateLimitedError,
    ServerError,
    TurnedAwayError,
    UnauthorizedError,
)
from .base import Code, SentMessage


class OutcomeKind(models.TextChoices):
    """What is known about a send. Stored with the attempt."""

    RUNNING = "running", _("running")
    """The attempt's call has not ended. Never the outcome of a send."""
    ACCEPTED = "accepted", _("accepted")
    NOT_SENT = "not_sent", _("not sent")
    RATE_LIMITED = "rate_limited", _("asked to wait")
    REFUSED = "refused", _("refused")
    LICENSE_REFUSED = "license_refused", _("API key refused")
    IN_DOUBT = "in_doubt", _("in doubt")


class Cause(models.TextChoices):
    """Why a send was not accepted. Stored with the attempt and, if it decides the status, with the message."""

    NONE = "", _("none")
    NOT_CONNECTED = "not_connected", _("no connection to the gateway")
    RATE_LIMITED = "rate_limited", _("the gateway asked to wait")
    REFUSED = "refused", _("the gateway refused the message")
    UNAUTHORIZED = "unauthorized", _("the gateway refused the API key")
    TURNED_AWAY = "turned_away", _("rejected before reaching WhatsApp")
    SERVER_ERROR = "server_error", _("the gateway failed")
    TIMEOUT = "timeout", _("no answer in time")
    CONNECTION_LOST = "connection_lost", _("the connection broke")
    BAD_ANSWER = "bad_answer", _("an answer that was not understood")
    WORKER_LOST = "worker_lost", _("the worker stopped while sending")
    LOGGED_OUT = "logged_out", _("WhatsApp was logged out")
    RESTRICTED = "restricted", _("WhatsApp restricts the number")


@dataclass(frozen=True)
class Outcome:
    """A send's outcome. `words` is the gateway's own text, masked, and empty if there was none.

    `answer` is set only if the gateway accepted.
    """

    kind: OutcomeKind
    cause: Cause = Cause.NONE
    status_code: int | None = None
    code: Code = None
    words: str = ""
    retry_after_seconds: float | None = None
    answer: SentMessage | None = None

    @property
    def asks_for_status(self) -> bool:
        """True if the license's status has to be checked: a logged-out license may also answer with 400 or 500."""
        return self.cause in (Cause.REFUSED, Cause.SERVER_ERROR)

    def because_logged_out(self) -> Outcome:
        """Return this outcome with the cause that the license is not linked."""
        return replace(self, cause=Cause.LOGGED_OUT)

    def because_restricted(self) -> Outcome:
        """Return this outcome as a send that WhatsApp rejected because it restricts the number."""
        return replace(self, kind=OutcomeKind.NOT_SENT, cause=Cause.RESTRICTED)


def outcome_of_answer(answer: SentMessage) -> Outcome:
    """Return the outcome of a send that returned."""
    return Outcome(OutcomeKind.ACCEPTED, status_code=200, code=answer.code, words=answer.message, answer=answer)


def outcome_of_error(error: BaseException) -> Outcome:
    """Return the outcome of a send that raised. Any error that does not prove that nothing was sent is in doubt."""
    kind, cause = _classify(error)
    if not isinstance(error, GatewayError):
        return Outcome(kind, cause)
    return Outcome(
        kind,
        cause,
        status_code=error.status_code,
        code=error.code,
        words=_words_and_reasons(error),
        retry_after_seconds=error.retry_after_seconds if isinstance(error, _TELLS_WHEN) else None,
    )


def is_restriction(outcome: Outcome, marks: Sequence[str]) -> bool:
    """True if the answer is a 400 or 500 with one of `marks` in the gateway's words or code."""
    if outcome.status_code not in (400, 500) or outcome.kind == OutcomeKind.ACCEPTED:
        return False
    return has_mark(f"{outcome.words}\n{outcome.code}", marks)


def says_not_registered(words: str) -> bool:
    """True if the gateway's words say that the number has no WhatsApp."""
    return _NOT_REGISTERED.search(words) is not None


def has_mark(said: str, marks: Sequence[str]) -> bool:
    """True if one of `marks` is a whole word of `said`, in any case.

    A word ends at any character but a letter or a digit and, as in `reachoutTimelock`, before a capital. Part of an
    amount (`Rp 463.000`) or a line number (`index.js:463:12`) does not count as a word. Within a mark, dashes,
    underscores and such capitals are equivalent.
    """
    if not marks:
        return False
    either = _DASHES.sub("_", f"{said}\n{_CAMEL_CASE.sub('_', said)}".casefold())
    wanted = "|".join(re.escape(_DASHES.sub("_", mark.casefold())) for mark in marks)
    return re.search(rf"(?<![^\W_]){_NOT_AFTER}(?:{wanted})(?![^\W_]|[.,:]\d)", either) is not None


_NOT_REGISTERED = re.compile(r"not (registered|on whatsapp)|(tidak|belum) terdaftar", re.IGNORECASE)
_CAMEL_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NOT_AFTER = "".join(rf"(?<!{before})" for before in (r"\d[.,]", r"\.[jt]s:", r"\.go:", r"\.py:", r"\.php:", "line "))
_DASHES = re.compile(r"[-\u2010\u2011\u2012\u2013]")


def _words_and_reasons(error: GatewayError) -> str:
    reasons = "; ".join(error.errors)
    return ": ".join(filter(None, (error.said.rstrip("."), reasons))) if reasons else error.said


def _classify(error: BaseException) -> tuple[OutcomeKind, Cause]:
    if isinstance(error, UnauthorizedError):
        if error.from_fallback:
            return OutcomeKind.NOT_SENT, Cause.NOT_CONNECTED
        return OutcomeKind.LICENSE_REFUSED, Cause.UNAUTHORIZED
    for kind_of_error, kind, cause in _TABLE:
        if isinstance(error, kind_of_error):
            return kind, cause
    return OutcomeKind.IN_DOUBT, Cause.BAD_ANSWER


_TELLS_WHEN = (RateLimitedError, TurnedAwayError)
_TABLE: tuple[tuple[type[GatewayError], OutcomeKind, Cause], ...] = (
    (NotConnectedError, OutcomeKind.NOT_SENT, Cause.NOT_CONNECTED),
    (TurnedAwayError, OutcomeKind.NOT_SENT, Cause.TURNED_AWAY),
    (RateLimitedError, OutcomeKind.RATE_LIMITED, Cause.RATE_LIMITED),
    (BadRequestError, OutcomeKind.REFUSED, Cause.REFUSED),
    (ServerError, OutcomeKind.IN_DOUBT, Cause.SERVER_ERROR),
    (GatewayTimeoutError, OutcomeKind.IN_DOUBT, Cause.TIMEOUT),
    (ConnectionLostError, OutcomeKind.IN_DOUBT, Cause.CONNECTION_LOST),
)
