"""Messages as CSV: read and sent in pieces, and safe to open in a spreadsheet."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from django.utils import timezone
from django.utils.translation import gettext

from ...models import OutboundMessage
from .words import reason_of

_ROWS_A_PIECE = 1000
_TIMES = ("created_at", "sent_at", "delivered_at", "read_at")
_BYTE_ORDER_MARK = "\ufeff"  # without it, Excel reads UTF-8 as the system's old character set


def csv_response(messages: QuerySet[OutboundMessage]) -> StreamingHttpResponse:
    """`messages` as a download, newest first."""
    today = timezone.localdate().isoformat()
    headers = {"Content-Disposition": f'attachment; filename="messages-{today}.csv"', "Cache-Control": "no-store"}
    return StreamingHttpResponse(_lines(messages), content_type="text/csv; charset=utf-8", headers=headers)


def neutralised(cell: str) -> str:
    """`cell` as a spreadsheet shows it, where it might otherwise run it as a formula."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")) else cell


class _Line:
    """A file to write one line to, which is then taken."""

    def write(self, line: str) -> str:
        return line


def _lines(messages: QuerySet[OutboundMessage]) -> Iterator[str]:
    writer = csv.writer(_Line())
    yield _BYTE_ORDER_MARK + writer.writerow([neutralised(name) for name in _header()])
    for message in _in_pieces(messages):
        yield writer.writerow([neutralised(cell) for cell in _row(message)])


def _in_pieces(messages: QuerySet[OutboundMessage]) -> Iterator[OutboundMessage]:
    """By the primary key, so that no driver keeps a million rows (MariaDB's would), and none is given twice."""
    rows: Any = messages.select_related("license", "source_content_type").order_by("-pk").defer(None)
    last: int | None = None
    while True:
        piece = list((rows if last is None else rows.filter(pk__lt=last))[:_ROWS_A_PIECE])
        yield from piece
        if len(piece) < _ROWS_A_PIECE:
            return
        last = piece[-1].pk


def _header() -> list[str]:
    names = ["uuid", "status", "recipient", "recipient_typed", "license", "text", "image_url"]
    fields = [str(OutboundMessage._meta.get_field(name).verbose_name) for name in names]  # type: ignore[union-attr]
    times = [str(OutboundMessage._meta.get_field(name).verbose_name) for name in _TIMES]  # type: ignore[union-attr]
    return [*fields, *times, gettext("attempts"), gettext("reason"), gettext("about"), gettext("idempotency key")]


def _row(message: OutboundMessage) -> list[str]:
    source = message.source_content_type
    return [
        str(message.uuid),
        message.get_status_display(),
        message.recipient,
        message.recipient_typed,
        message.license.name if message.license else "",
        message.text,
        message.image_url,
        *(_time(getattr(message, name)) for name in _TIMES),
        str(message.attempts_made),
        ": ".join(filter(None, (reason_of(message), message.reason_words))),
        f"{source.name} {message.source_id}" if source else "",
        message.idempotency_key,
    ]


def _time(moment: Any) -> str:
    # As spreadsheets read it, whatever the language; in the site's zone.
    return timezone.localtime(moment).strftime("%Y-%m-%d %H:%M:%S") if moment else ""
