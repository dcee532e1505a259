"""Filters and tags for the text of a receipt: `{% load kpwa %}`.

    {{ sale.total|rupiah }}                          Rp 1.250.000
    {{ sale.customer_name|wa_bold }}                 *Budi*
    {% kpwa_late_notice %}                           Sorry, this message comes late. …
    {% struk_line line.name line.total|rupiah %}     Kopi Susu Gula Aren    Rp 18.000

A customer's text may contain WhatsApp's formatting marks, or a line break that forges a line of the receipt. Marks are
replaced by characters that look like them, because an invisible character next to a mark works in some clients only.
Nothing here produces HTML: in an HTML page the results are escaped like any text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from numbers import Integral, Real

from django import template
from django.utils.functional import Promise
from wcwidth import iter_graphemes, wcswidth

from ..receipts.plain_text import take_late_notice

STRUK_WIDTH = 32
"""Number of columns of a thermal printer's 58 mm paper, and of a narrow phone in WhatsApp's monospaced font."""

register = template.Library()

_LOOKALIKES = {"*": "\N{ASTERISK OPERATOR}", "~": "\N{TILDE OPERATOR}", "`": "'", "_": "\N{FULLWIDTH LOW LINE}"}
# Addresses stay unchanged, without the brackets, quotes and marks around them. The length of each part is bounded, and
# e-mail addresses only start at the start of a word, so that matching takes linear time even for a hostile text.
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
    """Format an amount in rupiah: `1250000` as `Rp 1.250.000`, with sen only if they are not zero (`Rp 12.500,50`).

    Args:
        value: A number, its text as Python writes it (`18000`, `18000.00`), or Money in rupiah; rounded half up to two
            decimals. None and the empty text result in an empty text.
        symbol: Written before the amount; `""` leaves it out.

    Raises:
        ValueError: `value` is not an amount, was formatted already (`18.000` would be read as 18), or is in another
            currency. A receipt with a wrong total must not be sent.
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
    """Return the text with `*`, `_`, `~`, backticks and the marks of quotes and lists made ineffective.

    Underscores within a word and addresses (`https://…`, `www.…`, `bit.ly/…`, e-mail) stay unchanged.
    """
    text = _LINE_BREAKS.sub("\n", _text(value))
    text = _TO_ESCAPE.sub(_escaped, text)
    return _LINE_MARK.sub(_WORD_JOINER, text)


@register.filter
def wa_bold(value: object) -> str:
    """Return the escaped text in bold. WhatsApp's marks do not span lines, so each line gets its own."""
    return _marked(value, "*")


@register.filter
def wa_italic(value: object) -> str:
    """Return the escaped text in italics."""
    return _marked(value, "_")


@register.filter
def wa_strike(value: object) -> str:
    """Return the escaped text struck through."""
    return _marked(value, "~")


@register.filter
def wa_monospace(value: object) -> str:
    """Return the text in a monospaced font, unchanged except for backticks. It may have several lines."""
    text = _LINE_BREAKS.sub("\n", _text(value)).replace("`", "'")
    return f"```{text}```" if text.strip() else ""


@register.simple_tag
def struk_line(left: object, right: object = "", indent: int = 0, width: int = STRUK_WIDTH) -> str:
    """Return a row of a struk (till receipt): `left` at the left edge, `right` at the right edge.

    Every row has exactly `width` columns. If `left` is too long, it is wrapped; `right` is in the last row, or in a row
    below if both do not fit. Use it between two lines of three backticks, which make WhatsApp's font monospaced.

    Args:
        indent: Number of columns before `left`.
        width: Number of columns of a row.
    """
    rows = [(" " * indent + row, indent + columns) for row, columns in _wrapped(_row_text(left), width - indent)]
    amounts = _wrapped(_row_text(right), width)
    if rows and amounts:
        (row, columns), (amount, amount_columns) = rows[-1], amounts[0]
        gap = width - columns - amount_columns
        # Both fit into one row only if there is at least one space between them.
        if gap > 0:
            rows[-1] = (f"{row}{' ' * gap}{amount}", width)
            del amounts[0]
    rows += [(" " * (width - columns) + amount, width) for amount, columns in amounts]
    return "\n".join(row + " " * (width - columns) for row, columns in rows) or " " * width


@register.simple_tag
def struk_center(value: object, width: int = STRUK_WIDTH) -> str:
    """Return the text centred in rows of exactly `width` columns, wrapped if it is longer."""
    rows = []
    for row, columns in _wrapped(_row_text(value), width) or [("", 0)]:
        before = (width - columns) // 2
        rows.append(" " * before + row + " " * (width - columns - before))
    return "\n".join(rows)


@register.simple_tag
def struk_rule(mark: str = "-", width: int = STRUK_WIDTH) -> str:
    """Return a line across the struk: `width` times `mark`."""
    return mark * width


@register.simple_tag
def kpwa_late_notice() -> str:
    """Return the line that says that this receipt is late; empty if it is not late, or is a preview.

    Without this tag, the text of a late receipt begins with that line. See `Receipt.get_late_notice()`.
    """
    return take_late_notice()


# A text such as `18.000` is rejected: it was formatted and means eighteen thousand, but Python reads 18. `0.125` and
# `18000.000` are unambiguous.
_PYTHONS_NUMBER = re.compile(
    r"-?(?:(?:0|[1-9][0-9]*)(?:\.(?:[0-9]{1,2}|[0-9]{4,}))?|(?:0|[1-9][0-9]{3,})\.[0-9]{3}|[0-9]+(?:\.[0-9]+)?[eE][+-]?[0-9]{1,3})"
)


def _escaped(found: re.Match[str]) -> str:
    address = found["address"]
    if address is None:
        return _LOOKALIKES[found[0]]
    # The same mark on both sides of an address is formatting, not part of the address.
    if address[-1] in _LOOKALIKES and found.string[max(0, found.start() - 1) : found.start()] == address[-1]:
        return address[:-1] + _LOOKALIKES[address[-1]]
    return address


def _text(value: object) -> str:
    return "" if value is None else _UNSEEN.sub("", str(value))


def _marked(value: object, mark: str) -> str:
    # A mark next to a space has no effect, so each line is stripped. The word joiner of an escaped line mark is not
    # needed: the line begins with `mark`, so the line mark has no effect anyway.
    lines = (line.strip() for line in wa_escape(value).replace(_WORD_JOINER, "").split("\n"))
    return "\n".join(f"{mark}{line}{mark}" if line else "" for line in lines)


def _row_text(value: object) -> str:
    """Return text for a struk: on one line, without backticks, which would end the font, and without soft hyphens."""
    return " ".join(_LINE_BREAKS.sub(" ", _text(value)).replace("`", "'").replace("\u00ad", "").split())


def _amount(value: object) -> Decimal:
    """Return `value` as a number.

    Raises:
        ValueError: It is not a number, was formatted already, or is Money in another currency.
        InvalidOperation: It can't be converted to a Decimal.
    """
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
    """Return `text` in rows of at most `width` columns, each with its number of columns."""
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
    """Yield `word` in pieces of at most `width` columns, each with its number of columns.

    Grapheme clusters are never cut: a letter with its diacritics, an emoji of several code points, a flag.
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
    """Return the width of `text` in a monospaced font: 2 for East Asian wide characters and emoji, 0 for diacritics."""
    return sum(map(_columns_of_one, iter_graphemes(text)))


def _columns_of_one(seen: str) -> int:
    return max(0, wcswidth(seen))
