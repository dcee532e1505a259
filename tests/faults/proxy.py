"""A proxy between the site and one of its servers, which imitates a broken network."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from urllib.parse import urlsplit


class Proxy:
    """Forwards connections from a port of its own to `host:port`, until told otherwise. Its `with` closes it.

    `refuse()`: nothing listens. `silence()`: connections are accepted, but nothing comes back. `cut()`: open
    connections end. `pass_on()`: works normally again.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._is_silent = False
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self.port = 0
        self.pass_on()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.refuse()

    def in_front_of(self, url: str) -> str:
        """`url` with this proxy as its host."""
        parts = urlsplit(url)
        user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        return parts._replace(netloc=f"{user}127.0.0.1:{self.port}").geturl()

    def pass_on(self) -> None:
        self._is_silent = False
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
            self.port = self._listener.getsockname()[1]
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def silence(self) -> None:
        """Applies to open connections as well: data is accepted, and nothing comes back."""
        self._is_silent = True

    def cut(self) -> None:
        with self._lock:
            connections, self._connections = self._connections, set()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def refuse(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            # Wakes accept(), which closing alone does not.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.cut()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(self._target, timeout=10) as server:
            server.settimeout(None)
            with self._lock:
                self._connections |= {client, server}
            try:
                self._copy(client, server)
            finally:
                with self._lock:
                    self._connections -= {client, server}

    def _copy(self, client: socket.socket, server: socket.socket) -> None:
        other = {client: server, server: client}
        with selectors.DefaultSelector() as selector:
            for end in other:
                selector.register(end, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    end = key.fileobj
                    content = end.recv(65536)
                    if not content:
                        return
                    if not self._is_silent:
                        other[end].sendall(content)


def proxy_for(url: str) -> Proxy:
    """A proxy in front of the server that `url` names."""
    parts = urlsplit(url)
    default = {"redis": 6379, "amqp": 5672, "mysql": 3306, "postgres": 5432, "postgresql": 5432}
    return Proxy(parts.hostname or "127.0.0.1", parts.port or default[parts.scheme])
