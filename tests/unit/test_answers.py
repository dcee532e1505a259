"""What an HTTP answer means, tested without a socket: every documented shape, and many undocumented ones."""

from __future__ import annotations

import datetime
import json
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_kpwa.conf import Settings
from django_kpwa.encryption import Secret
from django_kpwa.exceptions import (
    BadRequestError,
    GatewayError,
    RateLimitedError,
    ServerError,
    UnauthorizedError,
    UnexpectedAnswerError,
)
from django_kpwa.gateway import SessionStatus, SessionTrouble, answers, session_trouble_of
from django_kpwa.gateway.answers import Answer, retry_after_seconds
from django_kpwa.gateway.outcome import is_restriction, outcome_of_error

KEY = "secret-key-4711"


def answer(content=None, status=200, *, body=None, headers=None, path="/openapi/wa/status"):
    body = json.dumps(content).encode() if body is None else body
    return Answer(status, headers or {}, body, path, (Secret(KEY),))


def sent(**result):
    return answer({"message": "OK", "result": {"id": "A1", **result}, "code": 20001})


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("qr", SessionStatus.QR),
        ("connected", SessionStatus.CONNECTED),
        (" Connected\n", SessionStatus.CONNECTED),
        ("ready", SessionStatus.UNKNOWN),
        ("unknown", SessionStatus.UNKNOWN),
        ("phone_offline", SessionStatus.UNKNOWN),
        ("", SessionStatus.UNKNOWN),
    ],
)
def test_a_status_word_that_nobody_documented_is_unknown_and_kept(word, status):
    read = answers.service_status(answer({"message": "OK", "status": word, "code": None}))
    assert read.session_status is status
    assert read.word == word.strip()


TROUBLES = {
    "passkey_required": SessionTrouble.PASSKEY,
    "PassKeyRequire": SessionTrouble.PASSKEY,
    "suspended": SessionTrouble.RESTRICTED,
    "yellowCard": SessionTrouble.RESTRICTED,
    "yellow card": SessionTrouble.RESTRICTED,
    "restricted": SessionTrouble.RESTRICTED,
    "banned": SessionTrouble.BANNED,
    "blocked": SessionTrouble.BANNED,
}


@pytest.mark.parametrize("spell", [str, str.upper, str.lower, str.title, " {}\n".format])
@pytest.mark.parametrize(("word", "trouble"), TROUBLES.items())
@pytest.mark.parametrize("read", [answers.service_status, answers.done])
def test_a_word_that_tells_of_trouble_is_known_in_any_case_kept_and_never_connected(word, trouble, spell, read):
    status = read(answer({"message": "OK", "status": spell(word), "code": None}))
    assert status.session_status is SessionStatus.UNKNOWN
    assert status.word == spell(word).strip()
    assert session_trouble_of(status.word) is trouble


@pytest.mark.parametrize(
    "word", ["", "qr", "connected", "ready", "unknown", "phone_offline", "unrestricted", "not banned", "unblocked"]
)
def test_any_other_word_tells_of_no_trouble(word):
    assert session_trouble_of(word) is None


@pytest.mark.parametrize("content", [{"message": "OK"}, {"status": None}, {"status": 1}, {"status": ["qr"]}])
def test_a_missing_status_is_unexpected_but_not_after_a_restart(content):
    with pytest.raises(UnexpectedAnswerError):
        answers.service_status(answer(content))
    assert answers.done(answer(content)).session_status is SessionStatus.UNKNOWN


@pytest.mark.parametrize("code", [20001, "20001", "OK", None, 0, True, 1.5, [1], {"a": 1}])
def test_a_code_is_kept_as_it_came(code):
    assert answers.webhook_answer(answer({"message": "OK", "code": code})).code == code
    with pytest.raises(BadRequestError) as refused:
        answers.read_object(answer({"message": "no", "code": code}, 400))
    assert refused.value.code == code


def test_a_missing_code_is_none():
    assert answers.webhook_answer(answer({"message": "OK"})).code is None


@pytest.mark.parametrize("is_registered", [None, "true", 1, 0, "", []])
def test_a_registration_that_is_no_boolean_is_unexpected(is_registered):
    with pytest.raises(UnexpectedAnswerError):
        answers.number_check(answer({"message": "OK", "is_registered": is_registered, "code": None}))


@pytest.mark.parametrize(
    "result",
    [
        None,
        {},
        [],
        "A1",
        {"id": None},
        {"id": 0},
        {"id": "0"},
        {"id": " Null "},
        {"id": "undefined"},
        {"id": False},
        {"id": ""},
        {"id": "  "},
        {"id": True},
        {"id": ["A1"]},
        {"id": "x" * 256},
    ],
)
def test_a_send_without_a_usable_id_is_an_unexpected_answer(result):
    with pytest.raises(UnexpectedAnswerError, match="without a message id") as failed:
        answers.sent_message(answer({"message": "queued", "result": result, "code": 7}))
    assert (failed.value.words, failed.value.code, failed.value.status_code) == ("queued", 7, 200)


def test_an_id_may_come_as_a_number():
    assert answers.sent_message(sent(id=123456)).id == "123456"


def test_what_else_a_send_answers_may_be_missing_or_of_any_type():
    read = answers.sent_message(sent(body=None, to=5, media_url={}, created_at=["x"]))
    assert (read.body, read.from_number, read.to, read.media_url, read.created_at) == ("", "", "5", None, "")


def test_texts_of_the_gateway_can_be_stored_in_any_database():
    body = b'{"message": "a\\u0000b\\ud800", "result": {"id": "A\\u00001", "to": "\\udfff62"}, "code": null}'
    read = answers.sent_message(answer(body=body))
    for text in (read.id, read.to, read.message):
        assert "\x00" not in text
        text.encode("utf-8")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"OK"',
        b"42",
        b"<html>",
        b'{"a": 1',
        b'{"status": NaN}',
        b'{"status": Infinity}',
        b'{"code": ' + b"9" * 10_000 + b"}",
        b'{"a":' * 200_000,
        b"[" * 200_000,
        b"\xff\xfe{\x00}\x00",
        b'{"status": "\xff"}',
    ],
    ids=range(14),
)
@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_body_that_is_no_json_object_is_an_unexpected_answer(body, status):
    with pytest.raises(UnexpectedAnswerError) as failed:
        answers.read_object(answer(body=body, status=status))
    assert failed.value.status_code == status


def test_a_byte_order_mark_is_no_harm():
    assert answers.read_object(answer(body=b'\xef\xbb\xbf{"message": "OK"}')) == {"message": "OK"}


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize(
    "content",
    [
        {},
        {"detail": "x"},
        {"message": 5},
        {"message": "", "errors": []},
        {"errors": [{"code": 1}], "error": {"message": "x"}},
    ],
)
def test_a_json_object_of_another_shape_is_an_unexpected_answer(status, content):
    with pytest.raises(UnexpectedAnswerError):
        answers.read_object(answer(content, status))


def test_a_400_gives_its_reasons():
    with pytest.raises(BadRequestError, match="Validation; no number; 5; no text") as refused:
        answers.read_object(answer({"message": "Validation", "errors": ["no number", 5, "no text"], "code": "E"}, 400))
    assert refused.value.errors == ("no number", "5", "no text")
    assert refused.value.words == "Validation"


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize(
    "content",
    [
        {"message": "Bad Request", "errors": [{"code": 463, "message": "x"}]},
        {"message": "Bad Request", "errors": [463]},
        {"message": "Bad Request", "errors": {"account": ["is restricted"]}},
        {"message": "Failed", "error": {"code": "463"}},
        {"message": "Failed", "reason": "reach-out time-lock"},
        {"message": {"error": {"name": "RESTRICT_ALL_COMPANIONS"}}},
        {"detail": [{"msg": "Nomor dibatasi"}]},
        {"code": {"whatsapp": 463}},
    ],
)
def test_a_restriction_is_known_wherever_an_answer_says_it(content, status):
    with pytest.raises(GatewayError) as failed:
        answers.read_object(answer(content, status))
    assert is_restriction(outcome_of_error(failed.value), Settings().RESTRICTION_MARKS)


def test_other_numbers_of_an_error_are_no_code():
    content = {"message": "Failed", "error": {"code": "ECONN", "line": 463, "after": {"ms": 463}}}
    with pytest.raises(ServerError) as failed:
        answers.read_object(answer(content, 500))
    assert failed.value.errors == ("ECONN",)
    assert not is_restriction(outcome_of_error(failed.value), Settings().RESTRICTION_MARKS)


def test_reasons_are_read_no_deeper_than_needed():
    deep = json.loads('{"message": "x", "errors": ' + "[" * 500 + '"463"' + "]" * 500 + "}")
    with pytest.raises(BadRequestError) as refused:
        answers.read_object(answer(deep, 400))
    assert refused.value.errors == ()


def test_a_500_gives_its_error():
    with pytest.raises(ServerError) as failed:
        answers.read_object(answer({"message": "Failed", "error": "session closed", "code": None}, 500))
    assert failed.value.errors == ("session closed",)


def test_a_401_and_a_429_need_no_body():
    with pytest.raises(UnauthorizedError):
        answers.read_object(answer(body=b"<html>", status=401))
    with pytest.raises(RateLimitedError) as limited:
        answers.read_object(answer(body=b"", status=429))
    assert limited.value.retry_after_seconds is None


def test_words_are_bounded_and_printable():
    with pytest.raises(BadRequestError) as refused:
        answers.read_object(answer({"message": "a\x1b[31m\r\n" * 10_000, "errors": ["x" * 9000] * 9000}, 400))
    assert len(refused.value.words) <= 500
    assert len(refused.value.errors) == 20
    assert refused.value.words.isprintable()


def test_no_repr_of_an_answer_shows_what_came():
    shown = repr(answer({"message": f"{KEY} 081234567890"}, path="/openapi/wa/check-number/081234567890"))
    assert KEY not in shown
    assert "1234567890" not in shown
    assert "message" not in repr(answers.read_object(answer({"message": "secret"})))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        (" 7 ", 7),
        ("1.5", 1.5),
        ("99999999999", 86400),
        (None, None),
        ("", None),
        ("-5", None),
        ("1e9", None),
        ("inf", None),
        ("nan", None),
        ("9" * 5000, None),
        ("soon", None),
        ("x" * 5000, None),
        ("Sat, 05 Nov 2016 10:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86400),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("Mon, 99 Foo 2016 99:99:99 GMT", None),
    ],
)
def test_a_retry_after_is_read_within_bounds_and_nonsense_is_none(value, seconds):
    assert retry_after_seconds(value) == seconds


def test_a_retry_after_may_be_a_date():
    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=90)
    assert 80 < retry_after_seconds(format_datetime(later, usegmt=True)) <= 90


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_fields = st.sampled_from(["message", "status", "code", "result", "errors", "error", "qr_string", "is_registered"])


@given(
    st.integers(min_value=100, max_value=999),
    st.binary(max_size=200)
    | st.dictionaries(_fields, _json, max_size=8).map(lambda content: json.dumps(content).encode()),
    st.sampled_from(
        [answers.sent_message, answers.service_status, answers.done, answers.number_check, answers.login_qr]
    ),
)
def test_whatever_comes_is_read_or_a_gateway_error(status, body, read):
    try:
        read(answer(body=body, status=status))
    except GatewayError:
        return
    assert status == 200


@given(st.text(max_size=40))
def test_retry_after_never_raises(value):
    seconds = retry_after_seconds(value)
    assert seconds is None or 0 <= seconds <= 86400
