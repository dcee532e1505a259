"""The policy: what a send's outcome means for its message and its lane. Pure functions, without a database.

`gateway.outcome` says what is known about a call; this module decides what follows from it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.utils import translation

from .. import pace, phone
from ..conf import Settings
from ..gateway import ServiceStatus, SessionStatus, session_trouble_of
from ..gateway.outcome import Cause, Outcome, OutcomeKind, is_restriction, says_not_registered
from ..models import PauseReason, Status
from ..store.results import LaneVerdict, MessageVerdict, Pause

_MAX_FAILURES = 1000
# Words of a refusal that concerns only its recipient, in the two languages in which gateways of this family answer.
_ABOUT_RECIPIENT = re.compile(r"\b(number|phone|recipient|group|jid|msisdn|nomor|nomer|penerima|grup)\b", re.IGNORECASE)


PAUSED_AT_ONCE = {
    Cause.LOGGED_OUT: PauseReason.LOGGED_OUT,
    Cause.RATE_LIMITED: PauseReason.RATE_LIMITED,
    Cause.UNAUTHORIZED: PauseReason.UNAUTHORIZED,
}
"""Causes that concern the license and not the message. A single one pauses the lane.

The message's attempt is refunded, because it was not sent.
"""


@dataclass(frozen=True)
class Circumstances:
    """What the driver knows besides the outcome.

    `attempts_spent`: the message's attempts that count towards `KPWA["MAX_ATTEMPTS"]`, including this one.
    `failures`: the lane's failed sends in a row, before this one.
    `key_version`: the version of the API key that the driver used.
    `pace_seconds`: the license's shortest and longest wait between two messages.
    `session`: the answer to the status check after a 400 or 500; None if no check was made, or if it failed.
    `confirmed_number`: number of the phone that is meant to send, in digits; empty before the first send.
    """

    attempts_spent: int
    failures: int
    key_version: int
    pace_seconds: tuple[float, float]
    session: ServiceStatus | None = None
    confirmed_number: str = field(default="", repr=False)

    @property
    def session_status(self) -> SessionStatus | None:
        """The session's status according to that check; None without one."""
        return self.session.session_status if self.session else None


def judge(outcome: Outcome, known: Circumstances, conf: Settings) -> tuple[Outcome, MessageVerdict, LaneVerdict]:
    """Return the outcome as it has to be recorded, and the verdicts on the message and on the lane.

    The outcome is changed if WhatsApp restricts the number, or if the status check shows that the license was logged
    out.
    """
    is_logged_out = outcome.asks_for_status and known.session_status == SessionStatus.QR
    if is_restriction(outcome, conf.RESTRICTION_MARKS):
        outcome = outcome.because_restricted()
    if is_logged_out:
        outcome = outcome.because_logged_out()
    return outcome, _message(outcome, known, conf), _lane(outcome, known, conf)


def error_words(outcome: Outcome) -> str:
    """Return a text for people about a failure: the gateway's own words, or else the cause in the site's language."""
    return outcome.words or in_sites_language(outcome.cause.label)


def in_sites_language(words: Any) -> str:
    """Return a lazily translated text in the site's language, in which texts are stored."""
    with translation.override(settings.LANGUAGE_CODE):
        return str(words)


def _message(outcome: Outcome, known: Circumstances, conf: Settings) -> MessageVerdict:
    reason, words = outcome.cause.value, outcome.words
    may_try_again = known.attempts_spent < conf.MAX_ATTEMPTS
    if outcome.kind == OutcomeKind.ACCEPTED:
        return MessageVerdict(Status.SENT)
    if outcome.kind == OutcomeKind.IN_DOUBT:
        if reason in conf.RESEND_UNKNOWN and may_try_again:
            # After a logout the message needs no wait of its own, because the lane is paused.
            wait = None if outcome.cause == Cause.LOGGED_OUT else pace.retry(known.attempts_spent, conf)
            return MessageVerdict(Status.QUEUED, reason, words, wait)
        return MessageVerdict(Status.UNKNOWN, reason, words)
    if outcome.cause in PAUSED_AT_ONCE:
        wait = _retry_after(outcome, conf) if outcome.cause == Cause.RATE_LIMITED else None
        return MessageVerdict(Status.QUEUED, reason, words, wait, refunds_attempt=True)
    if outcome.cause == Cause.RESTRICTED:
        # When this is recorded, the wait is replaced by that of the other messages to new customers.
        return MessageVerdict(Status.QUEUED, reason, words, pace.RESTRICTED_SECONDS[0], refunds_attempt=True)
    # A refusal is final only if nothing is known to be wrong with the account, because one that is logged out,
    # restricted or banned may refuse everything. A gateway that refuses every message at present says little about this
    # one either, unless it mentions the recipient.
    is_final = (
        outcome.kind == OutcomeKind.REFUSED
        and known.session is not None
        and session_trouble_of(known.session.word) is None
        and (known.failures == 0 or _is_about_recipient(outcome.words))
    )
    if is_final or not may_try_again:
        return MessageVerdict(Status.FAILED, reason, words)
    wait = pace.retry(known.attempts_spent, conf)
    return MessageVerdict(Status.QUEUED, reason, words, max(wait, _asked(outcome, conf)))


def _is_about_recipient(words: str) -> bool:
    return says_not_registered(words) or _ABOUT_RECIPIENT.search(words) is not None


def _lane(outcome: Outcome, known: Circumstances, conf: Settings) -> LaneVerdict:
    wait = pace.next_send(known.pace_seconds)
    if outcome.kind == OutcomeKind.ACCEPTED:
        return _accepted(outcome, known, wait)
    # Failures of all kinds are counted together. During a deployment a gateway alternates between 502 and 503, and a
    # broken one may answer differently each time.
    failures = min(known.failures + 1, _MAX_FAILURES)
    pause = _pause(outcome, failures, known, conf)
    # A rate limit or a refused license pauses the lane at once. Neither is a failure of the gateway.
    if outcome.kind in (OutcomeKind.RATE_LIMITED, OutcomeKind.LICENSE_REFUSED):
        failures = known.failures
    return LaneVerdict(
        wait,
        failures,
        session_status=known.session_status,
        session_word=known.session.word if known.session else "",
        pause=pause,
        error=error_words(outcome),
    )


def _accepted(outcome: Outcome, known: Circumstances, wait: float) -> LaneVerdict:
    """Return the verdict on the lane after an accepted send.

    Only such an answer contains the linked phone's number. A number that cannot be parsed is ignored.
    """
    number = phone.number_of(outcome.answer.from_number) if outcome.answer else ""
    is_another = number and known.confirmed_number and number != known.confirmed_number
    return LaneVerdict(
        wait,
        session_status=SessionStatus.CONNECTED,
        linked_number=number,
        confirms_number=bool(number) and not known.confirmed_number,
        pause=Pause(PauseReason.NUMBER_CHANGED, None) if is_another else None,
    )


def _pause(outcome: Outcome, failures: int, known: Circumstances, conf: Settings) -> Pause | None:
    words, reason = outcome.words, PAUSED_AT_ONCE.get(outcome.cause)
    if reason == PauseReason.UNAUTHORIZED:
        return Pause(reason, None, words, known.key_version)
    if reason is not None:
        is_asked = reason == PauseReason.RATE_LIMITED
        return Pause(reason, _retry_after(outcome, conf) if is_asked else pace.probe(0, conf), words)
    if failures >= conf.FAILURES_BEFORE_PAUSE:
        wait = pace.probe(failures - conf.FAILURES_BEFORE_PAUSE, conf)
        return Pause(PauseReason.FAILING, max(wait, _asked(outcome, conf)), words)
    return None


def _retry_after(outcome: Outcome, conf: Settings) -> float:
    asked = outcome.retry_after_seconds
    return min(max(conf.RETRY_SECONDS if asked is None else asked, 1.0), pace.MAX_RETRY_AFTER_SECONDS)


def _asked(outcome: Outcome, conf: Settings) -> float:
    return min(outcome.retry_after_seconds or 0.0, pace.MAX_RETRY_AFTER_SECONDS)
