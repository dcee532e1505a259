"""Filters and tags for the text of a receipt: `{% load kpwa %}`.

    {{ sale.total|rupiah }}                          Rp 1.250.000
    {{ sale.customer_name|wa_bold }}                 *Budi*
    {% struk_line line.name line.total|rupiah %}     Kopi Susu Gula Aren    Rp 18.000

A customer's text may contain WhatsApp's formatting marks, or a line break that forges a line of the receipt. Only some
clients respect an invisible character next to a mark, so marks are replaced by characters that look like them. Nothing
here produces HTML: in an HTML page the results are escaped like any text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from numbers import Integral, Real

from django import template
from django.utils.functional import Promise
from wcwidth import iter_graphemes, wcswidth

STRUK_WIDTH = 32
"""The columns of a thermal printer's 58 mm paper, and of a narrow phone in WhatsApp's monospaced font."""

register = template.Library()

_LOOKALIKES = {"*": "\N{ASTERISK OPERATOR}", "~": "\N{TILDE OPERATOR}", "`": "'", "_": "\N{FULLWIDTH LOW LINE}"}
# Addresses are left as they are, up to the brackets, quotes and marks around them. The length of each part is bounded,
# and e-mail addresses only begin at the beginning of a word, so that a hostile text is read in linear time.
_ADDRESS = (
    r"(?:(?<![^\W_])(?:[a-z][a-z0-9+.\-]{1,20}://|www\.|mailto:)"
    r"|(?<![\w.@/\-])(?:[a-z0-9](?:[a-z0-9\-]{0,62})\.){1,8}[a-z]{2,24}(?::\d{1,5})?[/?#])[^\s<>\"`]*[^\s<>\"`.,;:!?)\]}']"
    r"|(?<![\w.%+\-])(?=[\w.%+\-]{1,64}@)[\w.%+\-]+@[a-z0-9](?:[a-z0-9.\-]{0,252})[a-z0-9]"
)
_TO_ESCAPE = re.compile(rf"(?P<address>{_ADDRESS})|[*~`]|(?<![^\W_])_|_(?![^\W_])", re.IGNORECASE)
# The mark of a quote, a list or a numbered list.
_LINE_MARK = re.compile(r"^(?=[^\S\n]*(?:[>-]|\d{1,3}[.)])[^\S\n])", re.MULTILINE)
_LINE_BREAKS = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_WORD_JOINER = "\u2060"
# Control characters, and those that change the direction of the text around them.
_UNSEEN = re.compile(r"[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@register.filter
def rupiah(value: object, symbol: str = "Rp") -> str:
    """`1250000` as `Rp 1.250.000`; sen only where there are some (`Rp 12.500,50`), rounded half up.

    Takes numbers, their text as Python writes it (`18000`, `18000.00`) and Money in rupiah. None and the empty text
    give an empty text. `symbol=""` leaves the symbol out.

    Raises:
        ValueError: It is not an amount, its text is formatted already (`18.000` would be read as 18), or it is in
            another currency. A receipt with a wrong total must not be sent.
    """
    if value is None or (isinstance(value, str | Promise) and str(value) == ""):
        return ""
    try:
        amount = _amount(value).quantize(Decimal("0.01"), ROUND_HALF_UP)
    except InvalidOperation:
        raise ValueError(f"rupiah: {value!r} is not an amount.") from None
    if not amount.is_finite():
        raise ValueError(f"rupiah: {value!r} is not an amount.")
    whole, _, sen = f"{abs(amount):,.2f}".partition(".")
    shown = whole.replace(",", ".") + (f",{sen}" if sen != "00" else "")
    return f"{'-' if amount < 0 else ''}{symbol}{' ' if symbol else ''}{shown}"


@register.filter
def wa_escape(value: object) -> str:
    """Text in which `*`, `_`, `~`, backticks and the marks of quotes and lists have no effect.

    Underscores within a word and addresses (`https://…`, `www.…`, `bit.ly/…`, e-mail) are left as they are.
    """
    text = _LINE_BREAKS.sub("\n", _text(value))
    text = _TO_ESCAPE.sub(_escaped, text)
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
    """The text in a monospaced font, unchanged except for backticks. It may have several lines."""
    text = _LINE_BREAKS.sub("\n", _text(value)).replace("`", "'")
    return f"```{text}```" if text.strip() else ""


@register.simple_tag
def struk_line(left: object, right: object = "", indent: int = 0, width: int = STRUK_WIDTH) -> str:
    """A row of a struk: `left` at the left edge, `right` at the right one, exactly `width` columns.

    If `left` is too long it is wrapped; `right` is in its last row, or in a row below if both do not fit. Use it
    between two ``` in the template, which make WhatsApp's font monospaced.
    """
    rows = [(" " * indent + row, indent + columns) for row, columns in _wrapped(_row_text(left), width - indent)]
    amounts = _wrapped(_row_text(right), width)
    if rows and amounts:
        (row, columns), (amount, amount_columns) = rows[-1], amounts[0]
        gap = width - columns - amount_columns
        # Both in one row, where a space is left between them.
        if gap > 0:
            rows[-1] = (f"{row}{' ' * gap}{amount}", width)
            del amounts[0]
    rows += [(" " * (width - columns) + amount, width) for amount, columns in amounts]
    return "\n".join(row + " " * (width - columns) for row, columns in rows) or " " * width


@register.simple_tag
def struk_center(value: object, width: int = STRUK_WIDTH) -> str:
    """The text in the middle of a row of `width` columns, wrapped if it is longer."""
    rows = []
    for row, columns in _wrapped(_row_text(value), width) or [("", 0)]:
        before = (width - columns) // 2
        rows.append(" " * before + row + " " * (width - columns - before))
    return "\n".join(rows)


@register.simple_tag
def struk_rule(mark: str = "-", width: int = STRUK_WIDTH) -> str:
    """A line across the struk."""
    return mark * width


# `18.000` means eighteen thousand to whoever formatted it, and 18 to Python; `0.125` and `18000.000` are unambiguous.
_PYTHONS_NUMBER = re.compile(
    r"-?(?:(?:0|[1-9][0-9]*)(?:\.(?:[0-9]{1,2}|[0-9]{4,}))?|(?:0|[1-9][0-9]{3,})\.[0-9]{3}|[0-9]+(?:\.[0-9]+)?[eE][+-]?[0-9]{1,3})"
)


def _escaped(found: re.Match[str]) -> str:
    address = found["address"]
    if address is None:
        return _LOOKALIKES[found[0]]
    # A mark on both sides is formatting, not part of the address.
    if address[-1] in _LOOKALIKES and found.string[max(0, found.start() - 1) : found.start()] == address[-1]:
        return address[:-1] + _LOOKALIKES[address[-1]]
    return address


def _text(value: object) -> str:
    return "" if value is None else _UNSEEN.sub("", str(value))


def _marked(value: object, mark: str) -> str:
    # A mark next to a space has no effect, so the text is stripped; an escaped line mark would be inside it.
    lines = (line.strip() for line in wa_escape(value).replace(_WORD_JOINER, "").split("\n"))
    return "\n".join(f"{mark}{line}{mark}" if line else "" for line in lines)


def _row_text(value: object) -> str:
    """Text for the inside of a struk: one line, no backtick that would end its font, no soft hyphen."""
    return " ".join(_LINE_BREAKS.sub(" ", _text(value)).replace("`", "'").replace("\u00ad", "").split())


def _amount(value: object) -> Decimal:
    """`value` as a number. Raises `ValueError` or `InvalidOperation` if it is not a number."""
    if hasattr(value, "amount") and hasattr(value, "currency"):
        currency = str(getattr(value.currency, "code", value.currency))
        if currency != "IDR":
            raise ValueError(f"rupiah: {value!r} is in {currency}, not in rupiah.")
        value = value.amount
    if isinstance(value, bool):
        raise ValueError(f"rupiah: {value!r} is not an amount.")
    if isinstance(value, Decimal | Integral):
        return Decimal(str(value))
    if isinstance(value, Real):
        return Decimal(repr(float(value)))
    if not isinstance(value, str | Promise):
        raise ValueError(f"rupiah: {value!r} is not an amount.")
    text = str(value)
    if not _PYTHONS_NUMBER.fullmatch(text):
        kind = "was formatted already" if any(map(str.isdigit, text)) else "is not an amount"
        raise ValueError(
            f"rupiah: its input {text!r} {kind}. Give it the number itself, without floatformat, localize or intcomma."
        )
    return Decimal(text)


def _wrapped(text: str, width: int) -> list[tuple[str, int]]:
    """`text` in rows of at most `width` columns, each with its number of columns."""
    rows: list[tuple[list[str], int]] = []
    for word in text.split():
        pieces = list(_pieces(word, width))
        for piece, columns in pieces:
            if rows and len(pieces) == 1 and rows[-1][1] + 1 + columns <= width:
                words, used = rows[-1]
                words.append(piece)
                rows[-1] = (words, used + 1 + columns)
            else:
                rows.append(([piece], columns))
    return [(" ".join(words), columns) for words, columns in rows]


def _pieces(word: str, width: int) -> Iterator[tuple[str, int]]:
    """`word` in pieces of at most `width` columns, each with its number of columns.

    A letter with its diacritics, an emoji of several characters or a flag is never cut.
    """
    piece: list[str] = []
    used = 0
    for seen in iter_graphemes(word):
        columns = _columns_of_one(seen)
        if piece and used + columns > width:
            yield "".join(piece), used
            piece, used = [], 0
        piece.append(seen)
        used += columns
    yield "".join(piece), used


def _columns(text: str) -> int:
    """The columns of `text` in a monospaced font: two for East Asian wide characters and emoji, none for diacritics."""
    return sum(map(_columns_of_one, iter_graphemes(text)))


def _columns_of_one(seen: str) -> int:
    return max(0, wcswidth(seen))
