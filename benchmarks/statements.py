"""Counts the statements that all clients send to PostgreSQL, with a relay between them and the server.

Every statement counts, `BEGIN` and `COMMIT` as well. A counter in the server would need an extension and its restart.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

# The client's requests for encryption, which are declined: encrypted statements cannot be counted.
_SSL, _GSS = 80877103, 80877104


class Relay:
    """Listens on `port` for clients of the server at `host`, `server_port`; `count`: statements executed so far."""

    def __init__(self, host: str, server_port: int) -> None:
        self._server = (host, server_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.count = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                for side in (client, server):
                    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._requests, args=(client, server), daemon=True).start()
                threading.Thread(target=_answers, args=(server, client), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError), client, server:
            while True:
                # The first message has no type.
                length, code = struct.unpack("!ii", _exactly(client, 8))
                if code not in (_SSL, _GSS):
                    break
                client.sendall(b"N")
            server.sendall(struct.pack("!ii", length, code) + _exactly(client, length - 8))
            while True:
                head = _exactly(client, 5)
                # A simple query, or the execution of a parsed one.
                self.count += head[:1] in (b"Q", b"E")
                server.sendall(head + _exactly(client, struct.unpack("!i", head[1:])[0] - 4))


def _answers(server: socket.socket, client: socket.socket) -> None:
    with contextlib.suppress(OSError), server, client:
        while part := server.recv(65536):
            client.sendall(part)


def _exactly(connection: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        part = connection.recv(size - len(content))
        if not part:
            raise EOFError
        content += part
    return content


@contextlib.contextmanager
def counted(database_url: str) -> Iterator[tuple[str, Relay]]:
    """The same database through a relay: its URL, and the relay that counts."""
    parts = urlsplit(database_url)
    relay = Relay(parts.hostname or "127.0.0.1", parts.port or 5432)
    try:
        yield parts._replace(netloc=f"{parts.username or 'postgres'}@127.0.0.1:{relay.port}").geturl(), relay
    finally:
        relay.close()
