"""Phone numbers: how the gateway reads them, what a shop means by them, and how logs mask them.

The two readings differ: the gateway takes `81234567890` as a number with country code 81 (Japan), while a cashier means
an Indonesian one. So the outbox sends what `parse()` returns, which the gateway's rule leaves unchanged.

A receipt that reaches the wrong person is the worst thing that this package can do. So a field is read as exactly one
number, with all of its digits, or it is refused with a reason. Nothing is guessed and no digit is dropped.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from django.views.decorators.debug import sensitive_variables

from .conf import kpwa_settings
from .exceptions import InvalidPhoneNumberError

# `phonenumbers` is imported in functions: at import, it would be a quarter of what this app adds to a process's start.
if TYPE_CHECKING:
    import phonenumbers

MAX_LENGTH = 40
"""Maximum length of a number with its separators; E.164 has at most 15 digits."""
# Maximum length of a whole field. It is larger, so that a link or label around the number can be read, and a field with
# several numbers is refused for that reason rather than as "too long".
MAX_TYPED = 255

_GATEWAY_DROPS = re.compile(r"[^0-9]")
# Separators that people write between digits, and invisible ones that come along when a number is copied.
_BETWEEN = r"\s+().\-/\u00ad\u2010-\u2015\u2060\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\uff0b"
_DIGIT_RUN = re.compile(rf"\+?\d(?:[{_BETWEEN}]{{0,5}}\d){{7,}}")
_CODE_AND_NUMBER = re.compile(
    rf"((?:[1-9]\d\d[{_BETWEEN}]{{1,5}})+?)(\d{{9,}}|(?:0|62)(?:[{_BETWEEN}]{{0,5}}\d){{8,}})"
)
_NUMBER_DOMAINS = ("s.whatsapp.net", "c.us")
_WRITTEN_NUMBER = re.compile(r"\+?[\d\s().\-]{6,30}")
_DEVICE_SUFFIX = re.compile(r"[:.].*")
_MIN_DIGITS = 7
"""Minimum number of digits for a piece of a field to count as a number of its own; fewer may be part of a number."""

# Replaced in a field before it is read: full-width forms, as keyboards for East Asian scripts write them, and all kinds
# of dashes and dots. NFKC is not used, because it would turn a superscript (a footnote mark) into a digit.
_ASCII_OF = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_ASCII_OF |= dict.fromkeys([*range(0x2010, 0x2016), 0x2212, 0xFE58, 0xFE63], ord("-"))
_ASCII_OF |= dict.fromkeys([0xB7, 0x2022, 0x2024, 0x2027], ord("."))
_USUAL = re.compile(r"\+?(?:[0-9][ -]?){7,14}[0-9]")
_BREAK = re.compile(r"[\n\r\t\v\f\x1c-\x1f\x85\u2028\u2029]")
_LABEL = (
    r"(?:(?:no(?:mor|\.)?|num(?:ber)?|kontak|contact)[\s.:]*)?"
    r"(?:w\.?a\.?|whats\s?app|hp|handphone|ponsel|telp?(?:on|epon)?|tlp|phone|mobile|hub|no|nomor)"
)
_LABEL_BEFORE = re.compile(rf"[(\[]?{_LABEL}[)\]]?(?![a-z])[\s.:=\-/]*(?=[+(\d])", re.IGNORECASE)
_LABEL_AFTER = re.compile(rf"(?<=[\d\s])[\s,;:/\-]*(?:\({_LABEL}\)|\[{_LABEL}\]|{_LABEL})[\s.,;:]*$", re.IGNORECASE)
_CHAT_LINK = re.compile(r"(?:https?://)?(?:www\.)?wa\.me/(?P<number>[^/?#]*)/?(?:[?#].*)?", re.IGNORECASE)
_SEND_LINK = re.compile(
    r"(?:(?:https?://)?(?:(?:api|web|www|chat)\.)?whatsapp\.com/send/?|whatsapp://send/?)\?(?P<query>.*)", re.IGNORECASE
)
_TEL_LINK = re.compile(r"(?:tel|sms|callto):(?://)?", re.IGNORECASE)
_PLAIN = re.compile(r"[\d\s().\-/+]*", re.ASCII)
_HARD_SEPARATOR = re.compile(r"[^\d ().+\-]+")
_DECIMALS = re.compile(r"[^.,]*\d\s*[.,]\s*\d{1,2}|.*[.,]0|.*,\d{1,2}")
_ROUNDED = re.compile(r"\d(?:[.,]\d+)?e[+\-]?\d+", re.IGNORECASE)
_ADDED_IN_PARENTHESES = re.compile(r".*\d[^\d]*\(\s*\d{1,5}\s*\)[^\d]*")
_NO_NUMBER_WORDS = frozenset(
    (
        "n/a",
        "na",
        "nan",
        "nat",
        "<na>",
        "none",
        "null",
        "nil",
        "no",
        "x",
        "xx",
        "xxx",
        "empty",
        "unknown",
        "tidak",
        "tdk",
        "tidakada",
        "tdkada",
        "gakada",
        "gaada",
        "belum",
        "belumada",
        "kosong",
        "tanpanomor",
    )
)


def gateway_reading(number: str) -> str:
    """Return `number` as the gateway reads it: all characters but digits removed, then a leading 0 replaced by 62."""
    digits = _GATEWAY_DROPS.sub("", number)
    return f"62{digits[1:]}" if digits.startswith("0") else digits


def number_of(value: str) -> str:
    """Return the digits, with country code, of a number or a JID as gateways of this family write them.

    Empty for anything else (a group, a `…@lid`, a name).
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
def typed(value: object) -> str:
    """Return the content of a phone number field as text; empty if it means that there is no number.

    That is the case for None, NaN and blanks, for marks and zeros alone (`-`, `.`, `0`, `000`), for `n/a` and similar
    words, and for a bare country code (`+62`). For an object with an attribute `as_e164`, such as
    django-phonenumber-field's numbers, its value is returned. Integers are converted.

    Raises `InvalidPhoneNumberError` for an object whose number is not valid, and for floats and Decimals: a spreadsheet
    that made one may have lost digits.
    """
    import phonenumbers

    if value is None or value is False:
        return ""
    if isinstance(value, phonenumbers.PhoneNumber) or hasattr(value, "as_e164"):
        return _own_number(value)
    text = value if isinstance(value, str) else str(value)
    if _says_none(text):
        return ""
    if isinstance(value, float | Decimal):
        raise _refused(text, "it comes as a number with decimals, which may have lost digits; keep it as text")
    return text.strip()


@sensitive_variables()
def parse(number: object, region: str | None = None) -> str:
    """Return the number that a shop in `region` means, as E.164 digits without the plus (`6281234567890`).

    `number` is text, or an object with `as_e164`. A national number may be written with its 0 or its country code, and
    a mobile number also without either; a foreign number needs `+` (or `00`). Links to a chat (`wa.me/…` and others)
    and labels (`WA: …`, `… (WA)`) are understood. `region` is an ISO 3166-1 code; None means `KPWA["DEFAULT_REGION"]`.

    Raises `InvalidPhoneNumberError`, with the reason and the number masked, if it is not exactly one phone number.
    """
    import phonenumbers

    region = region or kpwa_settings().DEFAULT_REGION
    if isinstance(number, phonenumbers.PhoneNumber) or hasattr(number, "as_e164"):
        number = _own_number(number)
    if not isinstance(number, str):
        raise InvalidPhoneNumberError(f"A phone number must be text, not {type(number).__name__}.")
    if not number.strip():
        raise InvalidPhoneNumberError("The phone number is empty.")
    if len(number) > MAX_TYPED:
        raise InvalidPhoneNumberError(f"A phone number has at most {MAX_LENGTH} characters, not {len(number)}.")
    if _USUAL.fullmatch(number):  # a fast path for most numbers, because a checkout waits for this
        return _read(*_split(number), False, region, number)
    text = _tidied(number)
    if _holds_several(text, region):
        raise _refused(number, "the field contains more than one number; give one")
    text, is_link = _unwrapped(text)
    digits, is_international = _digits_of(text, number, region)
    return _read(digits, is_international, is_link, region, number)


@sensitive_variables()
def national(number: str) -> str:
    """Return `number` (digits with the country code) without the country code, and without a leading 0."""
    import phonenumbers

    try:
        return str(phonenumbers.parse(f"+{number}").national_number)
    except phonenumbers.NumberParseException:
        return number


@sensitive_variables()
def spellings(number: str) -> re.Pattern[str]:
    """Return a pattern that finds `number` (digits with the country code) in any spelling in a text or a JID.

    It finds the number within longer runs of digits as well, and with separators that were escaped for JSON, a form or
    HTML: WhatsApp itself writes numbers with a non-ASCII dash (U+2011).
    """
    own = national(number)
    between = r"(?:[^0-9A-Za-z]|\\u[0-9A-Fa-f]{4}|%[0-9A-Fa-f]{2}|&nbsp;){0,5}"
    code = number.removesuffix(own) if number.endswith(own) else ""
    before = rf"(?:\+?{between.join(code)}{between})?" if code else ""
    return re.compile(rf"{before}{between.join(own)}")


def written(number: str) -> str:
    """Format digits with country code for people: national in `KPWA["DEFAULT_REGION"]`, else international.

    For example `0812-3456-7890` and `+60 12-345 6789`. Anything that is not a number is returned unchanged.
    """
    import phonenumbers

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
    """Return `number` for a log: `62812•••••890`. At least five digits are hidden, and all of a shorter number."""
    digits = "".join(character for character in number if character.isdecimal())
    if len(digits) < 8:
        return "•" * len(digits)
    shown = min(5, len(digits) - 8)
    return f"{digits[:shown]}{'•' * (len(digits) - shown - 3)}{digits[-3:]}"


def mask_numbers(text: str) -> str:
    """Return `text` with everything masked that may be a phone number: 8 digits or more, with or without separators."""
    return _DIGIT_RUN.sub(_masked, text)


@sensitive_variables()
def _masked(found: re.Match[str]) -> str:
    # A code of an error before a number stays: "463 6281234567890" says that WhatsApp restricts the number.
    with_code = _CODE_AND_NUMBER.fullmatch(found.group())
    return with_code[1] + mask(with_code[2]) if with_code else mask(found.group())


@sensitive_variables()
def _own_number(value: object) -> str:
    """The E.164 that a phone number object gives; empty if the object was made from a text that means "no number"."""
    import phonenumbers

    raw = getattr(value, "raw_input", None)
    if isinstance(raw, str) and raw and _says_none(raw):
        return ""
    reason = ""
    if isinstance(value, phonenumbers.PhoneNumber) and not phonenumbers.is_valid_number(value):
        reason = "its PhoneNumber object is not valid"
    elif getattr(value, "extension", None):
        reason = "it has an extension, which cannot receive messages"
    elif isinstance(value, phonenumbers.PhoneNumber):
        return phonenumbers.format_number(value, phonenumbers.PhoneNumberFormat.E164)
    if not reason:
        try:
            own = value.as_e164  # type: ignore[attr-defined]
            own = own() if callable(own) else own
        except Exception:  # a class of the host; its exception may hold the number and is not chained
            own = None
        if isinstance(own, str) and re.fullmatch(r"\+[1-9][0-9]{6,14}", own):
            return own
        if own == "":
            return ""
        reason = "its object has no E.164 form"
    raise _refused(raw if isinstance(raw, str) else "", reason)


def _says_none(text: str) -> bool:
    if _USUAL.fullmatch(text) and text.strip("+0 -"):
        return False
    tidied = _tidied(text).lower()
    if any(character.isalpha() for character in tidied):
        return re.sub(r"[\s.\-()\"'?!]", "", tidied) in _NO_NUMBER_WORDS
    digits = re.sub(r"[^0-9]", "", tidied)
    if not digits.strip("0"):
        return all(character == "0" or unicodedata.category(character)[0] in "PSZ" for character in tidied)
    import phonenumbers

    code = phonenumbers.country_code_for_region(kpwa_settings().DEFAULT_REGION)
    return digits == str(code) and re.fullmatch(r"[+()\s\d.\-]*", tidied) is not None


def _tidied(text: str) -> str:
    """Return `text` with ASCII digits and marks, without invisible characters, surrounding quotes and commas."""
    if not text.isascii():
        text = "".join(
            str(unicodedata.decimal(character))
            if character.isdecimal()
            else " "
            if unicodedata.category(character) == "Zs"
            else character
            for character in text.translate(_ASCII_OF)
            if unicodedata.category(character) != "Cf"
        )
    # The quotes include the apostrophe that makes a spreadsheet keep a number as text.
    return text.strip(" \n\r\t\v\f\x1c\x1d\x1e\x1f\x85\u2028\u2029,;'\"\u2018\u2019\u201c\u201d").rstrip(".:")


def _unwrapped(text: str) -> tuple[str, bool]:
    """Return `text` without the link or labels around its number, and True if it was a link to a chat."""
    chat = _CHAT_LINK.fullmatch(text)
    if chat:
        return chat["number"].replace("%2B", "+").replace("%2b", "+"), True
    send = _SEND_LINK.fullmatch(text)
    if send:
        # In a query, + stands for a space, so a leading one is stripped.
        found = parse_qs(send["query"]).get("phone", [])
        return (found[0].strip() if len(found) == 1 else text), True
    text = _TEL_LINK.sub("", text, count=1) if _TEL_LINK.match(text) else text
    return _LABEL_AFTER.sub("", text[_label_end(text) :]).rstrip(" ,;"), False


def _label_end(text: str) -> int:
    label = _LABEL_BEFORE.match(text)
    return label.end() if label else 0


@sensitive_variables()
def _holds_several(text: str, region: str) -> bool:
    """True if `text` holds several numbers, or one followed by alternative endings (`021-5551234/35`)."""
    if _CHAT_LINK.fullmatch(text) or _SEND_LINK.fullmatch(text):
        return False
    pieces = [piece for piece in _HARD_SEPARATOR.split(text) if sum(map(str.isdigit, piece)) >= _MIN_DIGITS]
    if len(pieces) > 1:
        return True
    head, slash, rest = text.rpartition("/")
    if slash and any(map(str.isdigit, rest)) and _stands_alone(head, region):
        return True
    if sum(map(str.isdigit, text)) <= 15:
        return False
    # A loop instead of `any(…)`: Django's error reports do not hide the variables of functions that a generator
    # expression calls.
    for found in re.finditer(r"\d(?=\D)", text):
        if sum(map(str.isdigit, text[found.end() :])) < _MIN_DIGITS:
            return False
        if _stands_alone(text[: found.end()], region):
            return True
    return False


@sensitive_variables()
def _stands_alone(text: str, region: str) -> bool:
    digits = re.sub(r"\D", "", text)
    if len(digits) < _MIN_DIGITS or len(digits) > 17:
        return False
    try:
        _read(digits, "+" in text, False, region, text)
    except InvalidPhoneNumberError:
        return False
    return True


@sensitive_variables()
def _digits_of(text: str, number: str, region: str) -> tuple[str, bool]:
    """The digits of `text`, and True if `+` or `00` stood before them. `number` is what was typed, for the error.

    Raises `InvalidPhoneNumberError`.
    """
    if len(text) > MAX_LENGTH:
        raise InvalidPhoneNumberError(f"A phone number has at most {MAX_LENGTH} characters, not {len(text)}.")
    if _ROUNDED.fullmatch(text):
        raise _refused(number, "a spreadsheet has rounded it (6.28E+12); format the column as text")
    if any(map(str.isdigit, text)) and _DECIMALS.fullmatch(text):
        raise _refused(number, "it has decimals, as a spreadsheet's numbers do; format the column as text")
    # "0812 or 0813", "0812 ext. 5" and "budi" have letters. So do vanity numbers, which are refused as well: to read
    # them is not worth the risk of a wrong recipient.
    if not _PLAIN.fullmatch(text):
        raise _refused(number, "it has characters other than digits, spaces and + - . / ( )")
    if _BREAK.search(text):
        raise _refused(number, "it spans several lines or cells")
    digits = re.sub(r"\D", "", text)
    if "+" in text and not re.match(r"\D*\+\D*\d[^+]*$", text) and text.strip("+-./() "):
        raise _refused(number, "its + is not at the beginning")
    if text.count("+") > 1:
        raise _refused(number, "its + is not at the beginning")
    if not digits:
        raise InvalidPhoneNumberError("The phone number has no digits.")
    if len(digits) > 9 and _ADDED_IN_PARENTHESES.fullmatch(text):
        raise _refused(number, "digits in parentheses follow it")
    return _split(text)


def _split(text: str) -> tuple[str, bool]:
    digits = re.sub(r"[^0-9]", "", text)
    if "+" not in text and digits.startswith("00") and digits.strip("0"):
        return digits[2:], True
    return digits, "+" in text


@sensitive_variables()
def _read(digits: str, is_international: bool, is_link: bool, region: str, number: str) -> str:
    """The number that `digits` stand for, as E.164 without the plus.

    Raises `InvalidPhoneNumberError` if no number fits, or more than one.
    """
    import phonenumbers

    found: list[str] = []
    reason = ""
    for candidate in _candidates(digits, is_international, is_link, region):
        try:
            read = phonenumbers.parse(candidate, region)
        except phonenumbers.NumberParseException as error:
            reason = reason or _parse_reason(error)
            continue
        if not phonenumbers.is_valid_number(read):
            reason = _length_reason(read) or reason
        elif candidate.startswith("+") or _is_meant_here(candidate, read, region):
            found.append(phonenumbers.format_number(read, phonenumbers.PhoneNumberFormat.E164).lstrip("+"))
    if len(set(found)) > 1:
        raise _refused(number, "it can be read as two different numbers; write it with + and its country code")
    if not found:
        raise _refused(number, reason or _not_in_use(is_international, region))
    return found[0]


def _candidates(digits: str, is_international: bool, is_link: bool, region: str) -> list[str]:
    """The possible readings of the digits: `+…` for digits with a country code, else a number of `region`."""
    import phonenumbers

    if is_international:
        return [f"+{digits}"]
    # `phonenumbers` reads 62812345678 as an Indonesian landline with the area code 628; a shop means the mobile.
    code = str(phonenumbers.country_code_for_region(region))
    # The number in a link to a chat has its country code and no plus. People also write national numbers there.
    is_with_code = digits.startswith(code) or (is_link and not digits.startswith("0"))
    return [f"+{digits}", digits] if is_with_code else [digits]


def _is_meant_here(digits: str, read: phonenumbers.PhoneNumber, region: str) -> bool:
    """True if a person in `region` would write this number in this way.

    With the trunk prefix (0 in most countries), that is any number. Without it, only mobile numbers: nobody writes a
    landline with its area code like that, so it is more likely a foreign number whose + was forgotten. In regions
    without a trunk prefix, it is any number.
    """
    import phonenumbers

    if read.country_code != phonenumbers.country_code_for_region(region):
        return False
    metadata = phonenumbers.PhoneMetadata.metadata_for_region(region)
    trunk = metadata.national_prefix if metadata else None
    if trunk is None or digits.startswith(trunk):
        return True
    kind = phonenumbers.PhoneNumberType
    return phonenumbers.number_type(read) in (kind.MOBILE, kind.FIXED_LINE_OR_MOBILE)


def _parse_reason(error: phonenumbers.NumberParseException) -> str:
    import phonenumbers

    if error.error_type == phonenumbers.NumberParseException.TOO_LONG:
        return "it is too long"
    if error.error_type == phonenumbers.NumberParseException.INVALID_COUNTRY_CODE:
        return "its country code does not exist"
    return "it is too short"


def _length_reason(read: phonenumbers.PhoneNumber) -> str:
    import phonenumbers

    result = phonenumbers.ValidationResult
    reasons = {
        result.TOO_SHORT: "it is too short",
        result.TOO_LONG: "it is too long",
        result.IS_POSSIBLE_LOCAL_ONLY: "its area code is missing",
        result.INVALID_LENGTH: "it has a wrong number of digits",
        result.INVALID_COUNTRY_CODE: "its country code does not exist",
    }
    return reasons.get(phonenumbers.is_possible_number_with_reason(read), "")


def _not_in_use(is_international: bool, region: str) -> str:
    if is_international:
        return "it does not match any kind of number of that country"
    return f"it does not match any kind of number of {region}, and a foreign number needs its + and country code"


@sensitive_variables()
def _refused(number: str, reason: str) -> InvalidPhoneNumberError:
    masked = mask(number)
    return InvalidPhoneNumberError(f"{masked or 'This'} is not a phone number: {reason}.")
