"""The sandbox's HTTP server: Django's own, except that the WSGI application can access the connection.

Resets, stalls and hang-ups happen below HTTP, so the transport's faults need the socket. They get it from
`environ[WIRE]`.
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
    """A connection that the application can break on purpose.

    `reset()`, `hang_up()` and `stall()` end the request by raising `ConnectionError`.
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
        raise ConnectionAbortedError  # wsgiref takes this as a client that has disconnected, and writes nothing

    def stall(self, seconds: float) -> None:
        """Send nothing for `seconds`, or until the client disconnects, then hang up."""
        until = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            while (left := until - time.monotonic()) > 0:
                readable = selector.select(left)
                if readable and not self._socket.recv(1, socket.MSG_PEEK):
                    break
                if readable:
                    time.sleep(min(left, 0.05))  # unread bytes of a next request: select() returns at once each time
        self.hang_up()

    def close_after_answer(self) -> None:
        """Close the connection after this request's answer, instead of keeping it open for another."""
        self._handler.close_connection = True


class RequestHandler(WSGIRequestHandler):
    """Handles a connection, keeps it open between requests, and gives the application access to it."""

    # wsgiref writes each header line separately. With a buffer, an answer is sent in one piece; without Nagle's
    # algorithm, a client that keeps the connection open does not wait 40 ms for the end of it.
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
            # Closed here for a TCP reset, because socketserver would shut the connection down with a FIN first.
            self.rfile.close()
            self.wfile.close()
            self.connection.close()

    def handle_one_request(self) -> None:
        super().handle_one_request()
        self.wfile.flush()  # wsgiref flushes only after a body, and an answer may have none

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the page has a log, and a request line here would show a customer's number."""


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

        It only sets a flag, because signal handlers call it: an exception raised in one would surface in the middle of
        a request, and socketserver would treat it as that request's error and continue.
        """
        self._is_stopping = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Show only errors other than broken connections, which the faults cause on purpose."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def serve(host: str, port: int, application: Any) -> SandboxServer:
    """A server bound to `host` and `port` (0: any free port), ready for `serve_until_stopped()`. Raises `OSError`."""
    server = SandboxServer((host, port), RequestHandler, ipv6=":" in host)
    server.set_app(application)
    return server
