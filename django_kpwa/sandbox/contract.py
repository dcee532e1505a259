"""The server side of the gateway's contract: views that offer a `Gateway` over HTTP, as the reference documents it.

Every answer must match `openapi.yaml` beside this file. The views run under the sandbox's own settings, so they need no
protection against a site's middleware.

The content of a body decides how it is read, not its content type: the reference's samples send JSON text under the
content type of a form. A body that cannot be read gives a `BadRequestError`, never a 500.
"""

from __future__ import annotations

import json
import math
import traceback
from collections.abc import Callable
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, urlsplit

from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.multipartparser import MultiPartParserError
from django.http.request import UnreadablePostError
from django.urls import URLPattern, path, re_path

from ..exceptions import (
    BadRequestError,
    ConnectionLostError,
    GatewayError,
    GatewayTimeoutError,
    InvalidMessageError,
    RateLimitedError,
    UnauthorizedError,
)
from ..gateway.base import Gateway, SentMessage, ServiceStatus, SessionStatus
from ..logs import get_logger, lines_of

SUCCESS_CODE = 20001
"""The only result code that the reference names."""
Resolve: TypeAlias = Callable[[str], "Gateway | None"]

_FORM = "application/x-www-form-urlencoded"
_MULTIPART = "multipart/form-data"
_JSON = "application/json"
# A body is read as a form under any of these content types, because curl --data and hand-written clients send them.
_READ_AS_FORM = {"", _FORM, "text/plain"}
_MAX_FIELDS = 100

logger = get_logger(__name__)


def urls(resolve: Resolve) -> list[URLPattern]:
    """Return the URL patterns of the eight documented paths, to be included under the base path (`/backend/`).

    `resolve` returns the gateway of an API key, or None for an unknown key. It is called once per request, and the
    gateway is closed after the request was answered.
    """

    def view(method: str, operation: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        def answer(request: HttpRequest, **arguments: str) -> HttpResponse:
            gateway = None
            try:
                gateway = _authenticated_gateway(request, resolve)
                if request.method != method:
                    return _method_not_allowed(request.method or "", method)
                return operation(gateway, request, **arguments)
            except Exception as error:
                return _failure(error)
            finally:
                if gateway is not None:
                    gateway.close()

        return answer

    return [
        path("openapi/wa/restart", view("GET", _restart)),
        path("openapi/wa/status", view("POST", _status)),
        path("openapi/wa/login-qr", view("POST", _login_qr)),
        # <path:…> matches no line breaks. According to the reference, all characters but digits are removed.
        re_path(r"^openapi/wa/check-number/(?P<phone_number>[\s\S]+)\Z", view("GET", _check_number)),
        path("openapi/wa/message", view("POST", _message)),
        path("openapi/wa/message-group", view("POST", _group_message)),
        path("openapi/wa/webhook", view("POST", _webhook)),
        path("openapi/wa/webhook/reset", view("GET", _webhook_reset)),
        re_path(r"", _not_found),
    ]


def _authenticated_gateway(request: HttpRequest, resolve: Resolve) -> Gateway:
    """Return the gateway of the request's API key.

    Raises `UnauthorizedError`, which must not contain the key, if the key is missing or unknown.
    """
    key = request.headers.get("X-API-KEY", "").strip()
    if not key:
        raise UnauthorizedError("The header X-API-KEY is missing.")
    gateway = resolve(key)
    if gateway is None:
        raise UnauthorizedError("The API key is not valid.")
    return gateway


def _restart(gateway: Gateway, request: HttpRequest) -> HttpResponse:
    status = gateway.restart()
    return _service_status(status, "qr" if status.session_status is SessionStatus.QR else "ready")


def _status(gateway: Gateway, request: HttpRequest) -> HttpResponse:
    status = gateway.get_status()
    return _service_status(status, _link_word(status))


def _login_qr(gateway: Gateway, request: HttpRequest) -> HttpResponse:
    response_as = _read_fields(request).get("responseAs")
    if response_as not in ("image", "string", None):
        raise _invalid("responseAs must be image or string.")
    login_qr = gateway.get_login_qr()
    if _is_image_wanted(response_as, request.headers.get("Accept", "")):
        return HttpResponse(login_qr.png(), content_type="image/png")
    return _success("Scan this QR code with WhatsApp.", qr_string=login_qr.data_uri())


def _check_number(gateway: Gateway, request: HttpRequest, phone_number: str) -> HttpResponse:
    check = gateway.check_number(phone_number)
    return _success(check.message, check.code, is_registered=check.is_registered)


def _message(gateway: Gateway, request: HttpRequest) -> HttpResponse:
    fields = _read_fields(request)
    return _sent(gateway.send_message(_required(fields, "phoneNumber"), *_content(fields)))


def _group_message(gateway: Gateway, request: HttpRequest) -> HttpResponse:
    fields = _read_fields(request)
    return _sent(gateway.send_group_message(_required(fields, "groupName"), *_content(fields)))


def _webhook(gateway: Gateway, request: HttpRequest) -> HttpResponse:
    url = _required(_read_fields(request), "webhook")
    _must_be_http("webhook", url)
    answer = gateway.set_webhook(url)
    # Only for this operation does the reference say that the code is an integer.
    return _success(answer.message, answer.code if isinstance(answer.code, int) else None)


def _webhook_reset(gateway: Gateway, request: HttpRequest) -> HttpResponse:
    status = gateway.reset_webhook()
    return _service_status(status, _link_word(status))


def _is_image_wanted(response_as: str | None, accept: str) -> bool:
    """True if the client asks for the QR code as an image and accepts an image.

    The reference's own sample asks for an image but accepts only JSON. Such a client gets JSON.
    """
    as_json, as_image = _accepted_quality(accept, "application/json"), _accepted_quality(accept, "image/png")
    if response_as == "image":
        return as_image >= as_json
    return not response_as and as_image > 0 and as_json == 0


def _accepted_quality(accept: str, media_type: str) -> float:
    """Return the quality of `media_type` in an Accept header (RFC 9110, 12.5.1), from 0 (not accepted) to 1.

    The most specific matching range decides. Without a header, everything is accepted.
    """
    if not accept.strip():
        return 1.0
    ranges = {media_type: 3, f"{media_type.partition('/')[0]}/*": 2, "*/*": 1}
    best, quality = 0, 0.0
    for given in accept.lower().split(","):
        name, *parameters = (part.strip() for part in given.split(";"))
        if ranges.get(name, 0) > best:
            best, quality = ranges[name], _quality(parameters)
    return quality


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 1.0
    return 1.0


def _link_word(status: ServiceStatus) -> str:
    # The reference has only two words for this. Any state that is not known to be linked is answered as `qr`.
    return "connected" if status.session_status is SessionStatus.CONNECTED else "qr"


def _content(fields: dict[str, str]) -> tuple[str, str]:
    """Return the text and the image URL.

    By the reference, both are optional for a message to a number. `Gateway` refuses a message with neither.
    """
    text, image_url = fields.get("message", ""), fields.get("imageUrl", "").strip()
    if image_url:
        _must_be_http("imageUrl", image_url)
    return text, image_url


def _required(fields: dict[str, str], name: str) -> str:
    value = fields.get(name, "").strip()
    if not value:
        raise _invalid(f"{name} must be given.")
    return value


def _must_be_http(name: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise _invalid(f"{name} must be an http or https URL.")


def _invalid(reason: str) -> BadRequestError:
    return BadRequestError("The request is not valid.", errors=(reason,))


# Answers


def _success(message: str, code: Any = None, **fields: Any) -> JsonResponse:
    """Return a 200 with the gateway's message, its code (or else `SUCCESS_CODE`), and the operation's `fields`."""
    return JsonResponse({"message": message or "OK", **fields, "code": SUCCESS_CODE if code is None else code})


def _service_status(status: ServiceStatus, word: str) -> JsonResponse:
    """Return a 200 for status, restart or webhook reset. `word`: a status word of the reference for the operation."""
    return _success(status.message, status.code, status=word)


def _sent(message: SentMessage) -> JsonResponse:
    """Return a 200 for a send to a number or a group."""
    result = {
        "id": message.id,
        "body": message.body,
        "from": message.from_number,
        "to": message.to,
        "media_url": message.media_url,
        "created_at": message.created_at,
    }
    return _success(message.message, message.code, result=result)


def _not_found(request: HttpRequest) -> JsonResponse:
    """The view for all paths that are not documented."""
    return JsonResponse({"message": "There is no such operation."}, status=404)


def _method_not_allowed(method: str, allowed: str) -> JsonResponse:
    message = f"The operation does not support {method}."
    return JsonResponse({"message": message}, status=405, headers={"Allow": allowed})


def _failure(error: Exception) -> HttpResponse:
    """Return the answer for an exception that an operation raised.

    | failure | answer |
    |---|---|
    | `BadRequestError` | 400, with `errors` if there are any |
    | `InvalidMessageError`: refused before the gateway was called | 400 with `errors` |
    | `UnauthorizedError` | 401 |
    | `RateLimitedError` | 429 with Retry-After: not in the reference, but common for services of this kind |
    | `GatewayTimeoutError`, `ConnectionLostError`: unknown if it was carried out | 504 |
    | `ServerError`, every other failure | 500 |
    """
    if isinstance(error, BadRequestError):
        return _bad_request(error)
    if isinstance(error, InvalidMessageError):
        return _bad_request(BadRequestError("The request is not valid.", errors=(error.reason,)))
    if isinstance(error, UnauthorizedError):
        return JsonResponse({"message": error.words}, status=401)
    if isinstance(error, RateLimitedError):
        return _rate_limited(error)
    if isinstance(error, (GatewayTimeoutError, ConnectionLostError)):
        return JsonResponse({"message": error.words}, status=504)
    if isinstance(error, GatewayError):
        return _server_error(error.words, "; ".join(error.errors) or error.words, error.code)
    # The text of an unknown exception may contain a number or a key, so neither the answer nor the log repeats it.
    frames = "".join(traceback.format_tb(error.__traceback__))
    logger.error("A gateway operation raised %s.\n%s", type(error).__name__, lines_of(frames))
    return _server_error("Internal server error", type(error).__name__, None)


def _bad_request(error: BadRequestError) -> JsonResponse:
    content: dict[str, Any] = {"message": error.words, "code": error.code}
    if error.errors:
        content["errors"] = list(error.errors)
    return JsonResponse(content, status=400)


def _rate_limited(error: RateLimitedError) -> JsonResponse:
    answer = JsonResponse({"message": error.words, "code": error.code}, status=429)
    if error.retry_after_seconds is not None:
        answer["Retry-After"] = str(math.ceil(error.retry_after_seconds))
    return answer


def _server_error(message: str, error: str, code: Any) -> JsonResponse:
    return JsonResponse({"message": message, "error": error, "code": code}, status=500)


# Bodies of requests


def _read_fields(request: HttpRequest) -> dict[str, str]:
    """Return the body's fields as text. If a form repeats a field, the last one counts. A JSON null counts as missing.

    Raises `BadRequestError` for a body that is broken, too large, or of an unsupported type.
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
        raise _unreadable("The body is too large.") from None
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
