"""A reader for the PNG files that QR codes come in, so that a terminal can show one without an imaging library.

Reads every bit depth and colour type, not interlaced ones. Sizes are checked before anything is unpacked: the file
comes from the network.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_SIDE = 1024
"""Pixels. A QR code has at most 177 modules a side, and every pixel costs time and memory here."""

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_GRAY, _RGB, _PALETTE, _GRAY_ALPHA, _RGBA = 0, 2, 3, 4, 6


def png_size(image: bytes) -> tuple[int, int]:
    """Return width and height in pixels. Raises `ValueError` for what is not a PNG of a sane size."""
    if len(image) < 33 or not image.startswith(SIGNATURE) or image[12:16] != b"IHDR":
        raise ValueError("not a PNG file")
    width, height = struct.unpack(">II", image[16:24])
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise ValueError(f"a PNG file of {width} × {height} pixels")
    return width, height


def dark_pixels(image: bytes) -> list[list[bool]]:
    """Return the rows of a PNG file, True where a pixel is dark; transparency counts as white.

    Raises `ValueError` for a file that is damaged, interlaced or too large.
    """
    width, height = png_size(image)
    depth, colour, _, _, interlaced = struct.unpack(">5B", image[24:29])
    if interlaced or colour not in _CHANNELS or depth not in (1, 2, 4, 8, 16):
        raise ValueError("a PNG file of a kind that is not read here")
    chunks = dict(_chunks(image))
    if b"IDAT" not in chunks:
        raise ValueError("a PNG file without an image")
    channels = _CHANNELS[colour]
    line_bytes = (width * channels * depth + 7) // 8
    packed = _unpacked(chunks[b"IDAT"], height * (line_bytes + 1))
    is_dark = _darkness(colour, depth, chunks)
    lines = _lines(packed, line_bytes, max(1, channels * depth // 8))
    return [is_dark(_samples(line, depth)[: width * channels]) for line in lines]


def _chunks(image: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of every chunk; the parts of IDAT joined."""
    at, compressed = len(SIGNATURE), bytearray()
    while at + 12 <= len(image):
        (length,) = struct.unpack(">I", image[at : at + 4])
        kind, content = image[at + 4 : at + 8], image[at + 8 : at + 8 + length]
        if kind == b"IDAT":
            compressed += content
        else:
            yield kind, content
        at += length + 12
    if compressed:
        yield b"IDAT", bytes(compressed)


def _unpacked(compressed: bytes, size: int) -> bytes:
    try:
        unpacked = zlib.decompressobj().decompress(compressed, size)
    except zlib.error:
        raise ValueError("a damaged PNG file") from None
    if len(unpacked) < size:
        raise ValueError("a PNG file that is cut short")
    return unpacked


def _lines(packed: bytes, line_bytes: int, step: int) -> Iterator[bytearray]:
    """The scan lines with their filters undone (PNG specification, section 9); `step` is the bytes of a pixel."""
    above = bytearray(step + line_bytes)
    for start in range(0, len(packed), line_bytes + 1):
        kind = packed[start]
        if kind > 4:
            raise ValueError("a damaged PNG file")
        # A blank pixel in front spares every step the question whether there is one to the left.
        line = bytearray(step) + packed[start + 1 : start + 1 + line_bytes]
        if kind:
            _undo(kind, line, above, step)
        yield line[step:]
        above = line


def _undo(kind: int, line: bytearray, above: bytearray, step: int) -> None:
    places = range(step, len(line))
    if kind == 1:
        for at in places:
            line[at] = (line[at] + line[at - step]) & 0xFF
    elif kind == 2:
        for at in places:
            line[at] = (line[at] + above[at]) & 0xFF
    elif kind == 3:
        for at in places:
            line[at] = (line[at] + (line[at - step] + above[at]) // 2) & 0xFF
    else:
        for at in places:
            line[at] = (line[at] + _paeth(line[at - step], above[at], above[at - step])) & 0xFF


def _paeth(left: int, above: int, corner: int) -> int:
    from_left, from_above, from_corner = abs(above - corner), abs(left - corner), abs(left + above - 2 * corner)
    if from_left <= from_above and from_left <= from_corner:
        return left
    return above if from_above <= from_corner else corner


def _samples(line: bytearray, depth: int) -> bytes:
    if depth == 8:
        return bytes(line)
    if depth == 16:
        return bytes(line[::2])
    mask = (1 << depth) - 1
    return bytes(byte >> shift & mask for byte in line for shift in range(8 - depth, -1, -depth))


def _darkness(colour: int, depth: int, chunks: dict[bytes, bytes]) -> Callable[[bytes], list[bool]]:
    """What tells which pixels of a line, given by its samples, are dark."""
    if colour == _PALETTE:
        palette, alpha = chunks.get(b"PLTE", b""), chunks.get(b"tRNS", b"").ljust(256, b"\xff")
        colours = zip(palette[::3], palette[1::3], palette[2::3], alpha, strict=False)
        dark = [_is_dark(red, green, blue, opacity) for red, green, blue, opacity in colours]
        dark += [False] * (256 - len(dark))
        return lambda line: [dark[sample] for sample in line]
    if colour == _GRAY:
        white = 255 if depth >= 8 else (1 << depth) - 1
        return lambda line: [2 * sample < white for sample in line]
    if colour == _GRAY_ALPHA:
        return lambda line: [_is_dark(gray, gray, gray, alpha) for gray, alpha in _pixels(line, 2)]
    if colour == _RGB:
        return lambda line: [_is_dark(red, green, blue) for red, green, blue in _pixels(line, 3)]
    return lambda line: [_is_dark(*pixel) for pixel in _pixels(line, 4)]


def _pixels(line: bytes, channels: int) -> Iterator[tuple[int, ...]]:
    return zip(*(line[at::channels] for at in range(channels)), strict=True)


def _is_dark(red: int, green: int, blue: int, alpha: int = 255) -> bool:
    # Luminance on white, in thousandths: with alpha 0 it is 255,000.
    return (299 * red + 587 * green + 114 * blue - 255_000) * alpha < (128_000 - 255_000) * 255
