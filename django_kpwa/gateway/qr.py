"""`LoginQr`, the QR code that links a WhatsApp account, in any form that a gateway sends.

Whoever scans it controls the account, so its content must not appear in any repr, log or error. The reference documents
one form ("string base64"). The forms read here are those that gateways of this family send: a PNG or JPEG body, a data
URI, bare base64, and WhatsApp's own text, which is drawn locally.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ..exceptions import UnexpectedAnswerError

# Pillow and segno are imported only in the functions that draw or read a code: at module level, every process would
# pay for them at start.
if TYPE_CHECKING:
    from PIL.Image import Image

PNG, JPEG, TEXT = "image/png", "image/jpeg", "text/plain"
MAX_IMAGE_BYTES = 1024 * 1024
MAX_SIDE = 2048
"""Maximum width and height in pixels: a small file may claim a size that takes gigabytes to decode. A QR code has at
most 177 modules per side."""
MAX_TEXT_CHARACTERS = 1200
"""A QR code with error correction L holds 2,953 bytes; WhatsApp's texts have about 240."""

_BORDER = 4
_WHATSAPP_TEXT = re.compile(r"(?:https://wa\.me/settings/linked_devices#)?\d@[\x21-\x7e]{24,}")
_DATA_URI = re.compile(r"data:image/[\w.+-]+(?:;[\w=-]+)*;base64,", re.IGNORECASE)
_FINDER = [[max(abs(x - 3), abs(y - 3)) != 2 for x in range(7)] for y in range(7)]


@dataclass(frozen=True)
class LoginQr:
    """A login QR code: an image (`image/png`, `image/jpeg`) or WhatsApp's own text (`text/plain`).

    Make one with `from_answer()`, `from_text()` or `from_image()`. All of them raise `UnexpectedAnswerError`, without
    the content, if they are not given a QR code.
    """

    content: bytes = field(repr=False)
    content_type: str

    @classmethod
    def from_answer(cls, body: bytes) -> LoginQr:
        """Read the body of a login-qr answer: an image, the documented JSON with its `qr_string`, or bare text.

        The body itself decides, not the content type that came with it.
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
        __traceback_hide__ = True  # scanning the code gives control of the account
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
        if (b"IEND" if content_type == PNG else b"\xff\xd9") not in image[-64:]:
            raise _no_qr("an image that is truncated")
        try:
            _opened(image)
        except ValueError as error:
            raise _no_qr(str(error)) from None
        return cls(image, content_type)

    def image(self) -> tuple[bytes, str]:
        """Return an image file and its content type: the gateway's own, or a PNG drawn from the text."""
        if self.content_type == TEXT:
            return self.png(), PNG
        return self.content, self.content_type

    def png(self) -> bytes:
        """Return a PNG file. Raises `UnexpectedAnswerError` if the gateway's JPEG turns out to be damaged."""
        if self.content_type == PNG:
            return self.content
        drawing = io.BytesIO()
        if self.content_type == JPEG:
            self._gray().save(drawing, "PNG")
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
        """Return the code drawn with half blocks, its light modules in the terminal's foreground color.

        Every line ends with a newline. Raises `UnexpectedAnswerError` if no QR code can be found in the image.
        """
        return _half_blocks(self.modules())

    def modules(self) -> list[list[bool]]:
        """Return the code's modules as rows, True for a dark module, including the quiet zone around the code.

        Raises `UnexpectedAnswerError` if no QR code can be found in the image.
        """
        if self.content_type == TEXT:
            return _with_border([[bool(module) for module in row] for row in self._drawn().matrix])
        try:
            return _with_border(_modules(self._gray()))
        except ValueError as error:
            raise _not_drawable(str(error)) from None

    def _drawn(self) -> Any:
        import segno

        return segno.make_qr(self.content.decode("ascii"), error="l", boost_error=False)

    def _gray(self) -> Image:
        try:
            return _in_gray(self.content)
        except Exception:  # Pillow's parsers raise OSError, SyntaxError, ValueError, struct.error and more
            raise _not_drawable("a damaged image") from None


def _image_type(content: bytes) -> str:
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return PNG
    return JPEG if content.startswith(b"\xff\xd8\xff") else ""


def _opened(image: bytes) -> Image:
    """Open an image without decoding its pixels. Raises `ValueError` if it is damaged or too large."""
    from PIL import Image

    try:
        opened = Image.open(io.BytesIO(image), formats=("PNG", "JPEG"))
    except Exception:
        # As in `_gray()`; or the size exceeds Pillow's own limit, which is global to the process and not changed here.
        raise ValueError("a damaged or far too large image") from None
    if max(opened.size) > MAX_SIDE:
        raise ValueError(f"an image of {opened.width} × {opened.height} pixels")
    return opened


def _in_gray(image: bytes) -> Image:
    """Convert an image to mode L (8-bit gray) on a white background."""
    from PIL import Image

    opened = _opened(image)
    if opened.mode.startswith("I"):  # 16 bits, which convert() would clip
        return opened.convert("I").point(lambda level: level / 257).convert("L")
    ground = Image.new("RGBA", opened.size, "white")
    ground.alpha_composite(opened.convert("RGBA"))
    return ground.convert("L")


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


def _modules(gray: Image) -> list[list[bool]]:
    """Return the modules of the QR code in an image, without its quiet zone.

    The first dark run in the topmost dark row is the edge of a finder pattern, seven modules long. It gives the size
    to within a few modules; the three finder patterns and the timing patterns between them decide the exact size.
    Raises `ValueError` if no size fits.
    """
    dark = gray.point([255] * 128 + [0] * 128)
    box = dark.getbbox()
    if box is None:
        raise ValueError("it is blank")
    code = dark.crop(box)
    edge = code.crop((0, 0, code.width, 1)).tobytes().find(0)
    guess = round((code.width * 7 / (edge if edge > 0 else code.width) - 17) / 4)
    for version in (guess, guess - 1, guess + 1):
        if 1 <= version <= 40:
            modules = _sampled(code, 17 + 4 * version)
            if _has_finders(modules) and _has_timing(modules):
                return modules
    raise ValueError("no QR code was found in it")


def _sampled(code: Image, count: int) -> list[list[bool]]:
    """Sample the center of each of `count` × `count` modules, as resizing to the nearest pixel does."""
    from PIL.Image import Resampling

    pixels = code.resize((count, count), Resampling.NEAREST).tobytes()
    return [[pixel > 0 for pixel in pixels[at : at + count]] for at in range(0, count * count, count)]


def _has_finders(modules: list[list[bool]]) -> bool:
    far = len(modules) - 7
    corners = ((0, 0), (0, far), (far, 0))
    return all([row[x : x + 7] for row in modules[y : y + 7]] == _FINDER for y, x in corners)


def _has_timing(modules: list[list[bool]]) -> bool:
    # A module count that is off by four may still match the finder patterns, but never these alternating modules.
    between = range(8, len(modules) - 8)
    return all(modules[6][at] == modules[at][6] == (at % 2 == 0) for at in between)


def _with_border(modules: list[list[bool]]) -> list[list[bool]]:
    side, blank = [False] * _BORDER, [False] * (len(modules) + 2 * _BORDER)
    return [*([blank] * _BORDER), *(side + row + side for row in modules), *([blank] * _BORDER)]


def _half_blocks(modules: list[list[bool]]) -> str:
    """Draw two rows of modules per line, the light ones: terminals are dark, and scanners need dark on light."""
    blocks = {(False, False): "█", (False, True): "▀", (True, False): "▄", (True, True): " "}
    rows = [*modules, [True] * len(modules[0])] if len(modules) % 2 else modules
    return "".join(
        "".join(blocks[pair] for pair in zip(upper, lower, strict=True)) + "\n"
        for upper, lower in zip(rows[::2], rows[1::2], strict=True)
    )


def _no_qr(found: str) -> UnexpectedAnswerError:
    return UnexpectedAnswerError(
        f"The gateway answered with {found} instead of a QR code. This can happen when WhatsApp is already "
        "linked: check the status."
    )


def _not_drawable(reason: str) -> UnexpectedAnswerError:
    return UnexpectedAnswerError(f"The QR code cannot be drawn here: {reason}. Save the image to a file and scan that.")
