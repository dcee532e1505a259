"""From a webhook's bytes to plain dicts, whatever the bytes are: JSON or a form, under any content type.

Anybody who learns a webhook's address can post here. Nothing in a body raises, and nothing takes long: what cannot be
read is simply nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

MAX_FIELDS = 1000
"""A form with more fields is not read."""

_MULTIPART = "multipart/form-data"
# curl --data and hand-written clients send a form as any of these.
_READ_AS_FORM = {"", "application/x-www-form-urlencoded", "text/plain", "application/octet-stream"}
_BRACKETS = re.compile(r"([^\[\]]{1,100})\[([^\[\]]{0,100})\]")
_BOUNDARY = re.compile(r'boundary="?([^";,\s]{1,200})"?', re.IGNORECASE)
_FIELD_NAME = re.compile(rb'\bname="([^"\r\n]{1,200})"', re.IGNORECASE)
_FILE_NAME = re.compile(rb"\bfilename\*?=", re.IGNORECASE)


def read_payload(body: bytes, content_type: str) -> list[dict[str, Any]]:
    """The objects in `body`: one as a rule, several where it is a JSON list, none where it cannot be read."""
    if body.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
        return _objects(_json(body))
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == _MULTIPART:
        fields = _multipart_fields(body, content_type)
    elif media_type in _READ_AS_FORM:
        fields = _form_fields(body)
    else:
        fields = []
    return [_nested(fields)] if fields else []


def read_json_object(text: str) -> dict[str, Any] | None:
    """The JSON object that `text` is, or None."""
    if not text.lstrip().startswith("{"):
        return None
    content = _json(text.encode("utf-8", "surrogatepass"))
    return content if isinstance(content, dict) else None


def _json(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        # ValueError: not JSON, or an integer of thousands of digits. RecursionError: nested thousands deep.
        return None


def _objects(content: Any) -> list[dict[str, Any]]:
    return [item for item in (content if isinstance(content, list) else [content]) if isinstance(item, dict)]


def _form_fields(body: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            body.decode("utf-8", "replace"), keep_blank_values=True, errors="replace", max_num_fields=MAX_FIELDS
        )
    except ValueError:
        return []


def _multipart_fields(body: bytes, content_type: str) -> list[tuple[str, str]]:
    """The fields that are no files. (Django's own parser obeys the host's settings, and raises.)"""
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
    """A form's fields, with PHP's `data[from]=…` made an object `data`."""
    payload: dict[str, Any] = {}
    for name, value in fields:
        brackets = _BRACKETS.fullmatch(name)
        if brackets is None:
            payload[name] = value
            continue
        inner = payload.get(brackets[1])
        if not isinstance(inner, dict):
            inner = payload[brackets[1]] = {}
        inner[brackets[2]] = value
    return payload
