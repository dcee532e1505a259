"""A login QR code as a drawing that belongs to the page itself.

Inline SVG, not an image: a Content-Security-Policy of `default-src 'self'` forbids images of `data:` addresses, and an
image with an address of its own could be kept, logged and asked for by others. Whoever scans it owns the account, so no
repr holds it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from django.views.decorators.debug import sensitive_variables

from ...exceptions import UnexpectedAnswerError
from ...gateway import LoginQr


@dataclass(frozen=True)
class Drawing:
    """`path` fills the dark ones of `side` × `side` modules, quiet zone included.

    `image` is a data URI, there only where the modules can't be made out: a site with a Content-Security-Policy then
    needs `img-src data:`.
    """

    side: int = 0
    path: str = field(default="", repr=False)
    image: str = field(default="", repr=False)


@sensitive_variables()
def drawing_of(qr: LoginQr) -> Drawing:
    try:
        modules = qr.modules()
    except UnexpectedAnswerError:
        return Drawing(image=qr.data_uri())
    return Drawing(len(modules), "".join(_runs(y, row) for y, row in enumerate(modules)))


@sensitive_variables()
def _runs(y: int, row: list[bool]) -> str:
    """A rectangle for each run of dark modules in a row; the quiet zone ends the last one."""
    drawn, start = [], None
    for x, is_dark in enumerate(row):
        if is_dark and start is None:
            start = x
        elif not is_dark and start is not None:
            drawn.append(f"M{start} {y}h{x - start}v1H{start}z")
            start = None
    return "".join(drawn)
