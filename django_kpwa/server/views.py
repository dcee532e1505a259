"""One DRF view an operation. Fields are read, the gateway is called, its answer or failure takes its documented shape.

Every attribute that DRF fills from the host's `REST_FRAMEWORK` setting is pinned in `GatewayView`: a site that demands
a session, throttles, versions or renders HTML by default must not change what a client of the contract sees.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt
from rest_framework.exceptions import MethodNotAllowed
from rest_framework.metadata import SimpleMetadata
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import JSONParser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from ..exceptions import BadRequestError
from ..gateway.base import Gateway, ServiceStatus, SessionStatus
from . import answers
from .authentication import Resolve, authenticated_gateway
from .bodies import read_fields
from .negotiation import accepted_quality

ViewFunction: TypeAlias = Callable[..., HttpResponseBase]


class GatewayView(APIView):
    """Authenticates, finds the key's gateway, and turns whatever is raised into a documented answer."""

    resolve: Resolve | None = None
    gateway: Gateway | None = None

    renderer_classes = (JSONRenderer,)
    parser_classes = (JSONParser,)
    authentication_classes = ()
    permission_classes = ()
    throttle_classes = ()
    content_negotiation_class = DefaultContentNegotiation
    metadata_class = SimpleMetadata
    versioning_class = None
    schema = None

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return super().dispatch(request, *args, **kwargs)
        finally:
            if self.gateway is not None:
                self.gateway.close()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        # DRF's own would negotiate by Accept (406 is not documented) and touch request.user.
        assert self.resolve is not None  # noqa: S101 - urls() always gives one
        self.gateway = authenticated_gateway(request._request, self.resolve)

    def handle_exception(self, exc: Exception) -> HttpResponse:  # type: ignore[override]
        if isinstance(exc, MethodNotAllowed):
            return answers.method_not_allowed(self.request.method or "")
        return answers.failure(exc)

    @property
    def fields(self) -> dict[str, str]:
        return read_fields(self.request._request)

    @property
    def license_gateway(self) -> Gateway:
        assert self.gateway is not None  # noqa: S101 - initial() ran before any handler
        return self.gateway


class RestartView(GatewayView):
    http_method_names = ["get"]

    def get(self, request: Request) -> HttpResponse:
        status = self.license_gateway.restart()
        return answers.service_status(status, "qr" if status.session_status is SessionStatus.QR else "ready")


class StatusView(GatewayView):
    http_method_names = ["post"]

    def post(self, request: Request) -> HttpResponse:
        status = self.license_gateway.get_status()
        return answers.service_status(status, _link_word(status))


class LoginQrView(GatewayView):
    http_method_names = ["post"]

    def post(self, request: Request) -> HttpResponse:
        response_as = self.fields.get("responseAs")
        if response_as not in ("image", "string", None):
            raise _invalid("responseAs must be image or string.")
        login_qr = self.license_gateway.get_login_qr()
        if _is_image_wanted(response_as, self.request.headers.get("Accept", "")):
            return HttpResponse(login_qr.png(), content_type="image/png")
        return answers.success("Scan this QR code with WhatsApp.", qr_string=login_qr.data_uri())


class CheckNumberView(GatewayView):
    http_method_names = ["get"]

    def get(self, request: Request, phone_number: str) -> HttpResponse:
        check = self.license_gateway.check_number(phone_number)
        return answers.success(check.message, check.code, is_registered=check.is_registered)


class MessageView(GatewayView):
    http_method_names = ["post"]

    def post(self, request: Request) -> HttpResponse:
        fields = self.fields
        return answers.sent(self.license_gateway.send_message(_required(fields, "phoneNumber"), *_content(fields)))


class GroupMessageView(GatewayView):
    http_method_names = ["post"]

    def post(self, request: Request) -> HttpResponse:
        fields = self.fields
        return answers.sent(self.license_gateway.send_group_message(_required(fields, "groupName"), *_content(fields)))


class WebhookView(GatewayView):
    http_method_names = ["post"]

    def post(self, request: Request) -> HttpResponse:
        url = _required(self.fields, "webhook")
        _must_be_http("webhook", url)
        answer = self.license_gateway.set_webhook(url)
        # Of all codes, this operation's alone is documented as an integer.
        return answers.success(answer.message, answer.code if isinstance(answer.code, int) else None)


class WebhookResetView(GatewayView):
    http_method_names = ["get"]

    def get(self, request: Request) -> HttpResponse:
        status = self.license_gateway.reset_webhook()
        return answers.service_status(status, _link_word(status))


@csrf_exempt
def no_such_path(request: HttpRequest) -> HttpResponse:
    return answers.not_found()


def _is_image_wanted(response_as: str | None, accept: str) -> bool:
    """Whether the code is answered as an image: where it is asked for, and the client can read one.

    The reference's own sample asks for an image and accepts JSON alone: who reads JSON gets JSON.
    """
    json, image = accepted_quality(accept, "application/json"), accepted_quality(accept, "image/png")
    if response_as == "image":
        return image >= json
    return not response_as and image > 0 and json == 0


def _link_word(status: ServiceStatus) -> str:
    # The reference has two words: what is not known to be linked waits for its QR code.
    return "connected" if status.session_status is SessionStatus.CONNECTED else "qr"


def _content(fields: dict[str, str]) -> tuple[str, str]:
    """Text and image URL. Both are optional in the reference for a number; a gateway refuses to send neither."""
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
