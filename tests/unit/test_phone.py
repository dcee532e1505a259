"""Phone numbers: the gateway's documented table, what a shop means by a number, and what logs show."""

from __future__ import annotations

import re
import time

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_kpwa import phone
from django_kpwa.exceptions import InvalidMessageError, InvalidPhoneNumberError


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("081234567890", "6281234567890"),
        ("0812 3456 7890", "6281234567890"),
        ("0812-3456-7890", "6281234567890"),
        ("6281234567890", "6281234567890"),
        ("62812 3456 7890", "6281234567890"),
        ("81234567890", "81234567890"),
        ("812 3456 7890", "81234567890"),
        ("812-3456-7890", "81234567890"),
    ],
)
def test_the_gateways_table_is_read_to_the_letter(typed, read):
    assert phone.gateway_reading(typed) == read


@pytest.mark.parametrize(("typed", "read"), [("", ""), ("budi", ""), ("+62 812", "62812"), ("00812", "620812")])
def test_the_gateway_drops_all_but_digits_and_replaces_one_leading_zero(typed, read):
    assert phone.gateway_reading(typed) == read


@pytest.mark.parametrize(
    "typed",
    [
        "081234567890",
        "81234567890",
        "6281234567890",
        "+62 812 3456 7890",
        "0062812 3456 7890",
        "62081234567890",
        "+62081234567890",
        "+62 (0)812-3456-7890",
        " 0812.3456.7890\n",
        "(0812) 3456/7890",
        "0812–3456–7890",
        "\u200e+62 812 3456 7890\u202c",
        "٠٨١٢٣٤٥٦٧٨٩٠",
        "０８１２－３４５６－７８９０".replace("－", "-"),
        "＋６２８１２３４５６７８９０",
    ],
)
def test_every_spelling_of_an_indonesian_number_is_one_number(typed):
    assert phone.parse(typed) == "6281234567890"


def test_a_short_mobile_number_is_not_a_landline_of_area_628():
    assert phone.parse("62812345678") == phone.parse("0812345678") == "62812345678"


def test_a_landline_is_a_number_too():
    assert phone.parse("021-5000-1234") == "622150001234"


@pytest.mark.parametrize(
    ("typed", "read"),
    [("+1 415 555 2671", "14155552671"), ("001 415 555 2671", "14155552671"), ("+65 8123 4567", "6581234567")],
)
def test_a_foreign_number_is_read_with_its_plus(typed, read):
    assert phone.parse(typed) == read


def test_a_foreign_number_without_its_plus_is_refused_with_that_hint():
    with pytest.raises(InvalidPhoneNumberError, match=r"needs its \+"):
        phone.parse("14155552671")


def test_the_region_decides_what_a_national_number_is(settings):
    assert phone.parse("8123 4567", region="SG") == "6581234567"
    settings.KPWA = {"DEFAULT_REGION": "SG"}
    assert phone.parse("8123 4567") == "6581234567"


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("+", "no digits"),
        ("- ( )", "no digits"),
        ("budi", "characters other than"),
        ("0812 3456 7890 ext 5", "characters other than"),
        ("0812 3456 7890 atau 0813", "characters other than"),
        ("0812345678\x00", "characters other than"),
        ("081234567890#", "characters other than"),
        ("0812", "too short"),
        ("0", "too short"),
        ("62", "too short"),
        ("08123456789012345678", "too long"),
        ("+0812 3456 7890", "country code"),
        ("+999 1234 5678", "country code"),
        ("+14155552671+", "is not at the beginning"),
        ("62+81234567890", "is not at the beginning"),
        ("++6281234567890", "is not at the beginning"),
        ("0840 1234 5678", "does not match any kind"),
        ("+1 000 000 0000", "does not match any kind"),
        ("0" * 41, "at most 40"),
    ],
)
def test_what_cannot_be_a_phone_number_is_refused_with_the_reason(typed, reason):
    with pytest.raises(InvalidPhoneNumberError, match=reason):
        phone.parse(typed)


@pytest.mark.parametrize("given_value", [None, 6281234567890, b"081234567890"])
def test_what_is_no_text_is_refused(given_value):
    with pytest.raises(InvalidPhoneNumberError, match="must be text"):
        phone.parse(given_value)


def test_a_refused_number_is_masked_in_the_error():
    with pytest.raises(InvalidMessageError) as refused:
        phone.parse("08123456789012345678")
    assert "08123••" in str(refused.value)
    assert "6789012345678" not in str(refused.value)


@given(st.text(max_size=60) | st.from_regex(r"[+0-9 .\-()]{0,20}", fullmatch=True))
def test_any_text_is_a_valid_number_or_refused(typed):
    try:
        read = phone.parse(typed)
    except InvalidPhoneNumberError:
        return
    assert re.fullmatch(r"[1-9][0-9]{6,14}", read)
    assert phonenumbers.is_valid_number(phonenumbers.parse(f"+{read}"))


@given(st.integers(min_value=10_000_000, max_value=9_999_999_999))
def test_what_is_sent_is_left_as_it_is_by_the_gateways_rule(subscriber):
    try:
        sent = phone.parse(f"08{subscriber}")
    except InvalidPhoneNumberError:
        return
    assert phone.gateway_reading(sent) == sent


@pytest.mark.parametrize(
    ("number", "masked"),
    [
        ("6281234567890", "62812•••••890"),
        ("0812-3456-7890", "0812•••••890"),
        ("62812345678", "628•••••678"),
        ("12345678", "•••••678"),
        ("1234567", "•••••••"),
        ("٠٨١٢٣٤٥٦٧٨٩٠", "٠٨١٢•••••٨٩٠"),
        ("budi", ""),
        ("", ""),
    ],
)
def test_a_mask_hides_five_digits_at_least(number, masked):
    assert phone.mask(number) == masked


def test_numbers_in_a_text_are_masked_and_the_rest_is_kept():
    text = "to 0812 3456 7890 and +62 812-3456-7890 at 6281234567890@c.us, 2 items, Rp 1.250.000, id 3EB0A1"
    assert phone.mask_numbers(text) == (
        "to 0812•••••890 and 62812•••••890 at 62812•••••890@c.us, 2 items, Rp 1.250.000, id 3EB0A1"
    )


@given(st.text(), st.from_regex(r"[0-9]{8,20}", fullmatch=True))
def test_no_number_of_eight_digits_or_more_survives_masking(text, number):
    assert number not in phone.mask_numbers(f"{text} {number} {text}")


SEPARATORS = st.text(" \u00a0-./()\u2010\u2013\u2060\u200e\u202c", max_size=5)


@given(st.lists(SEPARATORS, min_size=12, max_size=12), st.sampled_from(["", "+", "(+", "No. "]))
def test_a_number_that_is_understood_is_masked_however_it_was_typed(separators, start):
    number = "6281234567890"
    typed = start + "".join(digit + between for digit, between in zip(number, [*separators, ""], strict=True))
    masked = phone.mask_numbers(f"the customer {typed} has no name")
    assert number[5:10] not in re.sub(r"\D", "", masked)


@given(st.text("0123456789 -–()+/.,", max_size=5000))
def test_masking_is_quick_whatever_stands_in_the_text(text):
    began = time.perf_counter()
    phone.mask_numbers(text)
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize(
    ("number", "written"),
    [
        ("6281234567890", "0812-3456-7890"),
        ("622150858877", "(021) 50858877"),
        ("60123456789", "+60 12-345 6789"),
        ("Dapur", "Dapur"),
        ("1800KOPIKU", "1800KOPIKU"),
        ("0", "0"),
        ("", ""),
    ],
)
def test_a_number_is_written_as_people_here_write_it(number, written):
    assert phone.written(number) == written


def test_what_is_written_is_read_as_the_same_number():
    for number in ("6281234567890", "622150858877", "60123456789", "14155552671"):
        assert phone.parse(phone.written(number)) == number


@pytest.mark.parametrize("between", [" ", "-", "/", "\n", " (", " +"])
@pytest.mark.parametrize("number", ["6281234567890", "081234567890", "0812 3456 7890", "62 812-3456-7890"])
def test_a_code_before_a_number_is_not_masked_with_it(between, number):
    masked = phone.mask_numbers(f"error 463{between}{number}")
    assert masked.startswith(f"error 463{between}")
    assert masked.count("•") >= 5
    assert number not in masked


def test_a_number_that_begins_with_three_digits_is_masked_as_one():
    assert phone.mask_numbers("812 3456 7890") == phone.mask("8123456 7890")
    assert phone.mask_numbers("415-555-2671 00") == phone.mask("415555267100")
