"""Export of messages as CSV: streamed, and safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from typing import Any

from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from django.utils import timezone
from django.utils.translation import gettext

from ..models import OutboundMessage
from ..ticks import mark_lacking
from ..words import reason_row, status_row

_TIMES = ("created_at", "sent_at", "delivered_at", "read_at")
_SEPARATORS = re.compile(r"([;,|\t\r\n\v\f\x1c-\x1f\x85\u2028\u2029\uff0c\uff1b\uff5c])")
# Characters that a formula begins with; some programs treat the full-width and small forms like the ASCII ones.
_FORMULA_MARKS = tuple("=+-@＝＋－＠﹦﹢﹣﹫\u2212")
# Characters that an import may strip before a formula: white space, quotes, invisible characters, NUL.
_BEFORE_A_FORMULA = " \u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000" + (
    '"\u201c\u201d\x00\u00ad\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff'
)
_BYTE_ORDER_MARK = "\ufeff"  # without it, Excel reads UTF-8 as the system's old character set


def csv_response(messages: QuerySet[OutboundMessage], *, rows_per_query: int = 1000) -> StreamingHttpResponse:
    """Return `messages` as a CSV download in UTF-8, newest first."""
    today = timezone.localdate().isoformat()
    headers = {"Content-Disposition": f'attachment; filename="messages-{today}.csv"', "Cache-Control": "no-store"}
    lines = _lines(_in_pieces(messages, rows_per_query))
    return StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8", headers=headers)


def neutralised(cell: str) -> str:
    """Return `cell` with an apostrophe before everything that a spreadsheet might run as a formula.

    The beginning of a cell is not enough: if the system's list separator is a semicolon, as in Indonesia, Excel also
    splits at semicolons and line breaks inside cells, and an import splits at any separator that the user chooses.
    Texts contain no CR, so a CR can only be the first character of a cell, where one apostrophe before it is enough.
    """
    first = cell[:2] if cell.startswith("\r") and cell[1:].startswith(_FORMULA_MARKS) else ""
    parts = _SEPARATORS.split(cell[len(first) :])
    parts[::2] = [_without_formula(part) for part in parts[::2]]
    safe = first + "".join(parts)
    return f"'{safe}" if cell.startswith(("\t", "\r", "\n")) else safe


def _without_formula(part: str) -> str:
    begins = part.lstrip(_BEFORE_A_FORMULA)
    return f"{part[: len(part) - len(begins)]}'{begins}" if begins.startswith(_FORMULA_MARKS) else part


class _Line:
    """A file for `csv.writer` whose `write()` returns the line, so that it can be streamed."""

    def write(self, line: str) -> str:
        return line


def _lines(messages: Iterable[OutboundMessage]) -> Iterator[str]:
    writer = csv.writer(_Line())
    yield _BYTE_ORDER_MARK + writer.writerow([neutralised(name) for name in _header()])
    for message in messages:
        yield writer.writerow([neutralised(cell) for cell in _row(message)])


def _in_pieces(messages: QuerySet[OutboundMessage], size: int) -> Iterator[OutboundMessage]:
    """Read `messages` in pieces by primary key.

    A single query would make some drivers (MariaDB's) hold all rows in memory; with OFFSET, messages that are stored
    during the export would make rows come twice.
    """
    # `defer(None)`, because the list's queryset defers the texts, which the export needs.
    rows: Any = messages.select_related("license", "source_content_type").order_by("-pk").defer(None)
    last: int | None = None
    while True:
        piece = list((rows if last is None else rows.filter(pk__lt=last))[:size])
        mark_lacking(piece)
        yield from piece
        if len(piece) < size:
            return
        last = piece[-1].pk


def _header() -> list[str]:
    names = ["uuid", "status", "recipient", "recipient_typed", "license", "text", "image_url", *_TIMES]
    fields = [str(OutboundMessage._meta.get_field(name).verbose_name) for name in names]  # type: ignore[union-attr]
    return [*fields, gettext("attempts"), gettext("reason"), gettext("about"), gettext("idempotency key")]


def _row(message: OutboundMessage) -> list[str]:
    source = message.source_content_type
    return [
        str(message.uuid),
        # As in the list: "sent" alone would hide that a message was reported as not delivered.
        str(status_row(message).label),
        message.recipient,
        message.recipient_typed,
        message.license.name if message.license else "",
        message.text,
        message.image_url,
        *(_time(getattr(message, name)) for name in _TIMES),
        str(message.attempts_made),
        ": ".join(filter(None, (str(reason_row(message).label), message.reason_words, message.undelivered_words))),
        message.source_reference or (f"{source.name} {message.source_id}" if source else ""),
        message.idempotency_key,
    ]


def _time(moment: Any) -> str:
    # In the site's time zone, in a format that spreadsheets parse as a time in every locale.
    return timezone.localtime(moment).strftime("%Y-%m-%d %H:%M:%S") if moment else ""
