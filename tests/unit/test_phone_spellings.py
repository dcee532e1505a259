"""A field's value is read as one complete number, however it is spelled, or refused with the reason."""

from __future__ import annotations

from decimal import Decimal

import phonenumbers
import pytest
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from django_kpwa import phone
from django_kpwa.exceptions import InvalidPhoneNumberError

NUMBERS = ["081234567890", "0857123456789", "0812345678", "0895612345678"]
"""Mobile numbers of every length in use, as dialled in Indonesia."""


def own(dialled: str) -> str:
    return f"62{dialled[1:]}"


def grouped(digits: str, *sizes: int, by: str) -> str:
    groups, start = [], 0
    for size in sizes:
        groups.append(digits[start : start + size])
        start += size
    return by.join(filter(None, [*groups, digits[start:]]))


def spellings(dialled: str) -> dict[str, None]:
    """Return the ways in which people, programs and address books write one number."""
    rest = dialled[1:]
    found = [dialled, rest, f"62{rest}", f"+62{rest}", f"0062{rest}", f"620{rest}", f"+62 (0) {rest}", f"+62-{rest}"]
    for by in (" ", "-", ".", "\u00a0", "\u2011", "\u2013", "\u2212", "\u202f", " - ", "\u00b7"):
        found += [
            grouped(dialled, 4, 4, by=by),
            grouped(dialled, 3, 4, by=by),
            f"+62{by}{grouped(rest, 3, 4, by=by)}",
            f"62{by}{grouped(rest, 3, 4, by=by)}",
            grouped(rest, 3, 4, by=by),
        ]
    plain = grouped(dialled, 4, 4, by="-")
    found += [f"({dialled[:4]}) {dialled[4:]}", f"({dialled[:4]}){dialled[4:8]}-{dialled[8:]}", f"(+62) {rest}"]
    found += [f"{plain}{after}" for after in (",", ".", ";", " ", "\n", " (WA)", " WA", "(wa)", " [WA]", " (WhatsApp)")]
    found += [f"{plain}{after}" for after in (" (HP)", ", WA", " - WA", "/WA", "\r\n", "\t", "\u200f", "\ufeff", "'")]
    for before in (
        "WA: ",
        "WA ",
        "wa:",
        "WhatsApp: ",
        "No. WA: ",
        "No HP ",
        "HP. ",
        "Telp. ",
        "tlp: ",
        "Hub: ",
        "No: ",
    ):
        found.append(before + plain)
    found += [
        f"{mark}{dialled}" for mark in ("\ufeff", "\u200e", "\u202a", "'", '"', "\u2018", " ", "\u200b", "\u2068")
    ]
    found += [f"\u202a+62 {rest}\u202c", f'"{plain}"', f"\u2066{plain}\u2069", f"{rest[:3]}\u00ad{rest[3:]}"]
    for link in ("wa.me/62", "https://wa.me/62", "http://wa.me/+62", "www.wa.me/62", "WA.me/62", "https://wa.me/0"):
        found += [f"{link}{rest}", f"{link}{rest}/", f"{link}{rest}?text=Halo%201"]
    for host in ("https://api.whatsapp.com/send", "api.whatsapp.com/send/", "https://web.whatsapp.com/send"):
        found += [f"{host}?phone=62{rest}", f"{host}?phone=%2B62{rest}&text=Halo+2&app_absent=0"]
    found += [f"whatsapp://send?phone=62{rest}", f"tel:+62{rest}", f"tel:{dialled}", f"tel:+62-{rest[:3]}-{rest[3:]}"]
    found += [f"TEL:+62{rest}", f"sms:+62{rest}", f"https://wa.me/62{rest}?text=0813 9999 9999"]
    for zero in (0x0660, 0x06F0, 0xFF10, 0x0966):
        found.append("".join(chr(zero + int(digit)) for digit in dialled))
    full_width = {ord(mark): ord(mark) + 0xFEE0 for mark in "0123456789+-()"}
    found += [plain.translate(full_width), f"+62({rest[:3]}){rest[3:]}".translate(full_width)]
    return dict.fromkeys(found)


def reading(typed, **options):
    """Return the number that is read, or the reason for the refusal."""
    try:
        return phone.parse(typed, **options)
    except InvalidPhoneNumberError as error:
        return f"refused: {error}"


@pytest.mark.parametrize("dialled", NUMBERS)
def test_every_spelling_of_a_number_is_that_number(dialled):
    every = spellings(dialled)
    assert len(every) > 115
    assert {spelling: reading(spelling) for spelling in every} == dict.fromkeys(every, own(dialled))


EXAMPLES = [
    (region, kind, phonenumbers.example_number_for_type(region, getattr(PhoneNumberType, kind)))
    for region in sorted(phonenumbers.SUPPORTED_REGIONS)
    for kind in ("MOBILE", "FIXED_LINE")
]
EXAMPLES = [(region, kind, example) for region, kind, example in EXAMPLES if example is not None]


TWO_READINGS = "it can be read as two different numbers; write it with + and its country code."


def e164(number: phonenumbers.PhoneNumber) -> str:
    return phonenumbers.format_number(number, PhoneNumberFormat.E164).lstrip("+")


def test_foreign_numbers_need_their_plus_and_are_never_misread():
    for region, kind, example in EXAMPLES:
        digits = e164(example)
        international = phonenumbers.format_number(example, PhoneNumberFormat.INTERNATIONAL)
        for written in (f"+{digits}", international, f"00{digits}"):
            assert reading(written) == digits, (region, kind, written)
        if region == "ID" or digits.startswith("8"):
            # Digits that begin with 8 are read as an Indonesian mobile without its 0, whatever their country.
            continue
        for bare in (digits, international.lstrip("+")):
            assert reading(bare, region="ID").startswith("refused: "), (region, kind, bare)


def test_each_countrys_own_way_to_write_a_number_is_that_number_there():
    for region, kind, example in EXAMPLES:
        digits = e164(example)
        assert reading(f"+{digits}", region=region) == digits, (region, kind)
        for written in (phonenumbers.format_number(example, PhoneNumberFormat.NATIONAL), digits):
            read = reading(written, region=region)
            may_be_refused = read.startswith("refused: ") and (kind == "FIXED_LINE" or read.endswith(TWO_READINGS))
            assert read == digits or may_be_refused, (region, kind, written)


@pytest.mark.parametrize(
    "typed",
    [
        "65 9123 4567",
        "6591234567",
        "60 12-345 6789",
        "60123456789",
        "1 415 555 2671",
        "4915123456789",
        "21 5000 1234",
        "2150001234",
        "7812345678",
        "91 98765 43210",
        "(21) 50001234",
        "31 612345678",
        "5551234",
        "061812345678901",
    ],
)
def test_bare_digits_that_begin_neither_with_0_nor_8_nor_62_are_refused(typed):
    with pytest.raises(InvalidPhoneNumberError):
        phone.parse(typed)


@pytest.mark.parametrize(
    "typed",
    [
        "6281234567890.0",
        "6281234567890.00",
        "81234567890.0",
        "081234567890,0",
        "6281234567890, 0",
        "0812-3456-7890.0",
        "６２８１２３４５６７８９０．０",
        "6.281.234.567.890,00",
        "812345678.50",
    ],
)
def test_a_spreadsheets_number_is_refused_as_one_with_decimals(typed):
    with pytest.raises(InvalidPhoneNumberError, match="has decimals"):
        phone.parse(typed)


@pytest.mark.parametrize("typed", ["6.28E+12", "6,28123E+12", "6.28123456789e12", "6E12", "6.2812345678901E+12"])
def test_a_number_that_a_spreadsheet_rounded_is_refused_as_that(typed):
    with pytest.raises(InvalidPhoneNumberError, match="rounded"):
        phone.parse(typed)


@pytest.mark.parametrize(
    "typed",
    [
        "081234567890 / 081398765432",
        "081234567890/081398765432",
        "081234567890, 081398765432",
        "081234567890;081398765432",
        "081234567890\n081398765432",
        "081234567890 atau 081398765432",
        "081234567890 081398765432",
        "0812-3456-7890 - 0813-9876-5432",
        "0812 3456 7890 (0813 9876 5432)",
        "+6281234567890+6281398765432",
        "+62 812 3456 7890 & +62 813 9876 5432",
        "WA 081234567890 HP 081398765432",
        "081234567890 a/n Budi 081398765432",
        "081234567890\t081398765432",
        "021-5551234/5551235",
        "021-5551234/35",
        "0812345678/79",
        "081234567890|081398765432",
        "0812 3456 7890 dan 0813 9876 5432",
        "081234567890 / 081398765432 / 085712345678",
        "081234567890\u2028081398765432",
        "+65 9123 4567 / 0812 3456 7890",
    ],
)
def test_two_numbers_in_one_field_are_refused_with_that_reason(typed):
    with pytest.raises(InvalidPhoneNumberError, match="more than one number"):
        phone.parse(typed)


@pytest.mark.parametrize(
    "typed",
    [
        "081234567890 ext. 5",
        "081234567890x5",
        "081234567890;ext=5",
        "tel:081234567890;phone-context=+62",
        "081234567890#5",
        "081234567890\n5",
        "081234567890\t5",
        "081234567890 (5)",
        "081234567890 (12)",
        "Budi 081234567890",
        "081234567890 Budi",
        "0812345678²",
        "08123456789①",
        "WA1: 081234567890",
        "1. 081234567890",
        "wa.me/qr/ABC",
        "wa.me/message/X1",
        "wa.me/",
        "https://wa.me/6281234567890,6281398765432",
        "https://toko.example/6281234567890",
        "081234567890@c.us",
        "081234567890\x00",
        "api.whatsapp.com/send?phone=6281234567890&phone=6281398765432",
        "api.whatsapp.com/send?text=6281234567890",
        "wa.me/81234567890",
        "08123456789O",
        "O81234567890",
        "+62 +62 81234567890",
        "0812345678�",
        "081234567890 81234567891",
    ],
)
def test_nothing_is_left_over_and_nothing_added(typed):
    with pytest.raises(InvalidPhoneNumberError):
        phone.parse(typed)


def test_a_link_to_a_foreign_chat_is_read_by_its_country_code():
    assert phone.parse("https://wa.me/6591234567") == phone.parse("wa.me/+65 9123 4567") == "6591234567"


class Own:
    """A phone number class of the site's own."""

    def __init__(self, number, text="0899 9999 9999"):
        self.as_e164 = number
        self.text = text

    def __str__(self):
        return self.text

    def __repr__(self):
        return f"Own({self.as_e164!r})"


class FieldNumber(phonenumbers.PhoneNumber):
    """Like django-phonenumber-field's class: it keeps the typed text, and shows that text if it is invalid."""

    def __init__(self, raw_input, region="ID"):
        super().__init__(raw_input=raw_input)
        try:
            phonenumbers.parse(raw_input, region, keep_raw_input=True, numobj=self)
        except phonenumbers.NumberParseException:
            pass

    @property
    def as_e164(self):
        return phonenumbers.format_number(self, PhoneNumberFormat.E164)

    def __str__(self):
        return "+62 899 9999 9999"

    def __len__(self):
        return len(str(self))


@pytest.mark.parametrize(
    "number", [Own("+6281234567890"), Own(lambda: "+6281234567890"), FieldNumber("0812 3456 7890")]
)
def test_an_object_that_knows_its_own_number_is_asked_for_it(number):
    assert phone.parse(number) == "6281234567890"
    assert phone.typed(number) == "+6281234567890"


def test_a_number_of_the_library_itself_is_read():
    assert phone.parse(phonenumbers.parse("0812 3456 7890", "ID")) == "6281234567890"


@pytest.mark.parametrize(
    "number",
    [Own(None), Own("0812"), Own("+0812"), FieldNumber("0812"), FieldNumber("budi"), FieldNumber("021 50001234 ext 5")],
)
def test_an_invalid_number_object_is_refused_whatever_its_text(number):
    for read in (phone.parse, phone.typed):
        with pytest.raises(InvalidPhoneNumberError):
            read(number)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        " ",
        "-",
        "--",
        "–",
        "−",
        ".",
        "...",
        "0",
        "00",
        "000",
        "0000000000",
        "0-0",
        "0.0",
        "+",
        "?",
        "/",
        "n/a",
        "N/A",
        "na",
        "nan",
        "None",
        "null",
        "NIL",
        "tidak ada",
        "Tdk ada",
        "belum ada",
        "kosong",
        "x",
        "-\u200b",
        "\ufeff",
        "+62",
        "62",
        "(+62)",
        "\u3000",
        "０",
        "<NA>",
        0,
        0.0,
        Decimal(0),
        float("nan"),
        False,
        Own("", "-"),
        FieldNumber("-"),
    ],
    ids=repr,
)
def test_what_says_that_there_is_no_number_is_none_and_cannot_be_sent_to(value):
    assert phone.typed(value) == ""
    with pytest.raises(InvalidPhoneNumberError):
        phone.parse(value)


@pytest.mark.parametrize("value", ["0812", "628", "1", "budi", "+65", "08", "-1", "0x", "\u00b9", "\ud800", "\x00-"])
def test_what_is_half_a_number_is_not_none(value):
    assert phone.typed(value) == value
    with pytest.raises(InvalidPhoneNumberError):
        phone.parse(value)


@pytest.mark.parametrize(
    "value", [6281234567890.0, 6.28e12, Decimal("6281234567890.0"), Decimal("6.28E+12"), float("inf")]
)
def test_floats_and_decimals_are_refused(value):
    for read in (phone.parse, phone.typed):
        with pytest.raises(InvalidPhoneNumberError):
            read(value)


def test_a_column_of_whole_numbers_is_written_out():
    assert phone.parse(phone.typed(6281234567890)) == phone.parse(phone.typed(81234567890))


def test_no_reason_shows_the_whole_number():
    for typed in ("081234567890 / 081398765432", "6281234567890.0", "081234567890 ext. 5", "65 9123 4567"):
        with pytest.raises(InvalidPhoneNumberError) as refused:
            phone.parse(typed)
        assert "1234567" not in str(refused.value)
