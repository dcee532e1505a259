"""The webhook's view: checks the secrets, stores the body as it came, answers 200 and leaves the rest to a task.

- The view does not depend on the site's settings: every attribute that DRF fills from `REST_FRAMEWORK` is pinned, and
  ATOMIC_REQUESTS does not apply. The size of the body is limited here, because `DATA_UPLOAD_MAX_MEMORY_SIZE` may be
  smaller than what gateways send.
- The path is secret. So no exception leaves this view, and Django logs none of its responses: both would print the
  path.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import django.db
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.request import UnreadablePostError
from django.http.response import HttpResponseBase
from django.views.decorators.debug import sensitive_variables
from rest_framework.exceptions import MethodNotAllowed
from rest_framework.metadata import SimpleMetadata
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import JSONParser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from .. import wake
from ..conf import kpwa_settings
from ..containing import outside_transactions
from ..encryption import Secret
from ..license_actions import token_digest
from ..logs import get_logger
from ..masking import masked_traceback
from ..store import store
from .arrivals import UnknownTokenError, take
from .authentication import flood, has_password

logger = get_logger("django_kpwa.webhooks")

_FORM = "application/x-www-form-urlencoded"
_CHUNK_BYTES = 64 * 1024


class WebhookView(APIView):
    """Accepts a POST of any content type under a known token."""

    MAX_BYTES = 1_048_576
    """Maximum size of a body in bytes. A larger one is refused with 413. The largest known bodies of similar gateways,
    which contain a picture, have a fifth of this size."""

    renderer_classes = (JSONRenderer,)
    parser_classes = (JSONParser,)
    authentication_classes = ()
    permission_classes = ()
    throttle_classes = ()
    content_negotiation_class = DefaultContentNegotiation
    metadata_class = SimpleMetadata
    versioning_class = None
    schema = None
    http_method_names = ["post", "get", "head"]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Do nothing. DRF's implementation would negotiate by the Accept header and access `request.user`."""

    @sensitive_variables()
    def post(self, request: Request, token: str) -> HttpResponse:
        conf = kpwa_settings()
        if not has_password(request._request, conf):
            return _refusal(401, "The password of this webhook is missing or wrong.")
        digest = token_digest(token)
        if flood.refuses(digest):
            return _refusal(429, "Too many wrong tokens.")
        try:
            event_id = take(digest, lambda: read_body(request._request, self.MAX_BYTES))
        except UnknownTokenError:
            flood.note_wrong()
            return _refusal(404, "Not found.")
        except _UnreadableBodyError as error:
            return _refusal(error.status, str(error))
        if event_id is not None:
            # After the commit, or at once if no middleware of the site has opened a transaction. A failure is only
            # logged, because the event is stored and the beat will find it.
            store().on_commit(lambda: wake.publish_webhook(event_id))
            # Imported here: it needs most of the app, and each process that reads the site's URLs imports this module.
            from ..alerts import check_soon

            check_soon()
        return JsonResponse({"status": "ok"})

    def get(self, request: Request, token: str) -> HttpResponse:
        """Confirm that the address exists. The answer is the same for every token: nothing is looked up or stored."""
        return JsonResponse({"status": "ok"})

    def handle_exception(self, exc: Exception) -> HttpResponse:  # type: ignore[override]
        if isinstance(exc, MethodNotAllowed):
            return _refusal(405, "Only POST is allowed, and GET and HEAD to verify the address.")
        if isinstance(exc, django.db.Error):
            # Only the exception's type is logged, because a database's error messages quote rows.
            logger.error("A webhook could not be stored (%s); its sender was asked to try again.", type(exc).__name__)
            return _refusal(503, "Try again later.")
        # The traceback is logged as text: with `exc_info`, error reports would show the path among the variables.
        logger.error(
            "A webhook could not be accepted.\n%s", masked_traceback(exc, Secret(self.kwargs.get("token", "")))
        )
        return _refusal(500, "Internal error.")

    def finalize_response(  # type: ignore[override]
        self, request: Request, response: HttpResponseBase, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        final: HttpResponseBase = super().finalize_response(request, response, *args, **kwargs)  # type: ignore[arg-type]
        final["Cache-Control"] = "no-store"
        # Prevents Django's log_response() from logging the path of every 4xx and 5xx.
        final._has_been_logged = True  # type: ignore[attr-defined]
        return final


# A stored event must survive any later failure, whichever database it is in.
webhook = outside_transactions(WebhookView.as_view())


class _UnreadableBodyError(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def read_body(request: HttpRequest, max_bytes: int) -> tuple[bytes, str, str]:
    """Return the request's body, content type and content encoding.

    At most `max_bytes` and one chunk are held in memory. Raises `_UnreadableBodyError`, with the status to answer, if
    the body is too large, was cut off, or is of unknown length.
    """
    stream: Any = request
    length = _announced_length(request)
    if length is None and request.headers.get("Transfer-Encoding"):
        # Under WSGI, Django does not read a body without a length. The server's stream can be read if the server
        # guarantees that it ends.
        if request.META.get("wsgi.input_terminated"):
            stream = request.META["wsgi.input"]
        elif "wsgi.input" in request.META:
            raise _UnreadableBodyError(411, "Send a Content-Length.")
    if length is not None and length > max_bytes:
        raise _too_big(max_bytes)
    body = _read(stream, max_bytes)
    content_type = request.META.get("CONTENT_TYPE", "")
    if not body and length and request.POST:
        # A middleware of the site has parsed the form, so the stream is used up. QueryDict.urlencode() cannot be used:
        # it encodes in the sender's charset, which may not be a text encoding.
        return urlencode(list(request.POST.lists()), doseq=True, errors="replace").encode(), _FORM, ""
    if length is not None and len(body) < length:
        raise _UnreadableBodyError(400, "The body is shorter than its Content-Length.")
    # From META: `request.headers` parses all headers at once, which takes a sixth of this view's time.
    return body, content_type, request.META.get("HTTP_CONTENT_ENCODING", "")


def _announced_length(request: HttpRequest) -> int | None:
    announced = request.META.get("CONTENT_LENGTH", "")
    if not announced:
        return None
    if not (announced.isascii() and announced.isdigit() and len(announced) < 20):
        raise _UnreadableBodyError(400, "The Content-Length is not a number.")
    return int(announced)


def _read(stream: Any, max_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    try:
        while chunk := stream.read(_CHUNK_BYTES):
            size += len(chunk)
            if size > max_bytes:
                raise _too_big(max_bytes)
            chunks.append(chunk)
    except (UnreadablePostError, OSError):
        raise _UnreadableBodyError(400, "The body ended before its announced length.") from None
    return b"".join(chunks)


def _too_big(max_bytes: int) -> _UnreadableBodyError:
    return _UnreadableBodyError(413, f"The body is larger than {max_bytes} bytes.")


def _refusal(status: int, reason: str) -> HttpResponse:
    response = JsonResponse({"status": "error", "message": reason}, status=status)
    if status == 401:
        response["WWW-Authenticate"] = 'Basic realm="webhook", charset="UTF-8"'
    if status == 429:
        response["Retry-After"] = "1"
    return response
