"""Phone numbers: the gateway's own reading, the reading that a shop means, and masks for logs.

The two readings differ where it hurts: the gateway takes `81234567890` for a Japanese number, a cashier means an
Indonesian one. So the outbox sends what `parse()` returns, which the gateway's rule leaves as it is.
"""

from __future__ import annotations

import re
import unicodedata

import phonenumbers
from django.views.decorators.debug import sensitive_variables
from phonenumbers import ValidationResult

from .conf import kpwa_settings
from .exceptions import InvalidPhoneNumberError

MAX_LENGTH = 40
"""Longer input is refused unread: E.164 has 15 digits, the rest would be separators."""

_GATEWAY_DROPS = re.compile(r"[^0-9]")
# What people, and programs that numbers are copied from, write between digits.
_BETWEEN = r"\s+().\-/\u00ad\u2010-\u2015\u2060\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\uff0b"
_NOT_A_NUMBER = re.compile(rf"[^\d{_BETWEEN}]")
_DIGIT_RUN = re.compile(rf"\+?\d(?:[{_BETWEEN}]{{0,5}}\d){{7,}}")
_NUMBER_DOMAINS = ("s.whatsapp.net", "c.us")
_WRITTEN_NUMBER = re.compile(r"\+?[\d\s().\-]{6,30}")
_DEVICE_SUFFIX = re.compile(r"[:.].*")
_LENGTH_REASONS = {
    ValidationResult.TOO_SHORT: "it is too short",
    ValidationResult.TOO_LONG: "it is too long",
    ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "its area code is missing",
    ValidationResult.INVALID_LENGTH: "it has a wrong number of digits",
    ValidationResult.INVALID_COUNTRY_CODE: "its country code does not exist",
}


def gateway_reading(number: str) -> str:
    """Return `number` as the gateway reads it: every character but the digits removed, then a leading 0 made 62."""
    digits = _GATEWAY_DROPS.sub("", number)
    return f"62{digits[1:]}" if digits.startswith("0") else digits


def number_of(value: str) -> str:
    """The digits, with country code, of a number or a JID as gateways of this family write them.

    Empty for what is neither (a group, a `…@lid`, a name).
    """
    local, at, domain = value.strip().partition("@")
    if at:
        if domain.lower() not in _NUMBER_DOMAINS:
            return ""
        local = _DEVICE_SUFFIX.sub("", local)
    if not _WRITTEN_NUMBER.fullmatch(local):
        return ""
    digits = gateway_reading(local)
    return digits if 6 <= len(digits) <= 20 and digits.isascii() else ""


@sensitive_variables()
def parse(number: str, region: str | None = None) -> str:
    """Return the number that a shop in `region` means, as E.164 digits without the plus (`6281234567890`).

    A national number may be typed with or without its 0 and its country code; a foreign one needs `+` (or `00`).
    `region` is an ISO 3166-1 code; None means `KPWA["DEFAULT_REGION"]`. Raises `InvalidPhoneNumberError`, with the
    reason and the number masked, for what cannot be a phone number.
    """
    region = region or kpwa_settings().DEFAULT_REGION
    digits, is_international = _typed_digits(number)
    reason = ""
    for candidate in _candidates(digits, is_international, region):
        try:
            read = phonenumbers.parse(candidate, region)
        except phonenumbers.NumberParseException as error:
            reason = reason or _parse_reason(error)
            continue
        if phonenumbers.is_valid_number(read):
            return phonenumbers.format_number(read, phonenumbers.PhoneNumberFormat.E164).lstrip("+")
        reason = _length_reason(read) or reason
    raise _refused(number, reason or _not_in_use(is_international, region))


def written(number: str) -> str:
    """Digits with the country code as people of `KPWA["DEFAULT_REGION"]` write them, others with their code.

    `0812-3456-7890`, `+60 12-345 6789`; what is no number is returned as it is.
    """
    if not (number.isascii() and number.isdecimal()):
        return number
    try:
        read = phonenumbers.parse(f"+{number}")
    except phonenumbers.NumberParseException:
        return number
    is_ours = read.country_code == phonenumbers.country_code_for_region(kpwa_settings().DEFAULT_REGION)
    kind = phonenumbers.PhoneNumberFormat.NATIONAL if is_ours else phonenumbers.PhoneNumberFormat.INTERNATIONAL
    return phonenumbers.format_number(read, kind)


def mask(number: str) -> str:
    """Return `number` for a log: `62812•••••890`. At least five digits are hidden, of a short one all."""
    digits = "".join(character for character in number if character.isdecimal())
    if len(digits) < 8:
        return "•" * len(digits)
    shown = min(5, len(digits) - 8)
    return f"{digits[:shown]}{'•' * (len(digits) - shown - 3)}{digits[-3:]}"


def mask_numbers(text: str) -> str:
    """Return `text` with everything in it that may be a phone number (8 digits or more, separators or not) masked."""
    return _DIGIT_RUN.sub(lambda found: mask(found.group()), text)


@sensitive_variables()
def _typed_digits(number: str) -> tuple[str, bool]:
    """The ASCII digits typed, and whether `+` or `00` stood before them."""
    if not isinstance(number, str):
        raise InvalidPhoneNumberError(f"A phone number must be text, not {type(number).__name__}.")
    if len(number) > MAX_LENGTH:
        raise InvalidPhoneNumberError(f"A phone number has at most {MAX_LENGTH} characters, not {len(number)}.")
    if not number.strip():
        raise InvalidPhoneNumberError("The phone number is empty.")
    # "0812 or 0813", "0812 ext. 5" and "budi" all have letters; vanity numbers are not worth a wrong recipient.
    if _NOT_A_NUMBER.search(number):
        raise _refused(number, "it has other characters than digits, spaces and + - . / ( )")
    digits = "".join(str(unicodedata.decimal(character)) for character in number if character.isdecimal())
    pluses = number.count("+") + number.count("\uff0b")
    if pluses > 1 or (pluses and not re.match(r"\D*$", re.split(r"[+\uff0b]", number)[0])):
        raise _refused(number, "its + does not stand in front")
    if not digits:
        raise InvalidPhoneNumberError("The phone number has no digits.")
    if not pluses and digits.startswith("00"):
        return digits[2:], True
    return digits, bool(pluses)


def _candidates(digits: str, is_international: bool, region: str) -> list[str]:
    if is_international:
        return [f"+{digits}"]
    # `phonenumbers` reads 62812345678 as an Indonesian landline with the area code 628; a shop means the mobile.
    if digits.startswith(str(phonenumbers.country_code_for_region(region))):
        return [f"+{digits}", digits]
    return [digits]


def _parse_reason(error: phonenumbers.NumberParseException) -> str:
    if error.error_type == phonenumbers.NumberParseException.TOO_LONG:
        return "it is too long"
    if error.error_type == phonenumbers.NumberParseException.INVALID_COUNTRY_CODE:
        return "its country code does not exist"
    return "it is too short"


def _length_reason(read: phonenumbers.PhoneNumber) -> str:
    return _LENGTH_REASONS.get(phonenumbers.is_possible_number_with_reason(read), "")


def _not_in_use(is_international: bool, region: str) -> str:
    if is_international:
        return "no number of that country looks like it"
    return f"no number of {region} looks like it, and a foreign number needs its + and country code"


@sensitive_variables()
def _refused(number: str, reason: str) -> InvalidPhoneNumberError:
    masked = mask(number)
    return InvalidPhoneNumberError(f"{masked or 'This'} is not a phone number: {reason}.")
