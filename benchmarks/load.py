"""A client that costs little: a number of connections, kept alive, each posting one body after the other.

    python -m benchmarks.load PORT PATH CONNECTIONS REQUESTS

Prints, as JSON, the seconds that each request took, and those from the first to the last. Every body is different.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

BODY = '{"id": "%s", "from": "6281234567890", "to": "6289876543210", "message": "Terima kasih, struk sudah diterima"}'


def main(port: int, path: str, connections: int, requests: int) -> None:
    taken: list[float] = []
    began_at = time.perf_counter()
    with ThreadPoolExecutor(connections) as pool:
        for posted in [pool.submit(_post, port, path, requests // connections, taken) for _ in range(connections)]:
            posted.result()
    print(json.dumps({"seconds": time.perf_counter() - began_at, "taken": taken}))


def _post(port: int, path: str, requests: int, taken: list[float]) -> None:
    prefix = os.urandom(8).hex()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for n in range(requests):
            body = BODY % f"{prefix}_{n:08d}"
            request = (
                f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}"
            ).encode()
            began_at = time.perf_counter()
            connection.sendall(request)
            _read_answer(connection)
            taken.append(time.perf_counter() - began_at)


def _read_answer(connection: socket.socket) -> None:
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(65536)
        if not part:
            raise ConnectionError("The server closed the connection.")
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise ValueError(received.decode(errors="replace")[:300])
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(body) < length:
        body += connection.recv(65536)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
