"""Turns a webhook's bytes into plain dicts: JSON or a form, compressed or not, under any content type.

Anybody who learns a webhook's address can post here. Therefore:

- No body may take long to read.
- A body that cannot be read gives an empty result. The only exception that a body may raise is `TooMuchError`.
- A small body must not cost a worker much. So each event has limits for the number of JSON separators (counted before
  parsing), of visited objects and of reported events, and for the total length of their texts.
"""

from __future__ import annotations

import codecs
import json
import re
import zlib
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

MAX_UNPACKED_BYTES = 4_194_304
"""Maximum size in bytes of a compressed body after decompression. A larger one is not read."""
MAX_MARKS = 100_000
"""Maximum number of commas and opening brackets and braces in JSON that is parsed. A parsed value takes up to fifty
times as much memory as its text."""
MAX_NODES = 10_000
"""Maximum number of objects visited for one event."""
MAX_EVENTS = 500
"""Maximum number of events in one payload. One with more is not read, because a worker would take too long with it."""
MAX_IDS = 2_000
"""Maximum number of message ids that all parts of one event may name together."""
MAX_TEXT = 524_288
"""Maximum number of characters in all parts of one event together."""
MAX_FIELDS = 1000
"""Maximum number of fields in a form. A larger form is not read."""
MAX_KEY_DEPTH = 12
"""Maximum nesting of a form field's name, such as `data[key][id]`. A deeper field is left out."""

_MULTIPART = "multipart/form-data"
# curl --data and hand-written clients send a form under any of these content types.
_READ_AS_FORM = {"", "application/x-www-form-urlencoded", "text/plain", "application/octet-stream"}
_MAX_NAME = 1000
_BOUNDARY = re.compile(r'boundary="?([^";,\s]{1,200})"?', re.IGNORECASE)
_CHARSET = re.compile(r"""charset\s{0,5}=\s{0,5}["']?([\w.:\-]{1,40})""", re.IGNORECASE)
_FIELD_NAME = re.compile(rb'\bname="([^"\r\n]{1,200})"', re.IGNORECASE)
_FILE_NAME = re.compile(rb"\bfilename\*?=", re.IGNORECASE)
# Codecs of Python that are no charsets of texts, or that need more time per character for a longer text.
_NO_CHARSETS = {"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "utf_7", "mbcs", "oem"}
# The first bytes of gzip and zlib data, and the window bits to pass to zlib. 47 lets it detect the format itself.
_PACKED = ((b"\x1f\x8b", 47), (b"\x78\x01", 47), (b"\x78\x9c", 47), (b"\x78\xda", 47))


def read_payload(
    body: bytes, content_type: str, content_encoding: str = "", budget: Budget | None = None
) -> list[dict[str, Any]]:
    """Return the objects in `body`: usually one, several if it is a JSON list, none if it cannot be read.

    Args:
        body: The request's body, as it was received.
        content_type: The header Content-Type, which may be wrong.
        content_encoding: The header Content-Encoding, which may be wrong as well.
        budget: What is left of the limits for this event; by default a new budget.

    Raises:
        TooMuchError: The body exceeds a limit.
    """
    budget = budget or Budget()
    body = _unpacked(body, content_encoding)
    charset = _charset_of(body, content_type)
    if _begins_as_json(body, charset):
        return _objects(_json(body.decode(charset, "replace"), budget))
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == _MULTIPART:
        fields = _multipart_fields(body, content_type)
    elif media_type in _READ_AS_FORM:
        fields = _form_fields(body, charset)
    else:
        fields = []
    return [_nested(fields)] if fields else []


def read_json_object(text: str, budget: Budget) -> dict[str, Any] | None:
    """Parse `text` as a JSON object. Returns None if it is not one. Raises `TooMuchError` if it exceeds `budget`."""
    if not text.lstrip().startswith("{"):
        return None
    content = _json(text, budget)
    return content if isinstance(content, dict) else None


def _unpacked(body: bytes, content_encoding: str) -> bytes:
    """Return `body` decompressed, if its first bytes show that it is compressed.

    The header decides only about raw deflate, which cannot be recognised by its first bytes. Otherwise the header is
    not reliable: some proxies decompress without removing it, others remove it without decompressing.
    """
    window = next((window for start, window in _PACKED if body.startswith(start)), 0)
    if not window and content_encoding.strip().lower() == "deflate":
        window = -15
    if not window:
        return body
    unpacking = zlib.decompressobj(window)
    try:
        content = unpacking.decompress(body, MAX_UNPACKED_BYTES + 1)
    except zlib.error:
        return body
    if len(content) > MAX_UNPACKED_BYTES:
        raise TooMuchError(f"It is more than {MAX_UNPACKED_BYTES} bytes long when decompressed.")
    return content


def _charset_of(body: bytes, content_type: str) -> str:
    """Return the name of the codec for a body's text: by its byte order mark, else the header, else its zero bytes."""
    if body.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    named = _CHARSET.search(content_type[:1000])
    if named is not None:
        try:
            codec = codecs.lookup(named[1])
        except (LookupError, ValueError):
            codec = None
        if codec is not None and _is_charset(codec):
            return codec.name
    # JSON begins with two ASCII characters, so that zero bytes among the first four show the encoding (RFC 4627).
    return json.detect_encoding(body[:4]) if b"\x00" in body[:4] and body[:4].strip(b"\x00") else "utf-8"


def _is_charset(codec: codecs.CodecInfo) -> bool:
    return getattr(codec, "_is_text_encoding", False) and codec.name.replace("-", "_") not in _NO_CHARSETS


def _begins_as_json(body: bytes, charset: str) -> bool:
    start = body[:1000].decode(charset, "ignore").lstrip("\ufeff \t\r\n")
    return start[:1] in ("{", "[") or (not start and body[:64_000].lstrip()[:1] in (b"{", b"["))


def _json(text: str, budget: Budget) -> Any:
    budget.spend_marks(text)
    try:
        return json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        # ValueError: it is not JSON, or has an integer of thousands of digits. RecursionError: it is nested too deep.
        return None


def _objects(content: Any) -> list[dict[str, Any]]:
    return [item for item in (content if isinstance(content, list) else [content]) if isinstance(item, dict)]


def _form_fields(body: bytes, charset: str) -> list[tuple[str, str]]:
    try:
        # A form is ASCII text. The charset applies to its percent-encoded bytes.
        text = body.decode("utf-8" if charset in ("utf-8-sig", "ascii") else charset, "replace").removeprefix("\ufeff")
        return parse_qsl(text, keep_blank_values=True, encoding=charset, errors="replace", max_num_fields=MAX_FIELDS)
    except ValueError:
        return []


def _multipart_fields(body: bytes, content_type: str) -> list[tuple[str, str]]:
    """Return the fields that are not files.

    Django's own parser is not used, because it obeys the site's settings and raises exceptions.
    """
    boundary = _BOUNDARY.search(content_type)
    if boundary is None:
        return []
    separator = b"--" + boundary[1].encode("utf-8", "replace")
    if body.count(separator) > MAX_FIELDS:
        return []
    fields = []
    for part in body.split(separator)[1:]:
        head, _, content = part.partition(b"\r\n\r\n")
        name = _FIELD_NAME.search(head[:1000])
        if name is not None and not _FILE_NAME.search(head[:1000]):
            text = content.removesuffix(b"\r\n").decode("utf-8", "replace")
            fields.append((name[1].decode("utf-8", "replace"), text))
    return fields


def _nested(fields: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return a form's fields as a nested dict.

    PHP's notation `data[key][id]=…` becomes objects in objects. An object whose keys are all numbers becomes a list.
    """
    payload: dict[str, Any] = {}
    for name, value in fields:
        path = _path_of(name)
        if path is None:
            continue
        inner = payload
        for step in path[:-1]:
            deeper = inner.get(step)
            if not isinstance(deeper, dict):
                deeper = inner[step] = {}
            inner = deeper
        # A name such as `ids[]` may come several times. Each value gets the next number as its key.
        last = path[-1] if path[-1] or len(path) == 1 else str(len(inner))
        inner[last] = value
    return {name: _with_lists(value) for name, value in payload.items()}


def _path_of(name: str) -> list[str] | None:
    """Return the steps of a name like `data[key][id]`; None if it is nested too deep.

    A name of another form is a single step.
    """
    head, bracket, rest = name.partition("[")
    if not bracket or not head or not rest.endswith("]") or len(name) > _MAX_NAME:
        return [name]
    steps = rest[:-1].split("][")
    if any("[" in step or "]" in step for step in steps):
        return [name]
    return [head, *steps] if len(steps) <= MAX_KEY_DEPTH else None


def _with_lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {name: _with_lists(item) for name, item in value.items()}
    if inner and all(name.isascii() and name.isdigit() for name in inner):
        return list(inner.values())
    return inner


class TooMuchError(Exception):
    """A payload exceeds a limit. The exception's text names the limit, and quotes nothing of the payload."""


class Budget:
    """What is left of the limits for one event. Each method raises `TooMuchError` if its limit is exceeded."""

    def __init__(self) -> None:
        self._marks = MAX_MARKS
        self._nodes = MAX_NODES
        self._events = MAX_EVENTS

    def spend_marks(self, text: str) -> None:
        """Count the separators of a JSON text before it is parsed."""
        self._marks -= text.count(",") + text.count("{") + text.count("[")
        if self._marks < 0:
            raise TooMuchError(f"It contains more than {MAX_MARKS} values.")

    def spend_node(self) -> None:
        """Count an object that is visited."""
        self._nodes -= 1
        if self._nodes < 0:
            raise TooMuchError(f"It contains more than {MAX_NODES} nested objects.")

    def spend_event(self) -> None:
        """Count a possible event. It counts even if it turns out to be none, because examining it costs the same."""
        self._events -= 1
        if self._events < 0:
            raise TooMuchError(f"It contains more than {MAX_EVENTS} events.")
