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
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from numbers import Integral, Real

from django import template
from django.utils.functional import Promise
from wcwidth import iter_graphemes, wcswidth

STRUK_WIDTH = 32
"""Columns of a thermal printer's 58 mm paper, and of a phone's narrow screen in WhatsApp's monospaced font."""

register = template.Library()

_LOOKALIKES = {"*": "\N{ASTERISK OPERATOR}", "~": "\N{TILDE OPERATOR}", "`": "'", "_": "\N{FULLWIDTH LOW LINE}"}
# Addresses stay whole, up to the brackets, quotes and marks around them. The reach of each part is bounded, and an
# address of mail is looked for at the beginning of a word alone, so that a hostile text is read in linear time.
_ADDRESS = (
    r"(?:(?<![^\W_])(?:[a-z][a-z0-9+.\-]{1,20}://|www\.|mailto:)"
    r"|(?<![\w.@/\-])(?:[a-z0-9](?:[a-z0-9\-]{0,62})\.){1,8}[a-z]{2,24}(?::\d{1,5})?[/?#])[^\s<>\"`]*[^\s<>\"`.,;:!?)\]}']"
    r"|(?<![\w.%+\-])(?=[\w.%+\-]{1,64}@)[\w.%+\-]+@[a-z0-9](?:[a-z0-9.\-]{0,252})[a-z0-9]"
)
_TO_ESCAPE = re.compile(rf"(?P<address>{_ADDRESS})|[*~`]|(?<![^\W_])_|_(?![^\W_])", re.IGNORECASE)
# Of a quote, a list and a numbered list.
_LINE_MARK = re.compile(r"^(?=[^\S\n]*(?:[>-]|\d{1,3}[.)])[^\S\n])", re.MULTILINE)
_LINE_BREAKS = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_WORD_JOINER = "\u2060"
# Controls, and what turns the direction of the text around it.
_UNSEEN = re.compile(r"[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@register.filter
def rupiah(value: object, symbol: str = "Rp") -> str:
    """`1250000` as `Rp 1.250.000`; sen only where there are some (`Rp 12.500,50`), rounded half up.

    Takes numbers, their text as Python writes it (`18000`, `18000.00`) and Money in rupiah. None and the empty text
    give an empty text. `symbol=""` leaves it out. Raises `ValueError` for what is no amount, for text that was
    formatted already (`18.000` would be 18) and for another currency: a receipt with a wrong total must not go out.
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
    """Text whose `*`, `_`, `~`, backticks, marks of quotes and lists format nothing.

    Underscores within a word stay, and addresses (`https://…`, `www.…`, `bit.ly/…`, of mail) are left whole.
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
    """The text in a monospaced font, as it is but for backticks. May have several lines."""
    text = _LINE_BREAKS.sub("\n", _text(value)).replace("`", "'")
    return f"```{text}```" if text.strip() else ""


@register.simple_tag
def struk_line(left: object, right: object = "", indent: int = 0, width: int = STRUK_WIDTH) -> str:
    """A row of a struk: `left` at the left edge, `right` at the right one, exactly `width` columns.

    What is too long on the left is wrapped, `right` standing in its last row, or in one below where both do not fit.
    Belongs between two ``` of the template, which make WhatsApp's font monospaced.
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
    """The text in the middle of a row of `width` columns, wrapped where it is longer."""
    rows = []
    for row, columns in _wrapped(_row_text(value), width) or [("", 0)]:
        before = (width - columns) // 2
        rows.append(" " * before + row + " " * (width - columns - before))
    return "\n".join(rows)


@register.simple_tag
def struk_rule(mark: str = "-", width: int = STRUK_WIDTH) -> str:
    """A line across the struk."""
    return mark * width


# `18.000` is eighteen thousand to whoever formatted it, and 18 to Python; `0.125` and `18000.000` are what they seem.
_PYTHONS_NUMBER = re.compile(
    r"-?(?:(?:0|[1-9][0-9]*)(?:\.(?:[0-9]{1,2}|[0-9]{4,}))?|(?:0|[1-9][0-9]{3,})\.[0-9]{3}|[0-9]+(?:\.[0-9]+)?[eE][+-]?[0-9]{1,3})"
)


def _escaped(found: re.Match[str]) -> str:
    address = found["address"]
    if address is None:
        return _LOOKALIKES[found[0]]
    # A mark on either side is formatting, and none of the address.
    if address[-1] in _LOOKALIKES and found.string[max(0, found.start() - 1) : found.start()] == address[-1]:
        return address[:-1] + _LOOKALIKES[address[-1]]
    return address


def _text(value: object) -> str:
    return "" if value is None else _UNSEEN.sub("", str(value))


def _marked(value: object, mark: str) -> str:
    # A mark beside a space is no mark, so the text is stripped; an escaped line mark would stand inside.
    lines = (line.strip() for line in wa_escape(value).replace(_WORD_JOINER, "").split("\n"))
    return "\n".join(f"{mark}{line}{mark}" if line else "" for line in lines)


def _row_text(value: object) -> str:
    """Text for the inside of a struk: one line, no backtick that would end its font, no soft hyphen."""
    return " ".join(_LINE_BREAKS.sub(" ", _text(value)).replace("`", "'").replace("\u00ad", "").split())


def _amount(value: object) -> Decimal:
    """The number that `value` is. Raises `ValueError`, `InvalidOperation` for what is no finite one."""
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
    """`text` in rows of at most `width` columns, each with how many it has."""
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
    """`word` in pieces of at most `width` columns, each with how many it has.

    What is seen as one is never cut: a letter with its marks, an emoji of several characters, a flag.
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
    """How many columns a monospaced font gives `text`: two for East Asian wide characters and emoji, none for marks."""
    return sum(map(_columns_of_one, iter_graphemes(text)))


def _columns_of_one(seen: str) -> int:
    return max(0, wcswidth(seen))
