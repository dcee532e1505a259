"""Turns a webhook's bytes into plain dicts: JSON or a form, compressed or not, under any content type.

Anybody who learns a webhook's address can post here. So no body may take long, and none may raise anything but
`TooMuchError`: a body that cannot be read gives an empty result. Nor may processing one cost a worker much more than
its size suggests, so each event is limited as a whole: the number of JSON separators before it is parsed, the objects
visited, the events it reports, and the total length of their texts.
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
"""Maximum size in bytes of a compressed body after decompression; a larger one is not read."""
MAX_MARKS = 100_000
"""Maximum number of commas, brackets and braces in JSON that is parsed: a parsed value takes fifty times its bytes."""
MAX_NODES = 10_000
"""Maximum number of objects visited for one event."""
MAX_EVENTS = 500
"""Maximum number of events in one payload; one with more is not read: acting on it would exceed a worker's time."""
MAX_IDS = 2_000
"""Maximum number of message ids that all parts of one event may name together."""
MAX_TEXT = 524_288
"""Maximum number of characters in all parts of one event together."""
MAX_FIELDS = 1000
"""Maximum number of fields in a form; a larger form is not read."""
MAX_KEY_DEPTH = 12
"""Maximum nesting of a form field's name (`data[key][id]`); a deeper field is left out."""

_MULTIPART = "multipart/form-data"
# curl --data and hand-written clients send a form under any of these content types.
_READ_AS_FORM = {"", "application/x-www-form-urlencoded", "text/plain", "application/octet-stream"}
_MAX_NAME = 1000
_BOUNDARY = re.compile(r'boundary="?([^";,\s]{1,200})"?', re.IGNORECASE)
_CHARSET = re.compile(r"""charset\s{0,5}=\s{0,5}["']?([\w.:\-]{1,40})""", re.IGNORECASE)
_FIELD_NAME = re.compile(rb'\bname="([^"\r\n]{1,200})"', re.IGNORECASE)
_FILE_NAME = re.compile(rb"\bfilename\*?=", re.IGNORECASE)
# Python codecs that are not charsets of texts, or whose decoding time grows faster than the text.
_NO_CHARSETS = {"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "utf_7", "mbcs", "oem"}
# Signatures of gzip and zlib, with zlib's window bits: 47 detects the format by its header.
_PACKED = ((b"\x1f\x8b", 47), (b"\x78\x01", 47), (b"\x78\x9c", 47), (b"\x78\xda", 47))


def read_payload(
    body: bytes, content_type: str, content_encoding: str = "", budget: Budget | None = None
) -> list[dict[str, Any]]:
    """The objects in `body`: usually one, several if it is a JSON list, none if it cannot be read.

    `content_type` and `content_encoding` are the headers as they came; neither is trusted. Raises `TooMuchError` if the
    body exceeds a limit.
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
    """`text` parsed as a JSON object; None if it is not one. Raises `TooMuchError`."""
    if not text.lstrip().startswith("{"):
        return None
    content = _json(text, budget)
    return content if isinstance(content, dict) else None


def _unpacked(body: bytes, content_encoding: str) -> bytes:
    """`body` decompressed, decided by its first bytes rather than by its header.

    Proxies decompress without removing the header, and remove it without decompressing. Only raw deflate, which has no
    signature, needs the header.
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
    """The codec of a body's text: by its byte order mark, else by the header, else by its zero bytes."""
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
        # ValueError: not JSON, or an integer of thousands of digits. RecursionError: nested thousands deep.
        return None


def _objects(content: Any) -> list[dict[str, Any]]:
    return [item for item in (content if isinstance(content, list) else [content]) if isinstance(item, dict)]


def _form_fields(body: bytes, charset: str) -> list[tuple[str, str]]:
    try:
        # The form itself is ASCII: its charset is that of the percent-encoded bytes.
        text = body.decode("utf-8" if charset in ("utf-8-sig", "ascii") else charset, "replace").removeprefix("\ufeff")
        return parse_qsl(text, keep_blank_values=True, encoding=charset, errors="replace", max_num_fields=MAX_FIELDS)
    except ValueError:
        return []


def _multipart_fields(body: bytes, content_type: str) -> list[tuple[str, str]]:
    """The fields that are not files. Django's own parser is not used: it obeys the host's settings, and raises."""
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
    """A form's fields as a nested dict: PHP's `data[key][id]=…` becomes objects, numbered keys become a list."""
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
        # `ids[]` may come several times: each is given the next number.
        last = path[-1] if path[-1] or len(path) == 1 else str(len(inner))
        inner[last] = value
    return {name: _with_lists(value) for name, value in payload.items()}


def _path_of(name: str) -> list[str] | None:
    """The steps of a name like `data[key][id]`; a name in another form is a single step. None if it is too deep."""
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
    """A payload exceeds a limit. The message names the limit and quotes nothing of the payload."""


class Budget:
    """What is left of the limits for one event. The methods raise `TooMuchError` when a limit is exceeded."""

    def __init__(self) -> None:
        self._marks = MAX_MARKS
        self._nodes = MAX_NODES
        self._events = MAX_EVENTS

    def spend_marks(self, text: str) -> None:
        """Count the separators of a JSON text that is about to be parsed."""
        self._marks -= text.count(",") + text.count("{") + text.count("[")
        if self._marks < 0:
            raise TooMuchError(f"It contains more than {MAX_MARKS} values.")

    def spend_node(self) -> None:
        """Count an object that is visited."""
        self._nodes -= 1
        if self._nodes < 0:
            raise TooMuchError(f"It contains more than {MAX_NODES} nested objects.")

    def spend_event(self) -> None:
        """Count a possible event, even if it turns out not to be one: examining it costs the same."""
        self._events -= 1
        if self._events < 0:
            raise TooMuchError(f"It contains more than {MAX_EVENTS} events.")
