"""The table of outcomes: each error that a send can raise, and what it means for the message."""

from __future__ import annotations

import inspect

import pytest

from django_kpwa import exceptions
from django_kpwa.conf import Settings
from django_kpwa.exceptions import (
    AnsweredError,
    BadRequestError,
    ConnectionLostError,
    GatewayError,
    GatewayTimeoutError,
    NotConnectedError,
    RateLimitedError,
    ServerError,
    TurnedAwayError,
    UnauthorizedError,
    UnexpectedAnswerError,
)
from django_kpwa.gateway import SentMessage
from django_kpwa.gateway.outcome import (
    Cause,
    OutcomeKind,
    has_mark,
    is_restriction,
    outcome_of_answer,
    outcome_of_error,
)
from django_kpwa.phone import mask_numbers

TABLE = [
    (NotConnectedError, OutcomeKind.NOT_SENT, Cause.NOT_CONNECTED),
    (TurnedAwayError, OutcomeKind.NOT_SENT, Cause.TURNED_AWAY),
    (RateLimitedError, OutcomeKind.RATE_LIMITED, Cause.RATE_LIMITED),
    (BadRequestError, OutcomeKind.REFUSED, Cause.REFUSED),
    (UnauthorizedError, OutcomeKind.LICENSE_REFUSED, Cause.UNAUTHORIZED),
    (ServerError, OutcomeKind.IN_DOUBT, Cause.SERVER_ERROR),
    (GatewayTimeoutError, OutcomeKind.IN_DOUBT, Cause.TIMEOUT),
    (ConnectionLostError, OutcomeKind.IN_DOUBT, Cause.CONNECTION_LOST),
    (UnexpectedAnswerError, OutcomeKind.IN_DOUBT, Cause.BAD_ANSWER),
]


@pytest.mark.parametrize(("error", "kind", "cause"), TABLE)
def test_every_error_has_its_row(error, kind, cause):
    outcome = outcome_of_error(error("ours", words="words"))
    assert (outcome.kind, outcome.cause, outcome.words) == (kind, cause, "words")


MARKS = Settings().RESTRICTION_MARKS


@pytest.mark.parametrize(
    ("said", "is_marked"),
    [
        ({"words": "Error 463"}, True),
        ({"words": "error: 463."}, True),
        ({"words": "no", "code": 463}, True),
        ({"words": "no", "code": "REACHOUT_TIMELOCK"}, True),
        ({"words": "no", "errors": ("reach-out time-lock",)}, True),
        ({"words": "reachoutTimelock until Sunday"}, True),
        ({"words": "Your account is RESTRICTED"}, True),
        ({"words": "RESTRICT_ALL_COMPANIONS"}, True),
        ({"words": "Nomor dibatasi oleh WhatsApp"}, True),
        ({"words": "TIME-LOCK"}, True),
        ({"words": "REACH_OUT_TIME_LOCK"}, True),
        ({"words": "reachOut"}, True),
        ({"words": "reach\u2011out"}, True),
        ({"words": "RestrictAllCompanions"}, True),
        ({"words": "restrict-all-companions"}, True),
        ({"words": "account_restricted"}, True),
        ({"words": "(463)"}, True),
        ({"words": "400, 463, reachout"}, True),
        ({"words": "Total Rp 463.000"}, False),
        ({"words": "Total Rp 1.463"}, False),
        ({"words": "463,50"}, False),
        ({"words": "TypeError: x at /app/src/index.js:463:12"}, False),
        ({"words": "(wa.go:463)"}, False),
        ({"words": 'File "send.py", line 463'}, False),
        ({"words": "code:463"}, True),
        ({"words": '{"code":463,"at":1}'}, True),
        ({"words": "E463 463rd 4630"}, False),
        ({"words": "dibatasinya"}, False),
        ({"words": "the words restrict all"}, False),
        ({"words": "please reach out to support"}, False),
        ({"words": "order 14633"}, False),
        ({"words": "unrestricted"}, False),
        ({"words": "restrictions may apply"}, False),
        ({"words": "", "code": None}, False),
        ({"words": "Number not registered", "code": 400}, False),
    ],
)
@pytest.mark.parametrize(
    ("error", "status"), [(BadRequestError, 400), (ServerError, 500), (UnexpectedAnswerError, 500)]
)
def test_a_restriction_is_known_by_whole_words_in_any_case(error, status, said, is_marked):
    outcome = outcome_of_error(error("ours", status_code=status, **said))
    assert is_restriction(outcome, MARKS) is is_marked
    assert not is_restriction(outcome, ())


def test_a_mark_beside_a_number_is_known_after_masking():
    assert has_mark(mask_numbers("463 (6281234567890)"), MARKS)
    assert has_mark(mask_numbers("6281234567890 463"), MARKS)


def test_a_tick_tells_of_a_restriction_by_the_same_words():
    assert has_mark("463: reach-out time-lock", MARKS)
    assert not has_mark("The message could not be delivered.", MARKS)
    assert not has_mark("463", ())


@pytest.mark.parametrize(
    "error",
    [
        TurnedAwayError("ours", status_code=403, words="restricted"),
        UnauthorizedError("ours", status_code=401, words="restricted"),
        GatewayTimeoutError("ours", status_code=504, words="restricted"),
        ConnectionLostError("restricted"),
        ValueError("restricted"),
    ],
)
def test_only_a_400_or_a_500_can_tell_of_a_restriction(error):
    assert not is_restriction(outcome_of_error(error), MARKS)
    assert not is_restriction(outcome_of_answer(SentMessage("A1", message="restricted", code=463)), MARKS)


@pytest.mark.parametrize("error", [error for error, _, _ in TABLE])
def test_only_what_the_gateway_said_is_kept(error):
    assert outcome_of_error(error("ours", words="")).words == ""
    # A site's own gateway class may put the answer only into the exception's message.
    assert outcome_of_error(error("words")).words == ("words" if issubclass(error, AnsweredError) else "")


def test_the_table_has_every_error_of_the_gateway():
    leaves = {
        kind
        for _, kind in inspect.getmembers(exceptions, inspect.isclass)
        if issubclass(kind, GatewayError) and not kind.__subclasses__()
    }
    assert leaves == {error for error, _, _ in TABLE} - {UnexpectedAnswerError}


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(), KeyError("x"), GatewayError("x"), MemoryError()])
def test_whatever_else_is_raised_is_in_doubt(error):
    outcome = outcome_of_error(error)
    assert (outcome.kind, outcome.cause) == (OutcomeKind.IN_DOUBT, Cause.BAD_ANSWER)


def test_the_words_of_a_strange_error_are_not_kept():
    assert outcome_of_error(ValueError("secret")).words == ""


def test_a_401_of_another_base_url_does_not_count_against_the_key():
    outcome = outcome_of_error(UnauthorizedError("no", status_code=401, from_fallback=True))
    assert (outcome.kind, outcome.cause) == (OutcomeKind.NOT_SENT, Cause.NOT_CONNECTED)


@pytest.mark.parametrize("error", [RateLimitedError, TurnedAwayError])
def test_what_says_how_long_to_wait_is_heard(error):
    assert outcome_of_error(error("slow down", retry_after_seconds=7)).retry_after_seconds == 7


def test_status_code_and_reasons_of_a_refusal_are_kept():
    outcome = outcome_of_error(BadRequestError("no", status_code=400, code="E1", errors=("a", "b"), words="Validation"))
    assert (outcome.status_code, outcome.code, outcome.words) == (400, "E1", "Validation: a; b")


def test_an_accepted_message_keeps_its_answer():
    answer = SentMessage(id="A1", message="Sent", code=20001)
    outcome = outcome_of_answer(answer)
    assert (outcome.kind, outcome.cause, outcome.code, outcome.words) == (
        OutcomeKind.ACCEPTED,
        Cause.NONE,
        20001,
        "Sent",
    )
    assert outcome.answer is answer


def test_the_status_is_asked_after_a_400_and_a_500_alone():
    asking = {error for error, _, _ in TABLE if outcome_of_error(error("x")).asks_for_status}
    assert asking == {BadRequestError, ServerError}


def test_a_logged_out_license_changes_the_cause_and_not_the_kind():
    outcome = outcome_of_error(ServerError("x", status_code=500)).because_logged_out()
    assert (outcome.kind, outcome.cause, outcome.status_code) == (OutcomeKind.IN_DOUBT, Cause.LOGGED_OUT, 500)


def test_every_cause_but_those_of_the_driver_comes_from_the_table():
    from_the_table = {cause for _, _, cause in TABLE}
    assert set(Cause) - from_the_table == {Cause.NONE, Cause.WORKER_LOST, Cause.LOGGED_OUT, Cause.RESTRICTED}
