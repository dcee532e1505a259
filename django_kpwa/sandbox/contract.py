"""The server side of the gateway's contract: views that offer a `Gateway` through the documented HTTP shapes.

Every answer must match `openapi.yaml` beside this file. The views run under the sandbox's own settings, so they need no
protection against a host's middleware.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias
from urllib.parse import urlsplit

from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, re_path

from ..exceptions import BadRequestError, UnauthorizedError
from ..gateway.base import Gateway, ServiceStatus, SessionStatus
from . import answers
from .bodies import read_fields

Resolve: TypeAlias = Callable[[str], "Gateway | None"]


def urls(resolve: Resolve) -> list[URLPattern]:
    """URL patterns of the eight documented paths, to be included under the base path (`/backend/`).

    `resolve` returns the gateway of an API key, or None for an unknown key. It is called once per request, and the
    gateway is closed when the request has been answered.
    """

    def view(method: str, operation: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        def answer(request: HttpRequest, **arguments: str) -> HttpResponse:
            gateway = None
            try:
                gateway = _authenticated_gateway(request, resolve)
                if request.method != method:
                    return answers.method_not_allowed(request.method or "", method)
                return operation(gateway, request, **arguments)
            except Exception as error:
                return answers.failure(error)
            finally:
                if gateway is not None:
                    gateway.close()

        return answer

    return [
        path("openapi/wa/restart", view("GET", _restart)),
        path("openapi/wa/status", view("POST", _status)),
        path("openapi/wa/login-qr", view("POST", _login_qr)),
        # Not <path:…>, which matches no line breaks: by the reference, all characters but digits are removed.
        re_path(r"^openapi/wa/check-number/(?P<phone_number>[\s\S]+)\Z", view("GET", _check_number)),
        path("openapi/wa/message", view("POST", _message)),
        path("openapi/wa/message-group", view("POST", _group_message)),
        path("openapi/wa/webhook", view("POST", _webhook)),
        path("openapi/wa/webhook/reset", view("GET", _webhook_reset)),
        re_path(r"", answers.not_found),
    ]


def _authenticated_gateway(request: HttpRequest, resolve: Resolve) -> Gateway:
    """The gateway of the request's API key. Raises `UnauthorizedError`, which must not contain the key."""
    key = request.headers.get("X-API-KEY", "").strip()
    if not key:
        raise UnauthorizedError("The header X-API-KEY is missing.")
    gateway = resolve(key)
    if gateway is None:
        raise UnauthorizedError("The API key is not valid.")
    return gateway


def _restart(gateway: Gateway, request: HttpRequest) -> HttpResponse:
    status = gateway.restart()
    return answers.service_status(status, "qr" if status.session_status is SessionStatus.QR else "ready")


def _status(gateway: Gateway, request: HttpRequest) -> HttpResponse:
    status = gateway.get_status()
    return answers.service_status(status, _link_word(status))


def _login_qr(gateway: Gateway, request: HttpRequest) -> HttpResponse:
    response_as = read_fields(request).get("responseAs")
    if response_as not in ("image", "string", None):
        raise _invalid("responseAs must be image or string.")
    login_qr = gateway.get_login_qr()
    if _is_image_wanted(response_as, request.headers.get("Accept", "")):
        return HttpResponse(login_qr.png(), content_type="image/png")
    return answers.success("Scan this QR code with WhatsApp.", qr_string=login_qr.data_uri())


def _check_number(gateway: Gateway, request: HttpRequest, phone_number: str) -> HttpResponse:
    check = gateway.check_number(phone_number)
    return answers.success(check.message, check.code, is_registered=check.is_registered)


def _message(gateway: Gateway, request: HttpRequest) -> HttpResponse:
    fields = read_fields(request)
    return answers.sent(gateway.send_message(_required(fields, "phoneNumber"), *_content(fields)))


def _group_message(gateway: Gateway, request: HttpRequest) -> HttpResponse:
    fields = read_fields(request)
    return answers.sent(gateway.send_group_message(_required(fields, "groupName"), *_content(fields)))


def _webhook(gateway: Gateway, request: HttpRequest) -> HttpResponse:
    url = _required(read_fields(request), "webhook")
    _must_be_http("webhook", url)
    answer = gateway.set_webhook(url)
    # This is the only operation whose code is documented as an integer.
    return answers.success(answer.message, answer.code if isinstance(answer.code, int) else None)


def _webhook_reset(gateway: Gateway, request: HttpRequest) -> HttpResponse:
    status = gateway.reset_webhook()
    return answers.service_status(status, _link_word(status))


def _is_image_wanted(response_as: str | None, accept: str) -> bool:
    """True if the QR code is answered as an image: if the client asks for one and accepts it.

    The reference's own sample asks for an image but accepts only JSON, so a client that accepts only JSON gets JSON.
    """
    json, image = _accepted_quality(accept, "application/json"), _accepted_quality(accept, "image/png")
    if response_as == "image":
        return image >= json
    return not response_as and image > 0 and json == 0


def _accepted_quality(accept: str, media_type: str) -> float:
    """The quality of `media_type` in an Accept header (RFC 9110, 12.5.1), from 0 (not accepted) to 1.

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
    # The reference has only two words, so any state that is not known to be linked is answered as `qr`.
    return "connected" if status.session_status is SessionStatus.CONNECTED else "qr"


def _content(fields: dict[str, str]) -> tuple[str, str]:
    """Text and image URL. The reference makes both optional for a number; `Gateway` refuses a message with neither."""
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
