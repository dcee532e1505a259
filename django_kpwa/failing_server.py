"""A local HTTP server that fails in every way in which API servers do, for `gateway_contract`.

It uses raw sockets, because no library would cut an answer short or send it byte by byte.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

HttpAnswer = tuple[int, Any]
"""A status and a body. Bytes and strings are sent unchanged, anything else as JSON."""

STALL_SECONDS = 5.0
"""Duration of `stall` and `drip`. Limited, so that the test of a client without a timeout fails instead of hanging."""

Behaviour = Callable[[socket.socket, threading.Event], None]
"""What the server does on a connection after it has read a request. The event is set when it has to stop waiting."""


class FailingServer:
    """Listens on a loopback port, keeps every request unchanged in `requests`, and calls `behaviour` after each."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.requests: list[bytes] = []
        self._behaviour = behaviour
        self._ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._threads: list[threading.Thread] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/api"

    def __enter__(self) -> FailingServer:
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        # On Linux, closing a socket does not wake the thread that waits for a connection; a connection does.
        with socket.create_connection(self._listener.getsockname()):
            self._acceptor.join()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._ended.is_set():
            connection, _ = self._listener.accept()
            connection.settimeout(STALL_SECONDS)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while request := _request_of(connection, self._ended):
                    self.requests.append(request)
                    self._behaviour(connection, self._ended)
            except OSError:
                pass  # the client has disconnected or timed out


def _request_of(connection: socket.socket, ended: threading.Event) -> bytes:
    """Read a complete request; empty once the client has closed the connection or the server has to stop."""
    request = b""
    while not _is_whole(request):
        connection.settimeout(0.05)
        try:
            received = connection.recv(65_536)
        except TimeoutError:
            if ended.is_set():
                return b""
            continue
        if not received:
            return b""
        request += received
    return request


def _is_whole(request: bytes) -> bool:
    head, has_ended, body = request.partition(b"\r\n\r\n")
    if not has_ended:
        return False
    headers = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
    if b"chunked" in headers.get(b"transfer-encoding", b""):
        return body.endswith(b"0\r\n\r\n")
    return len(body) >= int(headers.get(b"content-length", b"0"))


def answering(answer: HttpAnswer, headers: Sequence[str] = ()) -> Behaviour:
    return lambda connection, ended: connection.sendall(_response(answer, headers))


def _response(answer: HttpAnswer, headers: Sequence[str] = ()) -> bytes:
    status, body = answer
    if not isinstance(body, bytes):
        body = (body if isinstance(body, str) else json.dumps(body)).encode()
    where = ["Location: /api/elsewhere"] if 300 <= status < 400 else []
    head = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *where, *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def repeating(answer: HttpAnswer, key: str) -> HttpAnswer:
    """Return `answer` with `key` appended to each of its strings."""

    def added(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: added(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [added(inner) for inner in value]
        return f"{value} {key}" if isinstance(value, str) else value

    return answer[0], added(answer[1])


def hang_up(connection: socket.socket, ended: threading.Event) -> None:
    connection.close()


def reset(connection: socket.socket, ended: threading.Event) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def cut_short(connection: socket.socket, ended: threading.Event) -> None:
    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"id": "')
    connection.close()


def stall(connection: socket.socket, ended: threading.Event) -> None:
    ended.wait(STALL_SECONDS)
    connection.close()


def drip(connection: socket.socket, ended: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    ends_at = time.monotonic() + STALL_SECONDS
    while time.monotonic() < ends_at and not ended.wait(0.1):
        connection.sendall(b" ")
    connection.close()


@contextmanager
def closed_port() -> Iterator[str]:
    """Yield the URL of a port that refuses connections. It stays bound, so that no other process listens on it."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/api"
