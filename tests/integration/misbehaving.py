"""A real server on a real socket that misbehaves as the test tells it to: it drips, stalls, cuts short or never ends.

A behaviour is a function of one `Peer`, called once per request. `server.behave(first, second)` sets one for each
request, and the last one is used for all further requests. `server.requests` holds the raw bytes of each request.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

NO_HOST = f"http://{'x' * 64}.id"
"""A host name with a label that is too long: no resolver is asked, which a network without one lets wait."""


class HangUpError(Exception):
    """The other side has closed the connection, or the test is over."""


class Peer:
    """The server's end of one connection."""

    def __init__(self, connection: socket.socket, stopped: threading.Event) -> None:
        self.connection = connection
        self.stopped = stopped

    def send(self, content: bytes) -> None:
        if self.stopped.is_set():
            raise HangUpError
        try:
            self.connection.sendall(content)
        except OSError:
            raise HangUpError from None

    def drip(self, content: bytes, seconds: float = 0.05) -> None:
        """Send one byte at a time, each well within any read timeout."""
        for at in range(len(content)):
            self.send(content[at : at + 1])
            self.stopped.wait(seconds)

    def stall(self) -> None:
        self.stopped.wait()
        raise HangUpError

    def reset(self) -> None:
        """Close with an RST instead of a FIN."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise HangUpError

    def hang_up(self) -> None:
        raise HangUpError

    def read_request(self) -> bytes:
        """Return a whole request, or nothing if the client closed the connection."""
        request = b""
        while b"\r\n\r\n" not in request:
            request += self._receive(request)
            if not request:
                return b""
        head, _, body = request.partition(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        while lengths and len(body) < int(lengths[0].split(b":")[1]):
            body += self._receive(request)
        return head + b"\r\n\r\n" + body

    def _receive(self, already: bytes) -> bytes:
        try:
            received = self.connection.recv(65536)
        except OSError:
            raise HangUpError from None
        if not received and already:
            raise HangUpError
        return received


Behaviour = Callable[[Peer], None]


class MisbehavingServer:
    """Listens on a free port of 127.0.0.1 until it is closed. Sends `greeting` before it reads any request."""

    def __init__(self, tls: ssl.SSLContext | None = None, greeting: bytes = b"") -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self._behaviours: list[Behaviour] = [answer()]
        self._tls = tls
        self._greeting = greeting
        self._stopped = threading.Event()
        self._peers: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/backend"

    def behave(self, *behaviours: Behaviour) -> None:
        self._behaviours = list(behaviours)

    def close(self) -> None:
        self._stopped.set()
        # This wakes accept(); closing the socket alone does not.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for peer in self._peers:
            try:
                peer.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # closed by its own thread
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._peers.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            peer = Peer(connection, self._stopped)
            peer.send(self._greeting)
            while request := peer.read_request():
                self.requests.append(request)
                behaviour = self._behaviours.pop(0) if len(self._behaviours) > 1 else self._behaviours[0]
                behaviour(peer)
        except (HangUpError, OSError):
            pass
        finally:
            connection.close()


@contextmanager
def full_port() -> Iterator[int]:
    """A port that neither accepts nor refuses: its backlog is full, so a connection attempt hangs."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        waiting = []
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
            waiting.append(client)
        try:
            yield port
        finally:
            for client in waiting:
                client.close()


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def response(
    content: object = None,
    status: int = 200,
    *,
    body: bytes | None = None,
    content_type: str = "application/json",
    headers: dict[str, str] | None = None,
) -> bytes:
    """Return a whole HTTP response. `content` is sent as JSON."""
    if body is None:
        body = json.dumps(
            {"message": "OK", "status": "connected", "code": 20001} if content is None else content
        ).encode()
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Type: {content_type}"]
    given = {"Content-Length": str(len(body)), **(headers or {})}
    lines += [f"{name}: {value}" for name, value in given.items() if value]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def answer(content: object = None, status: int = 200, **options: object) -> Behaviour:
    """Return a behaviour that answers correctly."""
    return lambda peer: peer.send(response(content, status, **options))  # type: ignore[arg-type]
