"""A gateway that costs almost nothing: it reads a request, waits if told to, and answers like the documented one.

    python -m benchmarks.gateway PORT [LATENCY_MS]

Every answer has a different id. `GET /count` returns the number of answered sends, `GET /distinct` how many of them
were different, and `GET /times` the times of the sends (by the machine's clock, in seconds). `GET /reset` resets all of
this. The gateway shares the machine with what it measures. So its answers are prepared except for the id, and it has a
thread for each connection: a thread that waits in `recv` costs half as much as an event loop.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
import time

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Gateway:
    def __init__(self, latency_seconds: float) -> None:
        self.latency_seconds = latency_seconds
        self.times: list[float] = []
        self.bodies: set[int] = set()

    def serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = b""
        with connection:
            while content := connection.recv(65536):
                received += content
                head, separator, rest = received.partition(b"\r\n\r\n")
                if not separator:
                    continue
                told = _LENGTH.search(head)
                length = int(told[1]) if told else 0
                if len(rest) < length:
                    continue
                connection.sendall(self._answer_to(head.split(b" ", 2)[1], rest[:length]))
                received = rest[length:]

    def _answer_to(self, path: bytes, body: bytes) -> bytes:
        if b"/openapi/wa/message" in path:
            self.times.append(time.time())
            self.bodies.add(hash(body))
            answer = _SENT % len(self.times)
        elif b"/check-number/" in path:
            answer = _REGISTERED
        elif path.endswith(b"/status"):
            answer = _CONNECTED
        else:
            return self._control(path)
        if self.latency_seconds:
            time.sleep(self.latency_seconds)
        return answer

    def _control(self, path: bytes) -> bytes:
        if path == b"/reset":
            self.times.clear()
            self.bodies.clear()
        known = {b"/times": self.times, b"/distinct": len(self.bodies)}
        return _answer(json.dumps(known.get(path, len(self.times))).encode())


def _answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


_ID = "true_628@c.us_" + "0" * 12
_RESULT = {"id": _ID, "body": "ok", "from": "6281234567890", "to": "628", "media_url": ""}
_SENT = _answer(json.dumps({"status": True, "code": 200, "message": "ok", "result": _RESULT}).encode()).replace(
    b"0" * 12, b"%012d"
)
_CONNECTED = _answer(b'{"code": 200, "status": "connected", "message": "ok"}')
_REGISTERED = _answer(b'{"code": 200, "is_registered": true, "message": "ok"}')


def main(port: int, latency_ms: float) -> None:
    gateway = Gateway(latency_ms / 1000)
    with socket.create_server(("127.0.0.1", port), backlog=1024) as server:
        print("gateway ready", flush=True)
        while True:
            connection, _ = server.accept()
            threading.Thread(target=gateway.serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0)
