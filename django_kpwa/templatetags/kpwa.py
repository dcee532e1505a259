"""Filters and tags for the text of a receipt: `{% load kpwa %}`.

    {{ sale.total|rupiah }}                          Rp 1.250.000
    {{ sale.customer_name|wa_bold }}                 *Budi*
    {% struk_line line.name line.total|rupiah %}     Kopi Susu Gula Aren    Rp 18.000

A customer's text could hold WhatsApp's own marks, or a line break that forges a line of the receipt. An invisible
character beside a mark is honoured by some clients only, so marks are replaced by characters that look like them.
Nothing here makes HTML: in an HTML page the results are escaped like any text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

from django import template

STRUK_WIDTH = 32
"""Columns of a thermal printer's 58 mm paper, and of a phone's narrow screen in WhatsApp's monospaced font."""

register = template.Library()

_LOOKALIKES = str.maketrans({"*": "\N{ASTERISK OPERATOR}", "~": "\N{TILDE OPERATOR}", "`": "'"})
_EDGE_UNDERSCORE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
# Of a quote, a list and a numbered list.
_LINE_MARK = re.compile(r"^(?=[^\S\n]*(?:[>-]|\d{1,3}[.)])[^\S\n])", re.MULTILINE)
_LINE_BREAKS = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_WORD_JOINER = "\u2060"
# Controls, and what turns the direction of the text around it.
_UNSEEN = re.compile(r"[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@register.filter
def rupiah(value: object, symbol: str = "Rp") -> str:
    """`1250000` as `Rp 1.250.000`; sen only where there are some (`Rp 12.500,50`), rounded half up.

    Takes integers, Decimals, floats and their text. None and the empty text give an empty text. `symbol=""` leaves it
    out. Raises `ValueError` for what is no amount: a receipt with a wrong total must not go out.
    """
    if value is None or value == "":
        return ""
    try:
        amount = Decimal(str(value)).quantize(Decimal("0.01"), ROUND_HALF_UP)
    except InvalidOperation:
        raise ValueError(f"rupiah: {value!r} is not an amount.") from None
    if not amount.is_finite():
        raise ValueError(f"rupiah: {value!r} is not an amount.")
    whole, _, sen = f"{abs(amount):,.2f}".partition(".")
    shown = whole.replace(",", ".") + (f",{sen}" if sen != "00" else "")
    return f"{'-' if amount < 0 else ''}{symbol}{' ' if symbol else ''}{shown}"


@register.filter
def wa_escape(value: object) -> str:
    """Text whose `*`, `_`, `~`, backticks, marks of quotes and lists format nothing. Underscores within a word stay."""
    text = _LINE_BREAKS.sub("\n", _text(value))
    text = _EDGE_UNDERSCORE.sub("\N{FULLWIDTH LOW LINE}", text.translate(_LOOKALIKES))
    return _LINE_MARK.sub(_WORD_JOINER, text)


@register.filter
def wa_bold(value: object) -> str:
    """The text in bold. WhatsApp's marks do not span lines, so each line has its own."""
    return _marked(value, "*")


@register.filter
def wa_italic(value: object) -> str:
    """The text in italics."""
    return _marked(value, "_")


@register.filter
def wa_strike(value: object) -> str:
    """The text struck through."""
    return _marked(value, "~")


@register.filter
def wa_monospace(value: object) -> str:
    """The text in a monospaced font, as it is but for backticks. May have several lines."""
    text = _LINE_BREAKS.sub("\n", _text(value)).replace("`", "'")
    return f"```{text}```" if text.strip() else ""


@register.simple_tag
def struk_line(left: object, right: object = "", indent: int = 0, width: int = STRUK_WIDTH) -> str:
    """A row of a struk: `left` at the left edge, `right` at the right one, exactly `width` columns.

    What is too long on the left is wrapped, `right` standing in its last row, or in one below where both do not fit.
    Belongs between two ``` of the template, which make WhatsApp's font monospaced.
    """
    rows = [" " * indent + row for row in _wrapped(_row_text(left), width - indent)]
    amounts = [_right(row, width) for row in _wrapped(_row_text(right), width)]
    if rows and amounts:
        gap = width - _columns(rows[-1])
        # Both in one row, where a space is left between them.
        if _columns(amounts[0].lstrip()) < gap:
            rows[-1] += _right(amounts.pop(0).lstrip(), gap)
    return "\n".join(_padded(row, width) for row in rows + amounts) or " " * width


@register.simple_tag
def struk_center(value: object, width: int = STRUK_WIDTH) -> str:
    """The text in the middle of a row of `width` columns, wrapped where it is longer."""
    rows = _wrapped(_row_text(value), width) or [""]
    return "\n".join(_padded(" " * ((width - _columns(row)) // 2) + row, width) for row in rows)


@register.simple_tag
def struk_rule(mark: str = "-", width: int = STRUK_WIDTH) -> str:
    """A line across the struk."""
    return mark * width


def _text(value: object) -> str:
    return "" if value is None else _UNSEEN.sub("", str(value))


def _marked(value: object, mark: str) -> str:
    # A mark beside a space is no mark, so the text is stripped; an escaped line mark would stand inside.
    lines = (line.strip() for line in wa_escape(value).replace(_WORD_JOINER, "").split("\n"))
    return "\n".join(f"{mark}{line}{mark}" if line else "" for line in lines)


def _row_text(value: object) -> str:
    """Text for the inside of a struk: one line, no backtick that would end its font."""
    return " ".join(_LINE_BREAKS.sub(" ", _text(value)).replace("`", "'").split())


def _wrapped(text: str, width: int) -> list[str]:
    rows: list[str] = []
    for word in text.split():
        for piece in _pieces(word, width):
            if rows and _columns(rows[-1]) + 1 + _columns(piece) <= width and piece == word:
                rows[-1] += f" {piece}"
            else:
                rows.append(piece)
    return rows


def _pieces(word: str, width: int) -> Iterator[str]:
    """`word` in pieces of at most `width` columns; a combining mark stays with its letter."""
    piece = ""
    for character in word:
        if piece and _columns(piece) + _columns(character) > width:
            yield piece
            piece = ""
        piece += character
    yield piece


def _right(text: str, width: int) -> str:
    return " " * (width - _columns(text)) + text


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _columns(text))


def _columns(text: str) -> int:
    """How many columns a monospaced font gives `text`: two for East Asian wide characters and emoji, none for marks."""
    return sum(
        0
        if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf")
        else 2
        if unicodedata.east_asian_width(character) in "WF"
        else 1
        for character in text
    )
