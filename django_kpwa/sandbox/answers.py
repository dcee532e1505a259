"""Builds the documented answers. Only this module turns a gateway's failure into an HTTP status.

| failure | answer |
|---|---|
| `BadRequestError` | 400, with `errors` if there are any |
| `InvalidMessageError`: refused before the gateway was asked | 400 with `errors` |
| `UnauthorizedError` | 401 |
| `RateLimitedError` | 429 with Retry-After: not in the reference, but common for services of this kind |
| `GatewayTimeoutError`, `ConnectionLostError`: unknown if it was carried out | 504 |
| `ServerError`, every other failure | 500 |
"""

from __future__ import annotations

import math
import traceback
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse

from ..exceptions import (
    BadRequestError,
    ConnectionLostError,
    GatewayError,
    GatewayTimeoutError,
    InvalidMessageError,
    RateLimitedError,
    UnauthorizedError,
)
from ..gateway.base import SentMessage, ServiceStatus
from ..logs import get_logger, lines_of

SUCCESS_CODE = 20001
"""The only result code that the reference names."""

logger = get_logger(__name__)


def success(message: str, code: Any = None, **fields: Any) -> JsonResponse:
    """A 200 with the gateway's message, the operation's `fields`, and the gateway's code or else `SUCCESS_CODE`."""
    return JsonResponse({"message": message or "OK", **fields, "code": SUCCESS_CODE if code is None else code})


def service_status(status: ServiceStatus, word: str) -> JsonResponse:
    """A 200 for status, restart or webhook reset. `word` is a status word that the reference has for the operation."""
    return success(status.message, status.code, status=word)


def sent(message: SentMessage) -> JsonResponse:
    """A 200 for a send to a number or a group."""
    result = {
        "id": message.id,
        "body": message.body,
        "from": message.from_number,
        "to": message.to,
        "media_url": message.media_url,
        "created_at": message.created_at,
    }
    return success(message.message, message.code, result=result)


def not_found(request: HttpRequest) -> JsonResponse:
    """The view for all paths that are not documented."""
    return JsonResponse({"message": "There is no such operation."}, status=404)


def method_not_allowed(method: str, allowed: str) -> JsonResponse:
    message = f"The operation does not take {method}."
    return JsonResponse({"message": message}, status=405, headers={"Allow": allowed})


def failure(error: Exception) -> HttpResponse:
    """The answer for an exception that an operation raised."""
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
    # The message of an unknown exception may hold a number or a key, so neither the answer nor the log repeats it.
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
