"""The HTTP server of the sandbox: Django's own, with the connection within reach of the WSGI application.

A reset, a stall and a hang-up happen below HTTP, so the transport faults need the socket itself: `environ[WIRE]`.
"""

from __future__ import annotations

import selectors
import socket
import struct
import sys
import time
from typing import Any

from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler

WIRE = "kpwa.sandbox.wire"


class Wire:
    """One connection, as the application may misuse it. Its methods end the request by raising `ConnectionError`."""

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
        raise ConnectionAbortedError  # wsgiref takes this for a client that went away, and writes nothing

    def stall(self, seconds: float) -> None:
        """Answer nothing for so long, or until the client gives up; then hang up."""
        until = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            while (left := until - time.monotonic()) > 0:
                readable = selector.select(left)
                if readable and not self._socket.recv(1, socket.MSG_PEEK):
                    break
                if readable:
                    time.sleep(min(left, 0.05))  # bytes of a next request lie there, and would be reported for ever
        self.hang_up()

    def close_after_answer(self) -> None:
        self._handler.close_connection = True


class RequestHandler(WSGIRequestHandler):
    # wsgiref writes every header line by itself. Buffered, an answer leaves in one piece; and without Nagle's algorithm
    # a kept-alive client does not wait 40 ms for the last of it.
    wbufsize = -1
    disable_nagle_algorithm = True
    is_reset = False

    def get_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environ()
        environ[WIRE] = Wire(self)
        return environ

    def handle(self) -> None:
        self.close_connection = True
        self.handle_one_request()
        while not self.close_connection:
            self.handle_one_request()
        if self.is_reset:
            # Closed here, because socketserver would say goodbye (FIN) before it closes.
            self.rfile.close()
            self.wfile.close()
            self.connection.close()

    def handle_one_request(self) -> None:
        super().handle_one_request()
        self.wfile.flush()  # wsgiref does so with a body only, and an answer may have none

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the page has the log, and a request line here would hold a customer's number."""


class SandboxServer(ThreadedWSGIServer):
    request_queue_size = 128
    timeout = 0.2  # seconds between two looks at whether it is to stop
    _is_stopping = False

    def serve_until_stopped(self) -> None:
        """Answer requests until `stop()`, then close."""
        try:
            while not self._is_stopping:
                self.handle_request()
        finally:
            self.server_close()

    def stop(self) -> None:
        """Have it end within `timeout`. All that a signal handler may do: what one raises comes out in the middle of
        whatever runs, and socketserver takes it for that request's error and goes on serving."""
        self._is_stopping = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Broken connections are everyday life here, so only other errors are shown."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def serve(host: str, port: int, application: Any) -> SandboxServer:
    """A server bound to `host` and `port` (0: a free one), ready for `serve_until_stopped()`. Raises `OSError`."""
    server = SandboxServer((host, port), RequestHandler, ipv6=":" in host)
    server.set_app(application)
    return server
