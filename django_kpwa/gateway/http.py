"""`HttpGateway`, the client of the real service, and `ApiGateway`, its base and that of a site's own, built on urllib3.

It deliberately does not use `requests`, which takes proxies and `.netrc` from the environment, keeps cookies, reads a
redirect's whole body, beyond any limit, before it decides whether to follow, and costs every sending process 4 MB of
memory. The only useful part, persistent connections, is urllib3's.

Errors are raised outside the `except` blocks that caught their causes: a chained cause would hold the request, and with
it the API key and the number in check-number's path.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from time import monotonic
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import certifi
from django.core.exceptions import ImproperlyConfigured
from django.views.decorators.debug import sensitive_variables
from urllib3 import BaseHTTPResponse, Timeout
from urllib3.exceptions import HTTPError

from .. import __version__
from ..conf import kpwa_settings
from ..encryption import Secret, clean_api_key
from ..exceptions import (
    ConnectionLostError,
    GatewayError,
    GatewayTimeoutError,
    NotConnectedError,
    UnexpectedAnswerError,
)
from . import answers
from .answers import Answer
from .base import Gateway, NumberCheck, SentMessage, ServiceStatus, WebhookAnswer, require_content
from .qr import LoginQr
from .transport import BoundedPools, Call

_MAX_HEADER_BYTES = 64 * 1024
_READ_BYTES = 64 * 1024
_FORM = "application/x-www-form-urlencoded"
_JSON = "application/json"
_TRANSPORT_ERRORS = (OSError, HTTPError, http.client.HTTPException)

_Read = TypeVar("_Read")
_making_context = threading.Lock()


class ApiGateway(Gateway):
    """Base class of gateways that call an HTTP API at `base_urls`, by default `KPWA["BASE_URLS"]`.

    A subclass implements the operations with `ask_json()`, and overrides `get_headers()` if the key goes in another
    header. This class enforces deadlines and limits, follows no redirects, and tracks whether a request has left, which
    decides between "not sent" and "in doubt".

    Settings are read once, when an instance is made. It holds connections open: call `close()`, or use it in a `with`.
    Raises `InvalidApiKeyError` for a key that cannot be sent in a header, and `ImproperlyConfigured` for an invalid
    base URL.
    """

    CONNECT_TIMEOUT_SECONDS = 5.0
    """Time to connect. After it the next base URL is tried, which is safe: without a connection nothing was sent."""
    READ_TIMEOUT_SECONDS = 30.0
    """Time to the next byte of an answer. The deadline of the whole call is `KPWA["CALL_DEADLINE_SECONDS"]`."""
    MAX_ANSWER_BYTES = 2_097_152
    """Maximum size of an answer, also after decompression; the largest answer is a QR code's image."""

    leaves_the_process = True

    max_idle_seconds = 1.0
    """Maximum time that a connection may be idle and still be reused. Servers close idle connections after 2 seconds
    (gunicorn) or 5 (Node, Apache), and a request sent at that moment is in doubt: a saved handshake is not
    worth a receipt that a person has to decide about. urllib3 itself drops a connection that the server has closed."""

    # Private attributes have two underscores, so that a site's subclass cannot override one by accident.

    def __init__(self, api_key: Secret, *, base_urls: Sequence[str] = ()) -> None:
        settings = kpwa_settings()
        urls = read_base_urls(base_urls or settings.BASE_URLS)
        super().__init__(Secret(clean_api_key(api_key.reveal())), base_urls=urls)
        self.__deadline_seconds = settings.CALL_DEADLINE_SECONDS
        self.__timeouts = Timeout(connect=self.CONNECT_TIMEOUT_SECONDS, read=self.READ_TIMEOUT_SECONDS)
        self.__call = Call(self.MAX_ANSWER_BYTES + _MAX_HEADER_BYTES)
        self.__pools = BoundedPools(self.__call, _tls_context)
        self.__used_at = monotonic()

    def get_headers(self) -> dict[str, str]:
        """Return the headers that carry the key. Called for each request: no attribute may hold it in plain text."""
        __traceback_hide__ = True
        return {"X-API-KEY": self.api_key.reveal()}

    @sensitive_variables()
    def ask_json(
        self, method: str, path: str, content: object = None, *, deadline_seconds: float | None = None
    ) -> dict[str, Any]:
        """Call the API once and return the JSON object of a 200, 201 or 202.

            self.ask_json("POST", "/messages", {"to": phone_number, "text": text})["id"]

        `path`: appended to the base URL.
        `content`: sent as JSON; None: the request has no body.
        `deadline_seconds`: for the whole call; None: that of the settings.

        Raises the `GatewayError` of any other answer, and of any failure of the connection, as
        docs/gateway-contract.md lists them. A 400 or 500 counts as the API's own if it is a JSON object with a text
        in `message` or `error`, or a list of them in `errors`.
        """
        __traceback_hide__ = True
        body = None if content is None else json.dumps(content).encode("ascii")
        return self._ask_and_read(
            method, path, answers.read_accepted, body, content_type=_JSON, deadline_seconds=deadline_seconds
        )

    def close(self) -> None:
        self.__pools.clear()

    @sensitive_variables("path", "body")
    def _ask_and_read(
        self,
        method: str,
        path: str,
        read: Callable[[Answer], _Read],
        body: bytes | None = None,
        *,
        content_type: str = _FORM,
        secrets: tuple[Secret, ...] = (),
        deadline_seconds: float | None = None,
    ) -> _Read:
        """Call one operation at the first base URL, or at a later one only if no connection could be made.

        Never at a later one after any other failure, since the request may have been carried out. Raises the
        `GatewayError` of the failure.
        """
        __traceback_hide__ = True  # the body may hold a webhook's token
        ends_at = monotonic() + (self.__deadline_seconds if deadline_seconds is None else deadline_seconds)
        if self.ends_at is not None:
            ends_at = min(ends_at, self.ends_at)
        request = _Request(method, path, body, content_type)
        failures: list[str] = []
        for base_url in self.base_urls:
            try:
                return read(self.__exchange(base_url, request, ends_at, (self.api_key, *secrets)))
            except NotConnectedError as error:
                failures.append(str(error))
            except GatewayError as error:
                # A 401 from a fallback does not count against the key: the reference does not call the URLs mirrors.
                error.from_fallback = base_url is not self.base_urls[0]
                raised: Exception = error
                break
            except Exception as error:
                # A task's soft time limit, or a bug in a library.
                raised = error
                break
        else:
            raised = NotConnectedError(" ".join(failures))
        # Without the frames of its traceback: their variables hold the key's header and a QR code. Error reports print
        # them, and Django's DEBUG page and Sentry do so even for variables that are marked as sensitive.
        raise raised.with_traceback(None)

    def __exchange(self, base_url: str, request: _Request, ends_at: float, secrets: tuple[Secret, ...]) -> Answer:
        """Send a request and return the answer, or raise the `GatewayError` that classifies the failure."""
        if monotonic() - self.__used_at > self.max_idle_seconds:
            self.__pools.clear()
        self.__call.begin(ends_at)
        try:
            response = _opened(self.__pools, base_url, request, self.__headers(request), self.__timeouts)
            return Answer(response.status, response.headers, self.__content(response), request.path, secrets)
        except _TRANSPORT_ERRORS as error:
            failure = self.__failure(error, base_url)
        finally:
            self.__used_at = monotonic()
        raise failure

    def __headers(self, request: _Request) -> dict[str, str]:
        __traceback_hide__ = True
        headers = {**self.get_headers(), "Accept": "application/json", "User-Agent": f"django-kpwa/{__version__}"}
        return headers if request.body is None else headers | {"Content-Type": request.content_type}

    def __content(self, response: BaseHTTPResponse) -> bytes:
        """Return the decompressed body. Raises `UnexpectedAnswerError` if it is longer than `MAX_ANSWER_BYTES`."""
        content = bytearray()
        is_whole = False
        try:
            # Read in pieces: for a single read, the interpreter would allocate as much as Content-Length claims.
            while piece := response.read(_READ_BYTES, decode_content=False):
                content += piece
                if len(content) > self.MAX_ANSWER_BYTES:
                    raise self.__too_long()
            is_whole = True
        finally:
            if not is_whole:
                response.close()
        if response.status < 200:
            # A change of protocol: whatever follows on this connection does not answer the next request.
            self.__pools.clear()
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        return bytes(content) if encoding in ("", "identity") else self.__unpacked(content, encoding)

    def __unpacked(self, packed: bytearray, encoding: str) -> bytes:
        # No compression was requested, but a proxy may compress. urllib3 would decompress without a limit.
        if encoding not in ("gzip", "x-gzip", "deflate"):
            raise UnexpectedAnswerError("The gateway's answer has a content encoding that was not requested.")
        unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)
        try:
            content = unpacker.decompress(packed, self.MAX_ANSWER_BYTES + 1)
        except zlib.error:
            content = b""
        if len(content) > self.MAX_ANSWER_BYTES:
            raise self.__too_long()
        if not unpacker.eof:
            raise UnexpectedAnswerError("The gateway's answer is compressed and cannot be decompressed.")
        return content

    def __too_long(self) -> UnexpectedAnswerError:
        return UnexpectedAnswerError(f"The gateway's answer is longer than {self.MAX_ANSWER_BYTES} bytes.")

    def __failure(self, error: Exception, base_url: str) -> GatewayError:
        """Return the `GatewayError` of a failed exchange, by what the `Call` observed, not by the exception's type."""
        call = self.__call
        if not call.request_left:
            reason = _connect_reason(call.connect_error or error)
            return NotConnectedError(f"No connection to {_origin(base_url)}: {reason}.")
        if call.is_too_long:
            return self.__too_long()
        if call.timed_out:
            return GatewayTimeoutError(f"{_origin(base_url)} did not answer in time.")
        if any(_is_no_http(link) for link in _chain(error)):
            return UnexpectedAnswerError(f"The answer of {_origin(base_url)} is not HTTP.")
        return ConnectionLostError(f"The connection to {_origin(base_url)} broke before the answer was complete.")


class HttpGateway(ApiGateway):
    """The Kasirpintar gateway at `base_urls`, by default `KPWA["BASE_URLS"]`; each URL includes the path `/backend`."""

    def restart(self) -> ServiceStatus:
        return self._ask_and_read("GET", "/openapi/wa/restart", answers.done)

    def get_status(self, *, deadline_seconds: float | None = None) -> ServiceStatus:
        return self._ask_and_read(
            "POST", "/openapi/wa/status", answers.service_status, _form(), deadline_seconds=deadline_seconds
        )

    def get_login_qr(self) -> LoginQr:
        return self._ask_and_read("POST", "/openapi/wa/login-qr", answers.login_qr, _form(responseAs="string"))

    @sensitive_variables()
    def check_number(self, phone_number: str) -> NumberCheck:
        path = f"/openapi/wa/check-number/{quote(phone_number, safe='')}"
        return self._ask_and_read("GET", path, answers.number_check)

    @sensitive_variables()
    def send_message(self, phone_number: str, text: str = "", image_url: str = "") -> SentMessage:
        return self.__send("/openapi/wa/message", {"phoneNumber": phone_number}, text, image_url)

    @sensitive_variables()
    def send_group_message(self, group_name: str, text: str = "", image_url: str = "") -> SentMessage:
        return self.__send("/openapi/wa/message-group", {"groupName": group_name}, text, image_url)

    def set_webhook(self, url: str) -> WebhookAnswer:
        __traceback_hide__ = True
        # The URL's path holds the webhook's secret token, which the gateway may repeat in its answer.
        return self._ask_and_read(
            "POST",
            "/openapi/wa/webhook",
            answers.webhook_answer,
            _form(webhook=url),
            secrets=(Secret(url), Secret(urlsplit(url).path)),
        )

    def reset_webhook(self) -> ServiceStatus:
        return self._ask_and_read("GET", "/openapi/wa/webhook/reset", answers.done)

    @sensitive_variables()
    def __send(self, path: str, form: dict[str, str], text: str, image_url: str) -> SentMessage:
        require_content(text, image_url)
        if text:
            form["message"] = text
        if image_url:
            form["imageUrl"] = image_url
        return self._ask_and_read("POST", path, answers.sent_message, _form(**form))


@dataclass(frozen=True)
class _Request:
    method: str
    path: str = field(repr=False)
    body: bytes | None = field(repr=False)
    content_type: str = ""


def ask_once(
    url: str, headers: dict[str, str], call: Call, seconds: float, body: bytes | None = None
) -> BaseHTTPResponse:
    """Make one GET, or one POST of `body`, for at most `seconds` over a new connection, and return the answer.

    Redirects are not followed. `call`: limits the answer's size, and records whether the request has left.

    Raises `OSError`, `ValueError`, or urllib3's `HTTPError`.
    """
    call.begin(monotonic() + seconds)
    pools = BoundedPools(call, _tls_context)
    try:
        request = _Request("GET" if body is None else "POST", "", body)
        return _opened(pools, url, request, headers, Timeout(seconds, seconds), preload_content=True)
    finally:
        pools.clear()


def _opened(
    pools: BoundedPools,
    base_url: str,
    request: _Request,
    headers: dict[str, str],
    timeouts: Timeout,
    *,
    preload_content: bool = False,
) -> BaseHTTPResponse:
    """Make exactly one request and return the answer; a second one could send a message twice.

    No compression is requested and no body is decompressed, so that the size limit applies to the bytes received.
    """
    return pools.urlopen(
        request.method,
        base_url + request.path,
        body=request.body,
        headers=headers | {"Accept-Encoding": "identity"},
        timeout=timeouts,
        redirect=False,
        retries=False,
        preload_content=preload_content,
        decode_content=False,
    )


def _form(**fields: str) -> bytes:
    return urlencode(fields, errors="replace").encode("ascii")


def _tls_context() -> ssl.SSLContext:
    # Threads that start at the same time would otherwise each create one, and all but the last would be discarded.
    with _making_context:
        return _made_context()


@lru_cache(maxsize=1)
def _made_context() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certifi.where())


def read_base_urls(base_urls: Sequence[str]) -> tuple[str, ...]:
    """Return the normalised base URLs. Raises `ImproperlyConfigured` if there are none or one of them is invalid."""
    if not base_urls:
        raise ImproperlyConfigured("KPWA['BASE_URLS'] is empty: there is no gateway to talk to.")
    return tuple(map(_normalized, base_urls))


def _normalized(base_url: str) -> str:
    try:
        parts = urlsplit(base_url.strip())
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        raise ImproperlyConfigured("A base URL of the gateway is malformed.") from None
    # This message does not repeat the URL, which may hold a password.
    if parts.username is not None or parts.password is not None:
        raise ImproperlyConfigured(
            "A base URL of the gateway contains a user name. Remove it: the API key is sent in a header of its own."
        )
    if not is_url or parts.query or parts.fragment:
        raise ImproperlyConfigured(
            f"{base_url!r} is not a base URL of the gateway. Write one like https://wa.kpntr.com/backend."
        )
    return base_url.strip().rstrip("/")


def _origin(base_url: str) -> str:
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.netloc}"


def _connect_reason(error: Exception) -> str:
    """Describe why there is no connection, without path or headers."""
    for link in _chain(error):
        if isinstance(link, ssl.SSLCertVerificationError):
            return f"its TLS certificate is not valid ({link.verify_message})"
        if isinstance(link, ssl.SSLError):
            return f"the TLS handshake failed ({link.reason or 'cut short'})"
        if isinstance(link, socket.gaierror):
            return "its host name does not resolve"
        if isinstance(link, TimeoutError):
            return "it did not answer in time"
        if isinstance(link, OSError) and link.errno:
            return os.strerror(link.errno).lower()
    return f"it broke before the request was sent ({type(error).__name__})"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_no_http(error: BaseException) -> bool:
    """True if the answer was not HTTP: a bad status line or endless headers. An answer that never began is a lost
    connection (`RemoteDisconnected` is a `BadStatusLine`, too)."""
    if isinstance(error, ConnectionError):
        return False
    return isinstance(error, (http.client.BadStatusLine, http.client.LineTooLong)) or type(error) in (
        http.client.HTTPException,
        http.client.UnknownProtocol,
    )
