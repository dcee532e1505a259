"""`LoginQr` in every form that gateways of this family send, checked with a real QR reader."""

from __future__ import annotations

import base64
import io
import json
import re
import struct
import zlib
from xml.etree import ElementTree

import pytest
import segno
from PIL import Image

from django_kpwa.exceptions import UnexpectedAnswerError
from django_kpwa.gateway.qr import MAX_IMAGE_BYTES, MAX_SIDE, LoginQr
from tests.contract.gateway_case import scanned

TEXT = "2@" + "aB3/xY9+" * 20 + ",q6Zk/+w=,m3N==,Zz0="


def png_of(text=TEXT, mode="RGB", size=None, **options):
    drawn = io.BytesIO()
    segno.make_qr(text, error="l").save(drawn, kind="png", scale=6)
    image = Image.open(drawn).convert("L")
    image = image.resize(size) if size else image
    saved = io.BytesIO()
    image.convert(mode).save(saved, "PNG", **options)
    return saved.getvalue()


def jpeg_of(text=TEXT, size=None):
    image = Image.open(io.BytesIO(png_of(text))).convert("RGB")
    saved = io.BytesIO()
    (image.resize(size) if size else image).save(saved, "JPEG")
    return saved.getvalue()


def base64_of(content):
    return base64.b64encode(content).decode()


def scanned_terminal(drawing):
    """Return what a phone reads from the terminal. Light modules are drawn, and dark ones are left blank."""
    lines = drawing.splitlines()
    lit = bytes(255 * (character in half) for line in lines for half in ("█▀", "█▄") for character in line)
    small = Image.frombytes("L", (len(lines[0]), 2 * len(lines)), lit)
    image = small.resize((small.width * 4, small.height * 4), Image.Resampling.NEAREST)
    saved = io.BytesIO()
    image.save(saved, "PNG")
    return scanned(saved.getvalue())


FORMS = {
    "png body": lambda: LoginQr.from_answer(png_of()),
    "jpeg body": lambda: LoginQr.from_answer(jpeg_of()),
    "png data uri": lambda: LoginQr.from_text(f"data:image/png;base64,{base64_of(png_of())}"),
    "jpeg data uri": lambda: LoginQr.from_text(f"data:image/jpg;base64,{base64_of(jpeg_of())}"),
    "quoted data uri": lambda: LoginQr.from_text(
        "DATA:image/png;charset=utf-8;base64," + base64_of(png_of()).replace("+", "%2B").replace("=", "%3D")
    ),
    "mislabelled data uri": lambda: LoginQr.from_text(f"data:image/jpeg;base64,{base64_of(png_of())}"),
    "png base64": lambda: LoginQr.from_text(base64_of(png_of())),
    "jpeg base64": lambda: LoginQr.from_text(base64_of(jpeg_of())),
    "base64 in lines": lambda: LoginQr.from_text("\r\n".join(re.findall(".{1,76}", base64_of(png_of())))),
    "base64 without padding": lambda: LoginQr.from_text(base64_of(png_of()).rstrip("=")),
    "url-safe base64": lambda: LoginQr.from_text(base64.urlsafe_b64encode(png_of()).decode()),
    "whatsapp text": lambda: LoginQr.from_text(f"  {TEXT}\n"),
    "json with text": lambda: LoginQr.from_answer(json.dumps({"message": "OK", "qr_string": TEXT}).encode()),
    "json with data uri": lambda: LoginQr.from_answer(
        json.dumps({"qr_string": f"data:image/png;base64,{base64_of(png_of())}", "code": None}).encode()
    ),
    "json string": lambda: LoginQr.from_answer(json.dumps(TEXT).encode()),
    "text body": lambda: LoginQr.from_answer(TEXT.encode()),
}


@pytest.fixture(params=FORMS, ids=lambda name: name.replace(" ", "-"))
def qr(request):
    return FORMS[request.param]()


def test_every_form_gives_a_png_that_can_be_scanned(qr):
    assert qr.png().startswith(b"\x89PNG")
    assert scanned(qr.png()) == TEXT


def test_every_form_can_be_scanned_from_a_terminal(qr):
    assert scanned_terminal(qr.terminal()) == TEXT
    assert max(map(len, qr.terminal().splitlines())) < 80


def test_every_form_gives_an_image_as_a_data_uri(qr):
    image, content_type = qr.image()
    assert content_type in ("image/png", "image/jpeg")
    assert qr.data_uri() == f"data:{content_type};base64,{base64_of(image)}"
    assert scanned(image) == TEXT


def test_every_form_gives_a_well_formed_svg(qr):
    root = ElementTree.fromstring(qr.svg())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(list(root)) >= 1


def test_no_form_shows_its_content(qr):
    assert repr(qr) == f"LoginQr(content_type={qr.content_type!r})"
    assert str(qr) == repr(qr)


def test_the_text_of_newer_whatsapp_versions_is_read():
    text = f"https://wa.me/settings/linked_devices#{TEXT}"
    assert scanned(LoginQr.from_text(text).png()) == text


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("size", [None, (400, 400), (257, 257)])
def test_pngs_of_every_kind_and_size_can_be_drawn_in_a_terminal(mode, size):
    assert scanned_terminal(LoginQr.from_image(png_of(mode=mode, size=size)).terminal()) == TEXT


def test_a_png_with_a_transparent_ground_can_be_drawn_in_a_terminal():
    drawn = io.BytesIO()
    segno.make_qr(TEXT, error="l").save(drawn, kind="png", scale=5, light=None)
    assert scanned_terminal(LoginQr.from_image(drawn.getvalue()).terminal()) == TEXT


def test_a_sixteen_bit_png_can_be_drawn_in_a_terminal():
    image = Image.open(io.BytesIO(png_of(mode="L"))).point(lambda level: level * 257, mode="I")
    saved = io.BytesIO()
    image.convert("I;16").save(saved, "PNG")
    assert scanned_terminal(LoginQr.from_image(saved.getvalue()).terminal()) == TEXT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "2@",
        "2@short,a,b",
        "2@" + "a" * 40,
        "2@" + "a" * 5000 + ",b,c",
        "2@" + "ä" * 40 + ",b,c",
        "already connected",
        "https://example.com/qr.png",
        "data:text/html;base64,PGI+",
        "data:image/svg+xml;utf8,<svg/>",
        "data:image/png;base64,",
        "data:image/png;base64,????",
        base64_of(b"GIF89a" + b"\0" * 50),
        base64_of(png_of()[:200]),
        base64_of(jpeg_of()[:200]),
        base64_of(b"\x89PNG\r\n\x1a\n"),
        "A" * (3 * MAX_IMAGE_BYTES),
    ],
    ids=range(18),
)
def test_a_text_that_is_no_qr_is_refused_without_showing_it(text):
    with pytest.raises(UnexpectedAnswerError) as refused:
        LoginQr.from_text(text)
    shown = str(refused.value) + repr(vars(refused.value))
    assert not text.strip() or text.strip()[:12] not in shown
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe\x00",
        b"<html>secret-content</html>",
        b'{"message": "secret-content"}',
        b'{"qr_string": null}',
        b'{"qr_string": ""}',
        b'{"qr_string": ["secret-content"]}',
        b'{"qr_string": "secret-content',
        b'{"a":' * 100_000,
        png_of()[:-40],
        png_of() + b"\0" * MAX_IMAGE_BYTES,
        jpeg_of()[:-80],
    ],
    ids=range(12),
)
def test_a_body_that_holds_no_qr_is_refused_without_showing_it(body):
    with pytest.raises(UnexpectedAnswerError) as refused:
        LoginQr.from_answer(body)
    assert "secret-content" not in str(refused.value)


def test_an_image_without_a_qr_is_not_drawn_and_the_error_says_what_to_do():
    for image in (Image.new("L", (200, 200), 255), Image.new("L", (200, 200), 0), Image.linear_gradient("L")):
        saved = io.BytesIO()
        image.save(saved, "PNG")
        with pytest.raises(UnexpectedAnswerError, match="Save the image"):
            LoginQr.from_image(saved.getvalue()).terminal()
        saved = io.BytesIO()
        image.save(saved, "JPEG")
        with pytest.raises(UnexpectedAnswerError, match="Save the image"):
            LoginQr.from_image(saved.getvalue()).terminal()


def test_a_damaged_jpeg_is_refused():
    damaged = b"\xff\xd8\xff" + b"\0" * 50 + b"\xff\xd9"
    with pytest.raises(UnexpectedAnswerError, match="damaged"):
        LoginQr.from_image(damaged).terminal()


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def raw_png(width, height, pixels, depth=8, colour=0, interlace=0):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    idat = chunk(b"IDAT", zlib.compress(pixels)) if pixels is not None else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + idat + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "image",
    [
        b"\x89PNG\r\n\x1a\n" + b"\0" * 40 + b"IEND",
        raw_png(0, 10, b""),
        raw_png(10, 10, bytes(110), colour=5),
        raw_png(10, 10, bytes(110), depth=3),
        raw_png(10, 10, None),
        raw_png(10, 10, bytes(50)),
        raw_png(10, 10, b"\x09" * 110),
        raw_png(10, 10, bytes(110)).replace(b"IDAT\x78", b"IDAT\x00"),
    ],
    ids=range(8),
)
def test_a_png_that_cannot_be_read_is_refused_with_the_reason(image):
    with pytest.raises(UnexpectedAnswerError, match="damaged"):
        LoginQr.from_image(image).terminal()


def test_an_interlaced_png_can_be_drawn_in_a_terminal():
    # Pillow writes no interlaced files. Adam7: where each pass begins, and the distance between its pixels.
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    code = Image.open(io.BytesIO(png_of())).convert("L")
    lines = b"".join(
        b"\0" + bytes(code.getpixel((x, y)) for x in range(left, code.width, across))
        for left, top, across, down in passes
        for y in range(top, code.height, down)
    )
    image = raw_png(code.width, code.height, lines, interlace=1)
    assert scanned_terminal(LoginQr.from_image(image).terminal()) == TEXT


def test_a_png_that_unpacks_to_more_than_its_size_is_read_no_further():
    with pytest.raises(UnexpectedAnswerError, match="no QR code was found"):
        LoginQr.from_image(raw_png(10, 10, bytes(50_000_000))).terminal()


def test_the_modules_are_those_of_the_code_whatever_form_it_came_in():
    drawn = [
        [bool(module) for module in row]
        for row in segno.make_qr(TEXT, error="l", boost_error=False).matrix_iter(border=4)
    ]
    assert all(LoginQr.from_text(text).modules() == drawn for text in (TEXT, base64_of(png_of()), base64_of(jpeg_of())))


def test_corners_without_timing_patterns_are_not_drawn_as_a_code():
    opened = Image.open(io.BytesIO(png_of())).convert("L")
    # Six pixels per module. This is row 6 below the quiet zone, between the corners.
    opened.paste(255, (12 * 6, 10 * 6, opened.width - 12 * 6, 11 * 6))
    saved = io.BytesIO()
    opened.save(saved, "PNG")
    with pytest.raises(UnexpectedAnswerError, match="no QR code was found"):
        LoginQr.from_image(saved.getvalue()).modules()


def test_an_image_with_too_many_pixels_is_refused_before_decoding():
    # Neither image has enough data to be decoded: decoding would refuse it as damaged.
    side = MAX_SIDE + 1
    for image in (raw_png(side, side, b""), jpeg_of(size=(side, side))[:2000] + b"\xff\xd9"):
        with pytest.raises(UnexpectedAnswerError, match=f"{side} × {side} pixels"):
            LoginQr.from_image(image)
    for side in (10_000, 100_000):  # above Pillow's own limits (the first only warns)
        with pytest.raises(UnexpectedAnswerError, match=r"too large|pixels"):
            LoginQr.from_image(raw_png(side, side, b""))
