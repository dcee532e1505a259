"""Amounts, marks and columns in the text of a receipt."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from django.template import Context, Template
from hypothesis import given
from hypothesis import strategies as st

from django_kpwa.admin.bubble import wa_html
from django_kpwa.templatetags.kpwa import (
    _columns,
    rupiah,
    struk_center,
    struk_line,
    struk_rule,
    wa_bold,
    wa_escape,
    wa_italic,
    wa_monospace,
    wa_strike,
)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "Rp 0"),
        (999, "Rp 999"),
        (1_250_000, "Rp 1.250.000"),
        (-5000, "-Rp 5.000"),
        (Decimal("12500.50"), "Rp 12.500,50"),
        (Decimal("12500.00"), "Rp 12.500"),
        (12500.5, "Rp 12.500,50"),
        (0.1 + 0.2, "Rp 0,30"),
        (Decimal("0.005"), "Rp 0,01"),
        (Decimal("-0.001"), "Rp 0"),
        ("18000", "Rp 18.000"),
        (10**20, "Rp 100.000.000.000.000.000.000"),
        (None, ""),
        ("", ""),
    ],
)
def test_an_amount_is_shown_as_indonesians_write_it(value, shown):
    assert rupiah(value) == shown


def test_the_symbol_can_be_left_out_or_changed():
    assert rupiah(18_000, "") == "18.000"
    assert rupiah(-18_000, "IDR") == "-IDR 18.000"


@pytest.mark.parametrize("value", ["delapan ribu", float("nan"), float("inf"), Decimal("sNaN"), object()])
def test_what_is_no_amount_raises_rather_than_showing_a_wrong_total(value):
    with pytest.raises(ValueError, match="is not an amount"):
        rupiah(value)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=2) | st.integers() | st.floats(allow_nan=False))
def test_an_amount_that_is_shown_is_the_amount_to_the_sen(value):
    try:
        text = rupiah(value, "")
    except ValueError:
        assert abs(Decimal(str(value))) > 10**20, "an amount that a receipt can have was refused"
        return
    read = Decimal(text.replace(".", "").replace(",", "."))
    assert abs(read - Decimal(str(value))) <= Decimal("0.005")


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("Budi", "*Budi*"),
        ("  Budi  ", "*Budi*"),
        ("Budi *Santoso*", "*Budi ∗Santoso∗*"),
        ("Budi\nSantoso", "*Budi*\n*Santoso*"),
        ("Budi\r\n\r\nSantoso", "*Budi*\n\n*Santoso*"),
        ("", ""),
        (None, ""),
        ("   ", ""),
        (42, "*42*"),
    ],
)
def test_bold_marks_each_line_and_holds_no_other_mark(typed, shown):
    assert wa_bold(typed) == shown


def test_italic_strike_and_monospace_use_whatsapps_marks():
    assert wa_italic("a_b _c_") == "_a_b ＿c＿_"
    assert wa_strike("~lama~") == "~∼lama∼~"
    assert wa_monospace("a ```b``` *c*\n  d") == "```a '''b''' *c*\n  d```"
    assert wa_monospace(" ") == ""


def test_escaping_keeps_underscores_within_words_for_links():
    assert wa_escape("https://toko.example/a_b?c_d=1") == "https://toko.example/a_b?c_d=1"
    assert wa_escape("_miring_ *tebal* ~coret~ `kode`") == "＿miring＿ ∗tebal∗ ∼coret∼ 'kode'"


def test_escaped_text_starts_no_quote_and_no_list():
    assert wa_escape("> kata\n- satu\n5 > 4") == "\u2060> kata\n\u2060- satu\n5 > 4"
    assert wa_escape("1. satu\n 12. dua\n3.000\n\n- x") == "\u20601. satu\n\u2060 12. dua\n3.000\n\n\u2060- x"


def test_controls_and_turns_of_direction_are_dropped():
    assert wa_escape("Bu\x00di\u202e 000.05 pR\u2066\x07") == "Budi 000.05 pR"
    assert wa_escape("a\u2028b\x0bc") == "a\nb\nc"


# Texts that consist mostly of marks: random text seldom has them, but an attacker would try them.
HOSTILE = st.text("*_~`>-1. \n\r\u2028\u2060\u200bab\uff3fé\U0001f64f", max_size=40) | st.text(max_size=40)


def formatting(text: str) -> list[str]:
    """Return the opening and closing elements that WhatsApp's rules make of a text, in order."""
    return re.findall(r"</?(?:strong|em|s|code|pre)>", wa_html(text))


@given(HOSTILE)
def test_escaped_text_is_formatted_nowhere(text):
    assert formatting(wa_escape(text)) == []


@given(HOSTILE, st.sampled_from("*_~"))
def test_escaped_text_leaves_the_templates_own_formatting_as_it_is(text, mark):
    template = f"{mark}Nama{mark}: %s {mark}Total{mark} ```Rp 5``` %s"
    assert formatting(template % (wa_escape(text), wa_escape(text))) == formatting(template % ("Budi", "Budi"))


@pytest.mark.parametrize("marked", [wa_bold, wa_italic, wa_strike])
@given(text=HOSTILE)
def test_marked_text_is_marked_and_no_more_line_by_line(marked, text):
    for line in marked(text).split("\n"):
        assert len(formatting(line)) == (2 if line else 0)


@given(HOSTILE)
def test_monospaced_text_stays_so_to_its_end(text):
    written = f"{wa_monospace(text)} *Total*"
    assert formatting(written) == [*(["<pre>", "</pre>"] if wa_monospace(text) else []), "<strong>", "</strong>"]


@given(HOSTILE, HOSTILE)
def test_a_struk_ends_where_the_template_ends_it(left, right):
    struk = "\n".join(["```", struk_line(left, right), struk_center(left), "```", "*Total*"])
    assert formatting(struk) == ["<pre>", "</pre>", "<strong>", "</strong>"]


@given(st.text(max_size=60), st.sampled_from(["javascript:", "data:text/html,", "HTTPS://", "tel:", "http:/", ""]))
def test_only_http_addresses_become_links_and_none_holds_markup(text, scheme):
    page = wa_html(f"{text} {scheme}{text}")
    for address in re.findall(r'href="([^"]*)"', page):
        assert address.startswith(("http://", "https://"))
    assert re.sub(r"</?(?:strong|em|s|code|pre|a)(?: href=\"[^\"<>]*\"[^<>]*)?>", "", page).count("<") == 0


@given(st.text())
def test_no_text_brings_its_own_marks_into_bold(text):
    for line in wa_bold(text).split("\n"):
        assert line == "" or (line[0] == line[-1] == "*" and not set(line[1:-1]) & set("*~`"))


def test_a_row_has_both_ends_and_32_columns():
    assert struk_line("TOTAL", "Rp 36.000") == "TOTAL                  Rp 36.000"
    assert struk_line("2 x 18.000", "36.000", indent=2) == "  2 x 18.000              36.000"
    assert struk_line("Tunai") == "Tunai" + " " * 27
    assert struk_line("", "36.000") == " " * 26 + "36.000"
    assert struk_line("", "") == " " * 32
    assert struk_line("Teh", "8.000", width=12) == "Teh    8.000"


def test_a_long_name_is_wrapped_and_the_amount_stands_in_its_last_row():
    assert struk_line("Nasi Goreng Kampung Istimewa Pakai Telur", "28.000").split("\n") == [
        "Nasi Goreng Kampung Istimewa    ",
        "Pakai Telur               28.000",
    ]


def test_an_amount_that_does_not_fit_beside_the_name_gets_its_own_row():
    assert struk_line("Nasi Goreng Kampung Istimewa", "28.000").split("\n") == [
        "Nasi Goreng Kampung Istimewa    ",
        "                          28.000",
    ]


def test_a_word_longer_than_the_row_is_cut():
    assert struk_line("x" * 40, "1").split("\n") == ["x" * 32, "x" * 8 + " " * 23 + "1"]


def test_a_customers_text_forges_no_row_and_does_not_end_the_font():
    assert struk_line("Kopi\nTOTAL Rp 0```", "1") == "Kopi TOTAL Rp 0'''             1"


def test_wide_characters_take_two_columns_and_combining_ones_none():
    assert struk_line("茶", "8") == "茶" + " " * 29 + "8"
    assert struk_line("Cafe\u0301", "8") == "Cafe\u0301" + " " * 27 + "8"


# Without spacing marks (Mc): if one begins a word, wcwidth counts it together with the space before it.
ROW_TEXT = st.characters(exclude_categories=("Cs", "Mc"))


@given(st.text(ROW_TEXT, max_size=80), st.text(ROW_TEXT, max_size=50), st.integers(0, 8))
def test_every_row_of_a_struk_is_exactly_as_wide_as_the_paper(left, right, indent):
    assert {_columns(row) for row in struk_line(left, right, indent).split("\n")} == {32}
    assert {_columns(row) for row in struk_center(left).split("\n")} == {32}


def test_a_heading_stands_in_the_middle_and_a_rule_across():
    assert struk_center("KOPI SENJA") == " " * 11 + "KOPI SENJA" + " " * 11
    assert struk_rule() == "-" * 32
    assert struk_rule("=", width=5) == "====="


def test_templates_find_all_of_it_under_one_name():
    template = Template(
        '{% load kpwa %}{% struk_line name total|rupiah width=24 %}|{{ name|wa_bold }}|{% struk_rule "=" width=3 %}'
    )
    assert (
        template.render(Context({"name": "Kopi & Roti", "total": 18_000}, autoescape=False))
        == "Kopi & Roti    Rp 18.000|*Kopi & Roti*|==="
    )


def test_in_a_page_of_html_the_results_are_escaped():
    template = Template("{% load kpwa %}{{ name|wa_bold }}{% struk_center name width=5 %}")
    assert template.render(Context({"name": "<b>"})) == "*&lt;b&gt;* &lt;b&gt; "
