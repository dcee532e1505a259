"""`LoginQr`: the QR code that links a WhatsApp account, whatever form the gateway sent it in.

Whoever scans it owns the account, so its content stands in no repr, log or error. The reference documents one form
("string base64"); the forms read here are those that gateways of this family send: a PNG or JPEG body, a data URI, bare
base64, and WhatsApp's own text, which is drawn locally.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from ..exceptions import UnexpectedAnswerError
from .png import SIGNATURE as PNG_SIGNATURE
from .png import dark_pixels, png_size

PNG, JPEG, TEXT = "image/png", "image/jpeg", "text/plain"
MAX_IMAGE_BYTES = 1024 * 1024
MAX_TEXT_CHARACTERS = 1200
"""A QR code of error correction L holds 2,953 bytes; WhatsApp's texts have about 240."""

_BORDER = 4
_WHATSAPP_TEXT = re.compile(r"(?:https://wa\.me/settings/linked_devices#)?\d@[\x21-\x7e]{24,}")
_DATA_URI = re.compile(r"data:image/[\w.+-]+(?:;[\w=-]+)*;base64,", re.IGNORECASE)
_FINDER = [[max(abs(x - 3), abs(y - 3)) != 2 for x in range(7)] for y in range(7)]


@dataclass(frozen=True)
class LoginQr:
    """A login QR code: an image (`image/png`, `image/jpeg`) or WhatsApp's own text (`text/plain`).

    Make one with `from_answer()`, `from_text()` or `from_image()`; all of them raise `UnexpectedAnswerError`, without
    the content, for what is no QR code.
    """

    content: bytes = field(repr=False)
    content_type: str

    @classmethod
    def from_answer(cls, body: bytes) -> LoginQr:
        """Read the body of a login-qr answer: an image, the documented JSON with its `qr_string`, or bare text.

        What the body is decides, not the content type that came with it.
        """
        __traceback_hide__ = True
        if _image_type(body):
            return cls.from_image(body)
        try:
            text = body.decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            raise _no_qr("a body that is neither an image nor text") from None
        return cls.from_text(_qr_string(text) if text[:1] in ("{", '"') else text)

    @classmethod
    def from_text(cls, text: str) -> LoginQr:
        """Read a data URI, bare base64 of a PNG or JPEG, or WhatsApp's own text (`2@…,…,…`)."""
        __traceback_hide__ = True  # whoever scans it owns the account
        text = text.strip()
        if not text:
            raise _no_qr("an empty text")
        if len(text) <= MAX_TEXT_CHARACTERS and _WHATSAPP_TEXT.fullmatch(text) and text.count(",") >= 2:
            return cls(text.encode("ascii"), TEXT)
        return cls.from_image(_from_base64(text))

    @classmethod
    def from_image(cls, image: bytes) -> LoginQr:
        """Read the bytes of a PNG or JPEG file."""
        __traceback_hide__ = True
        content_type = _image_type(image)
        if not content_type:
            raise _no_qr("something that is neither a PNG, a JPEG nor WhatsApp's text")
        if len(image) > MAX_IMAGE_BYTES:
            raise _no_qr(f"an image of more than {MAX_IMAGE_BYTES} bytes")
        if content_type == JPEG and b"\xff\xd9" not in image[-64:]:
            raise _no_qr("a JPEG file that is cut short")
        if content_type == PNG:
            _check_png(image)
        return cls(image, content_type)

    def image(self) -> tuple[bytes, str]:
        """Return an image file and its content type: the gateway's own, or a PNG drawn from the text."""
        if self.content_type == TEXT:
            return self.png(), PNG
        return self.content, self.content_type

    def png(self) -> bytes:
        """Return a PNG file. A JPEG is converted with Pillow; without it, use `image()`."""
        if self.content_type == PNG:
            return self.content
        drawing = io.BytesIO()
        if self.content_type == JPEG:
            self._opened_jpeg().save(drawing, "PNG")
        else:
            self._drawn().save(drawing, kind="png", scale=8, border=_BORDER)
        return drawing.getvalue()

    def svg(self) -> str:
        """Return an SVG document: drawn from the text, or holding the gateway's image."""
        if self.content_type == TEXT:
            drawing = io.BytesIO()
            self._drawn().save(drawing, kind="svg", scale=8, border=_BORDER, light="white", xmldecl=False)
            return drawing.getvalue().decode()
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" width="320" height="320" viewBox="0 0 320 320">'
            f'<image width="320" height="320" href="{self.data_uri()}"/></svg>'
        )

    def data_uri(self) -> str:
        """Return an image as a data URI, for `<img src>`."""
        image, content_type = self.image()
        return f"data:{content_type};base64,{base64.b64encode(image).decode('ascii')}"

    def terminal(self) -> str:
        """Return the code drawn with half blocks, its light parts in the terminal's foreground, one newline a line.

        Raises as `modules()` does.
        """
        return _half_blocks(self.modules())

    def modules(self) -> list[list[bool]]:
        """Return the rows of the code's modules, True where one is dark, with the quiet zone around them.

        Raises `UnexpectedAnswerError` where no QR code can be made out in the image, or it is a JPEG without Pillow.
        """
        if self.content_type == TEXT:
            return _with_border([[bool(module) for module in row] for row in self._drawn().matrix])
        dark = self._dark_pixels()
        try:
            return _with_border(_modules(dark))
        except ValueError as error:
            raise _not_drawable(str(error)) from None

    def _drawn(self) -> Any:
        # Needed where a person scans, and nowhere else: every process that starts would pay for it.
        import segno

        return segno.make_qr(self.content.decode("ascii"), error="l", boost_error=False)

    def _opened_jpeg(self) -> Any:
        try:
            from PIL import Image
        except ImportError:
            raise _not_drawable("it is a JPEG, which needs Pillow (pip install pillow)") from None
        try:
            opened = Image.open(io.BytesIO(self.content), formats=["JPEG"])
            if max(opened.size) > 4096:
                raise _not_drawable("it is too large")
            return opened.convert("L")
        except OSError:
            raise _not_drawable("a damaged JPEG file") from None

    def _dark_pixels(self) -> list[list[bool]]:
        if self.content_type == PNG:
            try:
                return dark_pixels(self.content)
            except ValueError as error:
                raise _not_drawable(str(error)) from None
        opened = self._opened_jpeg()
        width, height = opened.size
        gray = opened.tobytes()
        return [[level < 128 for level in gray[at : at + width]] for at in range(0, width * height, width)]


def _image_type(content: bytes) -> str:
    if content.startswith(PNG_SIGNATURE):
        return PNG
    return JPEG if content.startswith(b"\xff\xd8\xff") else ""


def _check_png(image: bytes) -> None:
    try:
        png_size(image)
    except ValueError as error:
        raise _no_qr(str(error)) from None
    if b"IEND" not in image[-64:]:
        raise _no_qr("a PNG file that is cut short")


def _qr_string(text: str) -> str:
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        raise _no_qr("malformed JSON") from None
    qr_string = answer.get("qr_string") if isinstance(answer, dict) else answer
    if not isinstance(qr_string, str) or not qr_string:
        raise _no_qr("JSON without a qr_string")
    return qr_string


def _from_base64(text: str) -> bytes:
    scheme = _DATA_URI.match(text)
    if scheme:
        text = unquote(text[scheme.end() :])
    if len(text) > 2 * MAX_IMAGE_BYTES:
        raise _no_qr(f"a text of {len(text)} characters")
    text = "".join(text.split()).rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise _no_qr("a text that is neither base64 nor WhatsApp's own") from None


def _modules(dark: list[list[bool]]) -> list[list[bool]]:
    """The modules of the QR code in an image, without its quiet zone.

    The first dark run of the topmost dark row is the edge of a finder pattern, seven modules long: that gives the size
    within a few modules; the three finder patterns and the timing patterns between them tell which one it is. Raises
    `ValueError` where none fits.
    """
    rows = [row for row in dark if any(row)]
    if not rows:
        raise ValueError("it is blank")
    top = next(at for at, row in enumerate(dark) if any(row))
    bottom = len(dark) - next(at for at, row in enumerate(reversed(dark)) if any(row))
    left = min(row.index(True) for row in rows)
    right = max(len(row) - row[::-1].index(True) for row in rows)
    edge = dark[top][left:right]
    finder = edge.index(False) if False in edge else len(edge)
    guess = round(((right - left) * 7 / max(finder, 1) - 17) / 4)
    for version in (guess, guess - 1, guess + 1):
        if 1 <= version <= 40:
            modules = _sampled(dark, (left, top, right, bottom), 17 + 4 * version)
            if _has_finders(modules) and _has_timing(modules):
                return modules
    raise ValueError("no QR code can be made out in it")


def _sampled(dark: list[list[bool]], box: tuple[int, int, int, int], count: int) -> list[list[bool]]:
    left, top, right, bottom = box
    columns = [left + int((x + 0.5) * (right - left) / count) for x in range(count)]
    lines = [top + int((y + 0.5) * (bottom - top) / count) for y in range(count)]
    return [[dark[line][column] for column in columns] for line in lines]


def _has_finders(modules: list[list[bool]]) -> bool:
    far = len(modules) - 7
    corners = ((0, 0), (0, far), (far, 0))
    return all([row[x : x + 7] for row in modules[y : y + 7]] == _FINDER for y, x in corners)


def _has_timing(modules: list[list[bool]]) -> bool:
    # A count of modules that is four off may still hit the finder patterns; these, of alternate modules, it can't.
    between = range(8, len(modules) - 8)
    return all(modules[6][at] == modules[at][6] == (at % 2 == 0) for at in between)


def _with_border(modules: list[list[bool]]) -> list[list[bool]]:
    side, blank = [False] * _BORDER, [False] * (len(modules) + 2 * _BORDER)
    return [*([blank] * _BORDER), *(side + row + side for row in modules), *([blank] * _BORDER)]


def _half_blocks(modules: list[list[bool]]) -> str:
    """Two rows of modules a line. The light ones are drawn: terminals are dark, and scanners want dark on light."""
    blocks = {(False, False): "█", (False, True): "▀", (True, False): "▄", (True, True): " "}
    rows = [*modules, [True] * len(modules[0])] if len(modules) % 2 else modules
    return "".join(
        "".join(blocks[pair] for pair in zip(upper, lower, strict=True)) + "\n"
        for upper, lower in zip(rows[::2], rows[1::2], strict=True)
    )


def _no_qr(found: str) -> UnexpectedAnswerError:
    return UnexpectedAnswerError(
        f"The gateway answered with no QR code but {found}. A linked license may do so: ask for the status."
    )


def _not_drawable(reason: str) -> UnexpectedAnswerError:
    return UnexpectedAnswerError(f"The QR code cannot be drawn here: {reason}. Save the image to a file and scan that.")
