"""The sandbox's HTTP server, and the faults of a network and of an overloaded service that it simulates.

`FaultyTransport` is WSGI middleware for the gateway's paths. A fault strikes at one of two moments:

- before the application runs, so that nothing is delivered
- after it has run, so that the message is delivered but the client does not know that

Resets, stalls and hang-ups happen below HTTP. For these, Django's own server is extended: it passes its connection to
the application in `environ[WIRE]`.
"""

from __future__ import annotations

import json
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeAlias

from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler

from .faults import Fault
from .world import Sandbox

BASE_PATH = "/backend"
WIRE = "kpwa.sandbox.wire"
"""Key of the connection (a `Wire`) in the WSGI environment."""
Headers: TypeAlias = "list[tuple[str, str]]"
Application: TypeAlias = Callable[[dict[str, Any], Any], Iterable[bytes]]

_JSON: Headers = [("Content-Type", "application/json")]


@dataclass(frozen=True)
class Answer:
    """A complete answer that has not been written yet."""

    status: int
    headers: Headers
    body: bytes

    def with_body(self, body: bytes, status: int | None = None) -> Answer:
        """Return the same answer with another body, its Content-Length and, if given, another status."""
        headers = [(name, value) for name, value in self.headers if name.lower() != "content-length"]
        return Answer(status or self.status, [*headers, ("Content-Length", str(len(body)))], body)


class FaultyTransport:
    """Wraps the Django application and lets faults strike. Requests outside `BASE_PATH` pass through unchanged."""

    def __init__(self, application: Application, sandbox: Sandbox) -> None:
        self._application = application
        self._sandbox = sandbox

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if not environ["PATH_INFO"].startswith(f"{BASE_PATH}/"):
            return self._application(environ, start_response)
        call = _Call(self._application, self._sandbox, environ)
        try:
            answer = call.answered()
        finally:
            call.note()
        reason = HTTPStatus(answer.status).phrase
        start_response(f"{answer.status} {reason}", answer.headers)
        return _dripping(answer.body, call.drip_seconds) if call.drip_seconds else [answer.body]


class _Call:
    """One request, with the faults that strike it. `drip_seconds`: wait between two bytes of the answer; 0: none."""

    def __init__(self, application: Application, sandbox: Sandbox, environ: dict[str, Any]) -> None:
        self._application = application
        self._sandbox = sandbox
        self._environ = environ
        self._wire: Wire = environ[WIRE]
        self._operation = _operation_of(environ["PATH_INFO"])
        self._account = sandbox.account_of_key(environ.get("HTTP_X_API_KEY", "").strip())
        self._started_at = time.monotonic()
        self._status = 0
        self._struck: list[str] = []
        self.drip_seconds = 0.0

    def answered(self) -> Answer:
        """Return the answer, from the application or from a fault.

        Raises `ConnectionError` if a fault ends the connection without an answer.
        """
        answer = self._unreadable() or self._before() or self._after(self._run())
        self._status = answer.status
        return answer

    def note(self) -> None:
        """Add the request to the sandbox's log, without the API key and the message."""
        self._sandbox.note(
            license=self._account.name if self._account else "",
            direction="in",
            method=self._environ["REQUEST_METHOD"],
            operation=self._operation,
            status=self._status,
            milliseconds=round((time.monotonic() - self._started_at) * 1000),
            fault=", ".join(self._struck),
        )

    def _strikes(self, name: str) -> Fault | None:
        """Return the fault if it strikes this request, and remember it for the log."""
        fault = self._sandbox.faults.strikes(name, self._operation)
        if fault:
            self._struck.append(name)
        return fault

    def _unreadable(self) -> Answer | None:
        """Return the answer to a request whose body comes in chunks, which wsgiref cannot read; else None."""
        if not self._environ.get("HTTP_TRANSFER_ENCODING"):
            return None
        self._wire.close_after_answer()  # otherwise wsgiref would read the chunks as the next request
        return _json_answer(400, {"message": "A body must come with its Content-Length, not in chunks.", "code": None})

    def _before(self) -> Answer | None:
        """Let the faults strike that come before the application runs, so that nothing is delivered.

        Returns the answer of such a fault. None: the application has to run.
        """
        if latency := self._strikes("latency"):
            time.sleep(latency.amount / 1000)
        if self._operation == "check-number" and (slow := self._strikes("check_slow")):
            time.sleep(slow.amount)
        if self._account and self._strikes("logged_out"):
            self._sandbox.log_out(self._account)
        if self._strikes("reset_before"):
            self._wire.reset()
        if stall := self._strikes("stall_before"):
            self._wire.stall(stall.amount)
        if self._strikes("revoked_key"):
            return _json_answer(401, {"message": "The API key is not valid."})
        if limit := self._strikes("rate_limited_429"):
            retry_after = ("Retry-After", str(round(limit.amount)))
            return _json_answer(429, {"message": "Too many requests.", "code": None}, retry_after)
        if self._strikes("error_500"):
            return _json_answer(500, {"message": "Internal server error", "error": "A simulated failure", "code": None})
        if self._strikes("bad_gateway_502"):
            return _json_answer(502, {"message": "Bad Gateway"})
        if self._strikes("unavailable_503"):
            return _json_answer(503, {"message": "Service Unavailable"})
        if self._strikes("timeout_504_before"):
            return _json_answer(504, {"message": "Timeout"})
        if self._strikes("html_200"):
            page = b"<!DOCTYPE html><title>Welcome</title><p>Please log in to the network.</p>"
            return Answer(200, [("Content-Type", "text/html")], b"").with_body(page)
        return None

    def _after(self, answer: Answer) -> Answer:
        """Return the application's answer, as it is changed or replaced by the faults that strike after it has run."""
        if self._strikes("reset_after"):
            self._wire.reset()
        if stall := self._strikes("stall_after"):
            self._wire.stall(stall.amount)
        if self._strikes("timeout_504_after"):
            return _json_answer(504, {"message": "Timeout"})
        if self._strikes("malformed_json_200"):
            return answer.with_body(answer.body[: len(answer.body) // 2], status=200)
        if answer.status == 200 and self._strikes("no_id_200"):
            return answer.with_body(_without_id(answer.body))
        if answer.status == 200 and self._operation == "status" and self._strikes("suspended"):
            answer = answer.with_body(_suspended(answer.body))
        if drip := self._strikes("drip"):
            self.drip_seconds = drip.amount / 1000
        return answer

    def _run(self) -> Answer:
        """Call the application and return its complete answer."""
        started: list[tuple[str, Headers]] = []

        def start_response(status: str, headers: Headers, exc_info: object = None) -> None:
            started.append((status, headers))

        parts = self._application(self._environ, start_response)
        try:
            body = b"".join(parts)
        finally:
            getattr(parts, "close", lambda: None)()
        status, headers = started[-1]
        return Answer(int(status.split()[0]), headers, b"").with_body(body)


def _operation_of(path: str) -> str:
    """Return the operation's path without a phone number, as it is used in the log and in a fault's `operation`."""
    operation = path.removeprefix(f"{BASE_PATH}/openapi/wa/")
    return "check-number" if operation.startswith("check-number/") else operation


def _json_answer(status: int, content: dict[str, Any], *headers: tuple[str, str]) -> Answer:
    return Answer(status, [*_JSON, *headers], b"").with_body(json.dumps(content).encode())


def _without_id(body: bytes) -> bytes:
    content = json.loads(body)
    content.get("result", {}).pop("id", None)
    return json.dumps(content).encode()


def _suspended(body: bytes) -> bytes:
    return json.dumps({**json.loads(body), "status": "suspended"}).encode()


def _dripping(body: bytes, seconds: float) -> Iterator[bytes]:
    """Yield the body byte by byte, with a wait of `seconds` between two bytes."""
    for position in range(len(body)):
        if position:
            time.sleep(seconds)
        yield body[position : position + 1]


class Wire:
    """A connection to a client, which the application can break on purpose.

    `reset()`, `hang_up()` and `stall()` never return. They end the request by raising `ConnectionError`.
    """

    def __init__(self, handler: RequestHandler) -> None:
        self._handler = handler
        self._socket: socket.socket = handler.connection  # type: ignore[assignment]  # the stubs say WSGIRequest

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._handler.is_reset = True
        self.hang_up()

    def hang_up(self) -> None:
        """End the connection without an answer."""
        self._handler.close_connection = True
        raise ConnectionAbortedError  # for wsgiref this means that the client has disconnected: it writes nothing

    def stall(self, seconds: float) -> None:
        """Send nothing for `seconds`, or until the client disconnects. Then hang up."""
        until = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            while (left := until - time.monotonic()) > 0:
                readable = selector.select(left)
                if readable and not self._socket.recv(1, socket.MSG_PEEK):
                    break
                if readable:
                    # With unread bytes of another request, select() returns at once every time.
                    time.sleep(min(left, 0.05))
        self.hang_up()

    def close_after_answer(self) -> None:
        """Close the connection after the answer to this request, instead of keeping it open for another request."""
        self._handler.close_connection = True


class RequestHandler(WSGIRequestHandler):
    """Handles a connection, keeps it open between requests, and gives the application access to it."""

    # wsgiref writes each header line separately. With a buffer, an answer is sent in one piece. Nagle's algorithm is
    # switched off, because with it a client that keeps the connection open waits 40 ms for the end of an answer.
    wbufsize = -1
    disable_nagle_algorithm = True
    is_reset = False
    """True if the connection has to end with a TCP reset."""

    def get_environ(self) -> dict[str, Any]:
        """Return the WSGI environment, with the connection under `WIRE`."""
        environ: dict[str, Any] = super().get_environ()
        environ[WIRE] = Wire(self)
        return environ

    def handle(self) -> None:
        """Handle the connection's requests one after another."""
        self.close_connection = True
        self.handle_one_request()
        while not self.close_connection:
            self.handle_one_request()
        if self.is_reset:
            # Closed here, because socketserver would shut the connection down with a FIN instead of a reset.
            self.rfile.close()
            self.wfile.close()
            self.connection.close()

    def handle_one_request(self) -> None:
        """Handle one request and send its answer completely."""
        super().handle_one_request()
        self.wfile.flush()  # wsgiref flushes only after a body, and an answer may have no body

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing. The page has a log of its own, and a request line here would show a customer's number."""


class SandboxServer(ThreadedWSGIServer):
    """A threaded server that a signal handler can stop."""

    request_queue_size = 128
    timeout = 0.2  # maximum seconds until `stop()` is noticed
    _is_stopping = False

    def serve_until_stopped(self) -> None:
        """Answer requests until `stop()` is called, then close the server."""
        try:
            while not self._is_stopping:
                self.handle_request()
        finally:
            self.server_close()

    def stop(self) -> None:
        """Make the server end within `timeout`.

        This only sets a flag, because signal handlers call it. If a signal handler raised an exception, that would
        appear in the middle of a request; socketserver would take it for that request's error and continue.
        """
        self._is_stopping = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Show errors, except broken connections, which the faults cause on purpose."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def serve(host: str, port: int, application: Any) -> SandboxServer:
    """Return a server that listens on `host` and `port` (0: any free port). Call its `serve_until_stopped()` then.

    Raises `OSError` if the address cannot be used.
    """
    server = SandboxServer((host, port), RequestHandler, ipv6=":" in host)
    server.set_app(application)
    return server
