"""Reads request bodies by their content rather than by their content type.

The reference's samples send JSON text under a form content type, so a JSON object is read as such under any content
type. A body that cannot be read gives a `BadRequestError`, never a 500.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.http import HttpRequest
from django.http.multipartparser import MultiPartParserError
from django.http.request import UnreadablePostError

from ..exceptions import BadRequestError

_FORM = "application/x-www-form-urlencoded"
_MULTIPART = "multipart/form-data"
_JSON = "application/json"
# curl --data and hand-written clients send a form under any of these content types.
_READ_AS_FORM = {"", _FORM, "text/plain"}
_MAX_FIELDS = 100


def read_fields(request: HttpRequest) -> dict[str, str]:
    """The body's fields as text. If a form repeats a field, the last one counts; a JSON null counts as not given.

    Raises `BadRequestError` for a body that is broken, too big, or of an unsupported type.
    """
    raw = _raw_body(request)
    content_type = request.content_type or ""
    if content_type == _MULTIPART:
        return _multipart_fields(request)
    if not raw.strip():
        return {}
    if raw.lstrip().startswith(b"{") or content_type == _JSON:
        return _json_fields(raw)
    if content_type in _READ_AS_FORM:
        return _form_fields(raw)
    raise _unreadable(f"A body of the type {content_type[:100]} cannot be read: send a form or JSON.")


def _raw_body(request: HttpRequest) -> bytes:
    try:
        return request.body
    except RequestDataTooBig:
        raise _unreadable("The body is too big.") from None
    except UnreadablePostError:
        raise _unreadable("The body ended before its announced length.") from None


def _multipart_fields(request: HttpRequest) -> dict[str, str]:
    try:
        return {name: str(value) for name, value in request.POST.items()}
    except (MultiPartParserError, SuspiciousOperation, ValueError):
        raise _unreadable("The multipart body is broken.") from None


def _form_fields(raw: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(raw.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise _unreadable("The form is not UTF-8, or has too many fields.") from None
    return dict(pairs)


def _json_fields(raw: bytes) -> dict[str, str]:
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        raise _unreadable("The body is not valid JSON.") from None
    if not isinstance(content, dict):
        raise _unreadable("The JSON body must be an object.")
    return {name: _json_text(name, value) for name, value in content.items() if value is not None}


def _json_text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # for example a phone number written without quotes
    raise _unreadable(f"{name[:100]} must be a string.")


def _unreadable(reason: str) -> BadRequestError:
    return BadRequestError("The request could not be read.", errors=(reason,))
