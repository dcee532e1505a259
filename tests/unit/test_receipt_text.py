"""A receipt's text: correct amounts, unbroken addresses, columns of the visible width, all in linear time."""

from __future__ import annotations

import random
import string
import time
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

import pytest
from django.contrib.humanize.templatetags.humanize import intcomma
from django.template import Context, Template
from django.utils import translation
from django.utils.functional import SimpleLazyObject, lazystr
from django.utils.safestring import mark_safe

from django_kpwa.templatetags.kpwa import (
    _columns,
    rupiah,
    struk_center,
    struk_line,
    wa_bold,
    wa_escape,
    wa_italic,
    wa_monospace,
    wa_strike,
)


@dataclass
class Currency:
    code: str

    def __str__(self):
        return self.code


@dataclass
class Money:
    """Like django-money's class: an amount and its currency. Its text is formatted for people."""

    amount: Decimal
    currency: object

    def __str__(self):
        return "Rp18.000,00"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("18000", "Rp 18.000"),
        ("18000.00", "Rp 18.000"),
        ("18000.5", "Rp 18.000,50"),
        ("18000.000", "Rp 18.000"),
        ("0.125", "Rp 0,13"),
        ("-18000.25", "-Rp 18.000,25"),
        ("0", "Rp 0"),
        ("1E+5", "Rp 100.000"),
        ("1.25e+16", "Rp 12.500.000.000.000.000"),
        (Decimal("18.000"), "Rp 18"),
        (Decimal("1E+5"), "Rp 100.000"),
        (Fraction(1, 2), "Rp 0,50"),
        (mark_safe("18000"), "Rp 18.000"),
        (lazystr("18000"), "Rp 18.000"),
        (lazystr(""), ""),
        (SimpleLazyObject(lambda: Decimal("18000.00")), "Rp 18.000"),
        (Money(Decimal("18000.00"), Currency("IDR")), "Rp 18.000"),
        (Money(Decimal("18.000"), "IDR"), "Rp 18"),
    ],
)
def test_what_is_unmistakably_an_amount_is_shown_as_it(value, shown):
    assert rupiah(value) == shown


@pytest.mark.parametrize(
    "value",
    [
        "18.000",
        "1.250.000",
        "Rp 18.000",
        "Rp18000",
        "18,000.5",
        "18,000",
        "18.000,50",
        "12,5",
        "18 000",
        "18\xa0000",
        "018000",
        "18000 ",
        "+18000",
        "1_000",
        "١٨٠٠٠",
        "18.000-",
        "IDR 5",
        "18000.",
        ".5",
        "1'250'000",
        "-18.000",
        mark_safe("18.000"),
        lazystr("18.000"),
    ],
)
def test_a_text_that_is_formatted_already_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"rupiah: its input .* was formatted already.*floatformat"):
        rupiah(value)


@pytest.mark.parametrize(
    "value", [True, False, Money(Decimal(5), Currency("USD")), Money(None, "IDR"), [], {}, object(), b"18000", 1j]
)
def test_what_is_no_amount_in_rupiah_is_refused(value):
    with pytest.raises(ValueError, match="rupiah: "):
        rupiah(value)


@pytest.mark.parametrize("language", ["id", "de", "en", "fr", "de-ch", "en-in"])
@pytest.mark.parametrize(
    "before", ["floatformat", "floatformat:3", 'floatformat:"3g"', "localize", "intcomma", "stringformat:'s'"]
)
def test_behind_a_filter_that_formats_the_amount_is_the_same_or_refused(language, before, settings):
    settings.USE_THOUSAND_SEPARATOR = True
    template = Template("{% load kpwa l10n humanize %}{{ amount|" + before + "|rupiah }}", engine=_engine())
    for amount in (18, 999, 18_000, 1_250_000, Decimal("18.5"), Decimal("1250.25"), 18_000.0):
        with translation.override(language):
            shown = refusal = ""
            try:
                shown = template.render(Context({"amount": amount}))
            except ValueError as error:
                refusal = str(error)
        # `floatformat` without an argument rounds to one decimal place.
        right = rupiah(round(amount, 1) if before == "floatformat" else amount)
        assert shown == right or "was formatted already" in refusal, amount


def _engine():
    from django.template import Engine

    return Engine(
        libraries={
            "kpwa": "django_kpwa.templatetags.kpwa",
            "l10n": "django.templatetags.l10n",
            "humanize": "django.contrib.humanize.templatetags.humanize",
        }
    )


def test_an_amount_behind_intcomma_is_refused_in_the_sites_own_language():
    with translation.override("id"), pytest.raises(ValueError, match="intcomma"):
        rupiah(intcomma(18_000))


ADDRESSES = [
    "https://toko.example/_a_/*b*/~c~?d=_e_&f=*",
    "https://toko.example/r/_Zk3_",
    "HTTPS://Toko.Example/_",
    "http://toko.example:8000/~budi/_x",
    "www.toko.example/_a_",
    "wa.me/6281234567890?text=_halo_",
    "bit.ly/_x-_",
    "s.id/*promo",
    "mailto:_budi_@toko.example",
    "_budi_@toko.example",
    "budi_@toko.example",
    "whatsapp://send?phone=6281234567890&text=_",
]


@pytest.mark.parametrize(
    "around", ["{}", "Struk: {}", "({})", "<{}>", '"{}"', "lihat {}, ya", "{}. Terima kasih", "a\n{}\nb"]
)
def test_an_address_stays_whole_wherever_it_stands(around):
    for address in ADDRESSES:
        assert wa_escape(around.format(address)) == around.format(address)


def test_the_text_around_an_address_is_escaped_still():
    assert wa_escape("*_lihat_* https://toko.example/_a_ ~ya~") == "∗＿lihat＿∗ https://toko.example/_a_ ∼ya∼"
    assert wa_escape("*https://toko.example/a*") == "∗https://toko.example/a∗"
    assert wa_escape("_https://toko.example/a_") == "＿https://toko.example/a＿"
    assert wa_escape("- https://toko.example/_a `x`") == "\u2060- https://toko.example/_a 'x'"
    assert wa_escape("x.y_ _z") == "x.y＿ ＿z"


def test_no_random_token_of_an_address_is_changed():
    drawn = random.Random(7)
    for _ in range(5000):
        token = "".join(drawn.choices(string.ascii_letters + string.digits + "-_~", k=drawn.randint(1, 24)))
        for address in (f"https://toko.example/r/{token}", f"www.toko.example/?t={token}", f"s.id/{token}"):
            assert wa_escape(f"Struk Anda: {address}\nTerima kasih") == f"Struk Anda: {address}\nTerima kasih"
        assert wa_bold(f"https://toko.example/{token}") == f"*https://toko.example/{token}*"


FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
FLAG = "\U0001f1ee\U0001f1e9"
SCOTLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"
KEYCAP = "1\ufe0f\u20e3"
THUMB = "\U0001f44d\U0001f3fd"
HEART = "❤\ufe0f"
PIECES = [
    FAMILY,
    FLAG,
    SCOTLAND,
    KEYCAP,
    THUMB,
    HEART,
    "☕",
    "茶",
    "\u1112\u1161\u11ab",
    "e\u0301",
    "a\u0300\u0323\u0489",
    "ก็",
    "x",
]


@pytest.mark.parametrize(
    "piece", [FAMILY, FLAG, SCOTLAND, KEYCAP, THUMB, HEART, "☕", "茶", "\u1112\u1161\u11ab"], ids=ascii
)
def test_an_emoji_of_several_characters_is_two_columns(piece):
    assert struk_line(piece, "8") == piece + " " * 29 + "8"
    assert struk_center(piece, width=6) == f"  {piece}  "


@pytest.mark.parametrize("piece", ["e\u0301", "a\u0300\u0323\u0489", "ก็", "x\u200d", "x\ufe0e"], ids=ascii)
def test_marks_take_no_column(piece):
    assert struk_line(piece, "8") == piece + " " * 30 + "8"


@pytest.mark.parametrize("piece", PIECES, ids=ascii)
@pytest.mark.parametrize("width", [3, 5, 8, 32])
def test_what_is_seen_as_one_is_never_cut(piece, width):
    word = piece * 50
    for rows in (struk_line(word, width=width), struk_center(word, width=width)):
        texts = [row.strip() for row in rows.split("\n")]
        assert "".join(texts) == word
        assert all(text.replace(piece, "") == "" for text in texts)
        assert {_columns(row) for row in rows.split("\n")} == {width}


def test_a_flag_at_the_edge_of_a_row_moves_to_the_next_as_a_whole():
    assert struk_line("abcdefg" + FLAG + "h", width=8).split("\n") == ["abcdefg ", f"{FLAG}h     "]


HOSTILE = {
    "combining marks": "\u0301",
    "marks on a letter": "a\u0301",
    "joiners": "\u200d",
    "joined emoji": "\U0001f469\u200d",
    "half flags": "\U0001f1ee",
    "words without width": "\u0301 ",
    "invisible words": "\u200b ",
    "letters": "a",
    "marks": "*",
    "edges": "_ ",
    "backticks": "`",
    "schemes": "http://",
    "schemes of marks": "http://*",
    "dots": "a.",
    "of mail": "a@",
    "before mail": "a-",
    "lists": "1. ",
    "quotes": ">",
    "blank lines": " \n",
    "line breaks": "\r",
    "jamo": "\u1100",
    "viramas": "\u0915\u094d",
    "prepended": "\u0600",
}


@pytest.mark.parametrize("written", [struk_line, struk_center, wa_escape, wa_bold, wa_italic, wa_strike, wa_monospace])
def test_a_hostile_text_takes_linear_time(written):
    def seconds(unit, length):
        text = unit * (length // len(unit))
        began = time.process_time()
        written(text)
        return time.process_time() - began

    def is_linear(unit):
        # Linear time takes 8 times as long for 8 times the text. Quadratic time would take 64 times as long.
        short, long = seconds(unit, 4_000), seconds(unit, 32_000)
        return long < 24 * max(short, 0.005)

    for name, unit in HOSTILE.items():
        seconds(unit, 1000)
        # Repeated because a garbage collection of the whole run may fall into one measurement.
        assert any(is_linear(unit) for _ in range(3)), name


def test_both_sides_of_a_row_take_linear_time():
    def seconds():
        began = time.process_time()
        struk_line("\u0301" * 8000, "a\u0301" * 8000)
        return time.process_time() - began

    assert min(seconds() for _ in range(3)) < 0.2
