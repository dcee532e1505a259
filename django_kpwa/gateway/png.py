"""A reader for the PNG files that QR codes come in, so that a terminal can show one without an imaging library.

Reads every bit depth and colour type, not interlaced ones. Sizes are checked before anything is unpacked: the file
comes from the network.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_SIDE = 4096
"""Pixels. A QR code has at most 177 modules a side."""

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
    return [
        [is_dark(samples[at : at + channels]) for at in range(0, width * channels, channels)]
        for samples in (_samples(line, depth) for line in _lines(packed, line_bytes, max(1, channels * depth // 8)))
    ]


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
    """The scan lines with their filters undone (PNG specification, section 9)."""
    above = bytearray(line_bytes)
    for start in range(0, len(packed), line_bytes + 1):
        kind, line = packed[start], bytearray(packed[start + 1 : start + 1 + line_bytes])
        if kind > 4:
            raise ValueError("a damaged PNG file")
        for at in range(line_bytes if kind else 0):
            left = line[at - step] if at >= step else 0
            corner = above[at - step] if at >= step else 0
            line[at] = (line[at] + _predicted(kind, left, above[at], corner)) & 0xFF
        yield line
        above = line


def _predicted(kind: int, left: int, above: int, corner: int) -> int:
    if kind == 1:
        return left
    if kind == 2:
        return above
    if kind == 3:
        return (left + above) // 2
    estimate = left + above - corner
    return min((left, above, corner), key=lambda value: abs(estimate - value))


def _samples(line: bytearray, depth: int) -> bytes:
    if depth == 8:
        return bytes(line)
    if depth == 16:
        return bytes(line[::2])
    mask = (1 << depth) - 1
    return bytes(byte >> shift & mask for byte in line for shift in range(8 - depth, -1, -depth))


def _darkness(colour: int, depth: int, chunks: dict[bytes, bytes]) -> Callable[[bytes], bool]:
    """What tells whether a pixel, given by its samples, is dark."""
    white = 255 if depth >= 8 else (1 << depth) - 1
    if colour == _PALETTE:
        palette, alpha = chunks.get(b"PLTE", b""), chunks.get(b"tRNS", b"")
        colours = [
            _is_dark(palette[at : at + 3], alpha[at // 3] if at // 3 < len(alpha) else 255)
            for at in range(0, len(palette) - 2, 3)
        ]
        return lambda pixel: pixel[0] < len(colours) and colours[pixel[0]]
    if colour == _GRAY:
        return lambda pixel: pixel[0] * 2 < white
    if colour == _RGB:
        return lambda pixel: _is_dark(pixel, 255)
    if colour == _GRAY_ALPHA:
        return lambda pixel: _is_dark(pixel[:1] * 3, pixel[1])
    return lambda pixel: _is_dark(pixel[:3], pixel[3])


def _is_dark(rgb: bytes, alpha: int) -> bool:
    luminance = (299 * rgb[0] + 587 * rgb[1] + 114 * rgb[2]) // 1000
    return (luminance * alpha + 255 * (255 - alpha)) // 255 < 128
