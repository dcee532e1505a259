"""Sockets that limit a call's duration and its answer's size, and know whether any of the request has left.

urllib3's read timeout restarts with every byte, so a server that sends slowly could block a worker for ever. Here each
read and write takes its remaining time from the current `Call`. The same code sees the first byte of the request
leave: a failure before that is "not sent", a failure after it is in doubt. The type of the exception cannot decide
that: a TLS handshake that times out looks like a read timeout to urllib3.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import queue
import socket
import ssl
import threading
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

from urllib3 import HTTPConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection

from ..logs import mask_paths_in


class Call:
    """The limits and the progress of the current call. A gateway has one, which is reset for each attempt."""

    __slots__ = ("connect_error", "ends_at", "is_too_long", "max_bytes", "received_bytes", "request_left", "timed_out")

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.begin(monotonic())

    def begin(self, ends_at: float) -> None:
        """Start an attempt that must end by `ends_at`, on the clock of `time.monotonic()`."""
        self.ends_at = ends_at
        self.received_bytes = 0
        self.request_left = self.timed_out = self.is_too_long = False
        self.connect_error: Exception | None = None

    def seconds_left(self, limit: float | None) -> float:
        """Seconds that the next step may take, at most `limit`. Raises `TimeoutError` after the deadline."""
        left = self.ends_at - monotonic()
        if left <= 0:
            self.timed_out = True
            raise TimeoutError("the deadline of the call has passed")
        return left if limit is None else min(left, limit)

    def count_received(self, count: int) -> None:
        """Count received bytes, including headers and chunk sizes. Raises `OSError` beyond `max_bytes`."""
        self.received_bytes += count
        if self.received_bytes > self.max_bytes:
            self.is_too_long = True
            raise OSError("the answer is too long")


class BoundedPools(PoolManager):
    """Connection pools whose connections keep to the limits of `call`, one connection for each address.

    `tls_context` is called for the first https address only: its certificates take 1.5 MB, and the sandbox uses none.
    """

    def __init__(self, call: Call, tls_context: Callable[[], ssl.SSLContext]) -> None:
        super().__init__(maxsize=1)
        self._call = call
        self._tls_context = tls_context

    def _new_pool(
        self, scheme: str, host: str, port: int, request_context: dict[str, Any] | None = None
    ) -> HTTPConnectionPool:
        kind: type[_BoundedConnection] = _HTTPConnection
        if scheme == "https":
            kind = _HTTPSConnection
            request_context = {**(request_context or self.connection_pool_kw), "ssl_context": self._tls_context()}
        pool = super()._new_pool(scheme, host, port, request_context)
        pool.ConnectionCls = partial(kind, call=self._call)  # type: ignore[assignment]
        return pool


class _BoundedSocket:
    """Wraps a plain or TLS socket, with the methods that `http.client` and urllib3 use."""

    def __init__(self, connected: socket.socket, call: Call) -> None:
        self._socket = connected
        self._call = call
        self._seconds = connected.gettimeout()
        self.fileno = connected.fileno
        self.shutdown = connected.shutdown
        self.close = connected.close

    def settimeout(self, seconds: float | None) -> None:
        self._seconds = seconds

    def sendall(self, content: bytes) -> None:
        unsent = memoryview(content)
        while unsent:
            sent = self._bounded(self._socket.send, unsent)
            # A send() that fails passes nothing on, so nothing has left before the first one that succeeds.
            self._call.request_left = True
            unsent = unsent[sent:]

    def makefile(self, mode: str, buffering: int | None = None) -> io.BufferedReader:
        # Built on the standard library's file, which keeps the socket open: http.client closes the socket before the
        # file is read.
        return io.BufferedReader(_BoundedReader(self._socket.makefile("rb", buffering=0), self))

    def receive_into(self, read: Callable[[Any], int], buffer: Any) -> int:
        count = self._bounded(read, buffer)
        self._call.count_received(count)
        return count

    def _bounded(self, step: Callable[[Any], int], content: Any) -> int:
        self._socket.settimeout(self._call.seconds_left(self._seconds))
        try:
            return step(content)
        except TimeoutError:
            self._call.timed_out = True
            raise


class _BoundedReader(io.RawIOBase):
    def __init__(self, file: socket.SocketIO, bounded: _BoundedSocket) -> None:
        self._file = file
        self._bounded = bounded

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._bounded.receive_into(self._file.readinto, buffer)  # type: ignore[arg-type]

    def close(self) -> None:
        self._file.close()
        super().close()


class _FinalResponse(http.client.HTTPResponse):
    """Skips every interim response (102, 103); the standard library skips only 100.

    A 101 is not skipped: another protocol, which was not requested, follows it.
    """

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]
        return version, (http.client.CONTINUE if 101 < status < 200 else status), reason


class _BoundedConnection:
    """Mixin for urllib3's connections that connects within the call's limits and wraps the socket."""

    response_class: Any = _FinalResponse

    host: str
    port: int
    timeout: float | None
    sock: Any
    socket_options: Any

    def __init__(self, *args: Any, call: Call, **options: Any) -> None:
        super().__init__(*args, **options)
        self._call = call

    def connect(self) -> None:
        try:
            super().connect()  # type: ignore[misc]
        except Exception as error:
            self._call.connect_error = error
            raise
        self.sock = _BoundedSocket(self.sock, self._call)

    def _new_conn(self) -> socket.socket:
        error: OSError = OSError("the host name has no address")
        for family, kind, protocol, _, address in self._addresses():
            connected = socket.socket(family, kind, protocol)
            try:
                for option in self.socket_options or ():
                    connected.setsockopt(*option)
                connected.settimeout(self._call.seconds_left(self.timeout))
                connected.connect(address)
                # Set anew for the TLS handshake, which Python limits as a whole by the socket's timeout.
                connected.settimeout(self._call.seconds_left(self.timeout))
            except OSError as failure:
                connected.close()
                error = failure
            except BaseException:
                connected.close()
                raise
            else:
                return connected
        raise error

    def _addresses(self) -> list[Any]:
        seconds = self._call.seconds_left(self.timeout)
        host = self.host.strip("[]")
        try:
            ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return _resolved(host, self.port, seconds)
        return socket.getaddrinfo(host, self.port, type=socket.SOCK_STREAM)


class _HTTPConnection(_BoundedConnection, HTTPConnection):
    pass


class _HTTPSConnection(_BoundedConnection, HTTPSConnection):
    pass


def _resolved(host: str, port: int, seconds: float) -> list[Any]:
    """Resolve the addresses of `host`. The system's resolver takes no timeout, so it runs in a thread.

    Raises `TimeoutError` after `seconds`, and `OSError` if the host name cannot be resolved.
    """
    answers: queue.SimpleQueue[list[Any] | OSError] = queue.SimpleQueue()

    def resolve() -> None:
        try:
            answers.put(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except OSError as error:
            answers.put(error)
        except UnicodeError:
            answers.put(socket.gaierror(socket.EAI_NONAME, "not a host name"))

    threading.Thread(target=resolve, daemon=True, name="kpwa-resolver").start()
    try:
        found = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError("the host name was not resolved in time") from None
    if isinstance(found, OSError):
        raise found
    return found


mask_paths_in("urllib3.connectionpool")
