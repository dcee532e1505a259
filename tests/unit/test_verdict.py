"""The policy of `dispatch.verdict`: how an outcome changes its message and its lane."""

from __future__ import annotations

import pytest

from django_kpwa import pace
from django_kpwa.conf import Settings
from django_kpwa.dispatch.verdict import Circumstances, judge
from django_kpwa.exceptions import (
    BadRequestError,
    ConnectionLostError,
    GatewayTimeoutError,
    NotConnectedError,
    RateLimitedError,
    ServerError,
    TurnedAwayError,
    UnauthorizedError,
    UnexpectedAnswerError,
)
from django_kpwa.gateway import SentMessage, ServiceStatus, SessionStatus
from django_kpwa.gateway.outcome import Cause, Outcome, OutcomeKind, outcome_of_answer, outcome_of_error
from django_kpwa.models import PauseReason, Status
from django_kpwa.store.results import MessageVerdict

READ = Settings()


def judged(error, *, attempts_spent=1, failures=0, session_status=None, read=READ):
    known = Circumstances(attempts_spent, failures, 7, (0.0, 0.0), session_status and ServiceStatus(session_status))
    return judge(outcome_of_error(error), known, read)


def test_accepted_is_sent_and_connects_the_lane_under_its_number():
    known = Circumstances(1, 2, 1, (4.0, 8.0))
    _, message, lane = judge(outcome_of_answer(SentMessage("X1", from_number="6281100000001")), known, READ)
    assert message.status == Status.SENT
    assert (lane.failures, lane.session_status, lane.linked_number) == (0, SessionStatus.CONNECTED, "6281100000001")
    assert 4.0 <= lane.next_send_in_seconds <= 8.0


def accepted_from(number, confirmed=""):
    known = Circumstances(1, 0, 1, (0.0, 0.0), confirmed_number=confirmed)
    return judge(outcome_of_answer(SentMessage("X1", from_number=number)), known, READ)[2]


def test_the_first_number_is_taken_as_the_shops():
    lane = accepted_from("628111000222:12@s.whatsapp.net")
    assert (lane.linked_number, lane.confirms_number, lane.pause) == ("628111000222", True, None)


@pytest.mark.parametrize(
    "spelling",
    ["628111000222", "+62 811-1000-222", "08111000222", "628111000222@c.us", "628111000222:12@s.whatsapp.net"],
)
def test_the_same_number_in_another_spelling_is_the_same(spelling):
    lane = accepted_from(spelling, confirmed="628111000222")
    assert (lane.linked_number, lane.confirms_number, lane.pause) == ("628111000222", False, None)


@pytest.mark.parametrize("unreadable", ["", "Toko Utama", "123456789012345@lid", "12036304@g.us", "null"])
def test_what_cannot_be_read_as_a_number_tells_nothing(unreadable):
    lane = accepted_from(unreadable, confirmed="628111000222")
    assert (lane.linked_number, lane.confirms_number, lane.pause) == ("", False, None)
    assert not accepted_from(unreadable).confirms_number


def test_another_number_pauses_the_lane_until_a_person_ends_it():
    lane = accepted_from("628111000333", confirmed="628111000222")
    assert (lane.pause.reason, lane.pause.seconds) == (PauseReason.NUMBER_CHANGED, None)
    assert (lane.linked_number, lane.confirms_number) == ("628111000333", False)


def test_an_error_is_told_in_the_gateways_words_or_else_by_its_cause():
    assert judged(ServerError("broken", words="Device busy"))[2].error == "Device busy"
    silent = Outcome(OutcomeKind.IN_DOUBT, Cause.TIMEOUT)
    assert judge(silent, Circumstances(1, 0, 1, (0.0, 0.0)), READ)[2].error == "no answer in time"
    assert accepted_from("628111000222").error == ""


def test_no_connection_backs_off_and_fails_at_the_last_attempt():
    waits = [judged(NotConnectedError("refused"), attempts_spent=n)[1].due_in_seconds for n in (1, 2, 3)]
    assert 12 <= waits[0] <= 18
    assert 24 <= waits[1] <= 36
    assert 48 <= waits[2] <= 72
    last = judged(NotConnectedError("refused"), attempts_spent=READ.MAX_ATTEMPTS)[1]
    assert (last.status, last.reason) == (Status.FAILED, "not_connected")


def test_a_429_waits_as_asked_within_bounds_and_spends_no_attempt():
    for asked, wait in ((20.0, 20.0), (None, 15.0), (-5.0, 1.0), (1e9, pace.MAX_RETRY_AFTER_SECONDS)):
        _, message, lane = judged(RateLimitedError("slow", retry_after_seconds=asked))
        assert (message.status, message.refunds_attempt, message.due_in_seconds) == (Status.QUEUED, True, wait)
        assert (lane.pause.reason, lane.pause.seconds) == (PauseReason.RATE_LIMITED, wait)


def test_a_refusal_while_linked_is_final_and_keeps_the_reasons():
    error = BadRequestError("Bad", words="Bad", errors=("number is not registered",))
    _, message, lane = judged(error, session_status=SessionStatus.CONNECTED)
    assert (message.status, message.words) == (Status.FAILED, "Bad: number is not registered")
    assert lane.pause is None


def test_a_refusal_while_logged_out_keeps_the_message_and_pauses_the_lane():
    outcome, message, lane = judged(BadRequestError("Bad"), session_status=SessionStatus.QR)
    assert outcome.cause == Cause.LOGGED_OUT
    assert (message.status, message.refunds_attempt) == (Status.QUEUED, True)
    assert (lane.pause.reason, lane.session_status) == (PauseReason.LOGGED_OUT, SessionStatus.QR)


@pytest.mark.parametrize("word", ["yellowCard", "banned", "passkey_required"])
def test_a_refusal_of_an_account_in_trouble_is_not_final_and_its_word_is_kept(word):
    known = Circumstances(1, 0, 7, (0.0, 0.0), ServiceStatus(SessionStatus.UNKNOWN, word))
    _, message, lane = judge(outcome_of_error(BadRequestError("Bad")), known, READ)
    assert (message.status, lane.session_status, lane.session_word) == (Status.QUEUED, SessionStatus.UNKNOWN, word)


@pytest.mark.parametrize("error", [BadRequestError, ServerError])
@pytest.mark.parametrize("session_status", [None, SessionStatus.CONNECTED, SessionStatus.UNKNOWN])
def test_a_restriction_says_that_nothing_was_sent_and_the_message_waits_a_day(error, session_status):
    said = error("ours", status_code=400 if error is BadRequestError else 500, words="Error 463")
    outcome, message, lane = judged(said, attempts_spent=99, session_status=session_status)
    assert (outcome.kind, outcome.cause) == (OutcomeKind.NOT_SENT, Cause.RESTRICTED)
    assert message == MessageVerdict(Status.QUEUED, "restricted", "Error 463", 86_400.0, refunds_attempt=True)
    assert (lane.failures, lane.pause) == (1, None)
    assert judged(said, failures=2, session_status=session_status)[2].pause.reason == PauseReason.FAILING


def test_a_restriction_is_read_by_the_settings_words():
    said = ServerError("ours", status_code=500, words="nomor sedang dihukum")
    assert judged(said)[1].status == Status.UNKNOWN
    assert judged(said, read=Settings(RESTRICTION_MARKS=("Dihukum",)))[1].reason == "restricted"
    said = ServerError("ours", status_code=500, words="restricted")
    assert judged(said, read=Settings(RESTRICTION_MARKS=()))[1].status == Status.UNKNOWN


@pytest.mark.parametrize(
    "error", [BadRequestError("no", status_code=400, words="463"), ServerError("no", status_code=500, words="463")]
)
def test_a_restriction_of_a_license_that_is_logged_out_waits_for_the_scan_and_is_no_doubt(error):
    outcome, message, lane = judged(error, session_status=SessionStatus.QR)
    assert (outcome.kind, outcome.cause) == (OutcomeKind.NOT_SENT, Cause.LOGGED_OUT)
    assert (message.status, message.due_in_seconds, message.refunds_attempt) == (Status.QUEUED, None, True)
    assert lane.pause.reason == PauseReason.LOGGED_OUT


def test_a_refusal_whose_status_check_failed_is_tried_again():
    message = judged(BadRequestError("Bad"), session_status=None)[1]
    assert (message.status, message.refunds_attempt) == (Status.QUEUED, False)


def test_a_refused_key_keeps_the_message_and_pauses_the_lane():
    _, message, lane = judged(UnauthorizedError("no"))
    assert (message.status, message.refunds_attempt) == (Status.QUEUED, True)
    assert (lane.pause.reason, lane.pause.seconds, lane.pause.key_version) == (PauseReason.UNAUTHORIZED, None, 7)


def test_a_401_from_the_second_address_does_not_count_against_the_key():
    _, message, lane = judged(UnauthorizedError("no", from_fallback=True))
    assert (message.status, message.reason, lane.pause) == (Status.QUEUED, "not_connected", None)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (ServerError("x"), "server_error"),
        (GatewayTimeoutError("x"), "timeout"),
        (ConnectionLostError("x"), "connection_lost"),
        (UnexpectedAnswerError("x"), "bad_answer"),
        (RuntimeError("x"), "bad_answer"),
    ],
)
def test_doubt_waits_for_a_person(error, cause):
    message = judged(error, session_status=SessionStatus.CONNECTED)[1]
    assert (message.status, message.reason) == (Status.UNKNOWN, cause)


def test_a_500_of_a_logged_out_phone_is_in_doubt_and_pauses_the_lane():
    outcome, message, lane = judged(ServerError("x"), session_status=SessionStatus.QR)
    assert (outcome.kind, outcome.cause, message.status) == (OutcomeKind.IN_DOUBT, Cause.LOGGED_OUT, Status.UNKNOWN)
    assert lane.pause.reason == PauseReason.LOGGED_OUT


def test_a_site_may_choose_to_send_that_again_within_the_attempts_allowed():
    read = Settings(RESEND_UNKNOWN=("logged_out",))
    message = judged(ServerError("x"), session_status=SessionStatus.QR, read=read)[1]
    assert (message.status, message.refunds_attempt) == (Status.QUEUED, False)
    last = judged(ServerError("x"), session_status=SessionStatus.QR, attempts_spent=READ.MAX_ATTEMPTS, read=read)[1]
    assert last.status == Status.UNKNOWN


def test_turned_away_is_retried_within_bounds_and_counts_to_a_pause():
    _, message, lane = judged(TurnedAwayError("413"), attempts_spent=1, failures=0)
    assert (message.status, message.reason, message.refunds_attempt) == (Status.QUEUED, "turned_away", False)
    assert 12 <= message.due_in_seconds <= 18
    assert (lane.pause, lane.failures) == (None, 1)
    _, last, lane = judged(TurnedAwayError("413"), attempts_spent=READ.MAX_ATTEMPTS, failures=2)
    assert (last.status, lane.pause.reason) == (Status.FAILED, PauseReason.FAILING)


def test_a_503_with_retry_after_is_retried_then_within_the_bound():
    for asked, wait in ((120.0, 120.0), (1e9, pace.MAX_RETRY_AFTER_SECONDS)):
        _, message, lane = judged(TurnedAwayError("503", retry_after_seconds=asked), failures=2)
        assert (message.due_in_seconds, lane.pause.seconds) == (wait, wait)


def test_a_site_may_choose_to_send_again_after_a_timeout():
    message = judged(GatewayTimeoutError("x"), read=Settings(RESEND_UNKNOWN=("timeout",)))[1]
    assert message.status == Status.QUEUED


def test_the_third_failure_in_a_row_pauses_the_lane_whatever_its_kind():
    failures = 0
    for error in (GatewayTimeoutError("502"), UnexpectedAnswerError("503"), ConnectionLostError("gone")):
        lane = judged(error, failures=failures)[2]
        assert (lane.pause is None) == (failures < 2)
        failures = lane.failures
    assert (failures, lane.pause.reason) == (3, PauseReason.FAILING)


def test_refusals_with_different_words_count_as_one_run():
    failures, statuses = 0, []
    for words in ("quota exceeded", "please try later", "error #4711"):
        error = BadRequestError("400", words=words)
        _, message, lane = judged(error, failures=failures, session_status=SessionStatus.CONNECTED)
        failures = lane.failures
        statuses.append(message.status)
    assert lane.pause.reason == PauseReason.FAILING
    assert statuses == [Status.FAILED, Status.QUEUED, Status.QUEUED]


@pytest.mark.parametrize(
    "words",
    [
        "number is not registered",
        "The recipient does not exist",
        "Nomor tujuan tidak valid",
        "belum terdaftar",
        "no such group",
    ],
)
def test_a_refusal_that_names_the_recipient_is_final_in_a_run_too(words):
    error = BadRequestError("400", words=words)
    assert judged(error, failures=2, session_status=SessionStatus.CONNECTED)[1].status == Status.FAILED


def test_each_fruitless_probe_doubles_the_wait_up_to_a_bound():
    waits = [pace.probe(n, READ) for n in (0, 1, 2, 10, 5000)]
    assert 24 <= waits[0] <= 36
    assert 48 <= waits[1] <= 72
    assert all(wait <= READ.max_probe_seconds * 1.2 for wait in waits)
