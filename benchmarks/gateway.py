"""A gateway that costs almost nothing: it reads a request, waits if told to, and answers like the documented one.

    python -m benchmarks.gateway PORT [LATENCY_MS]

Every answer has another id. It counts: `GET /count` says how many sends it has answered, `GET /times` when (by the
machine's clock, in seconds), `GET /reset` forgets both.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time


class Gateway(asyncio.Protocol):
    latency_seconds = 0.0
    times: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.received = b""

    def data_received(self, content: bytes) -> None:
        self.received += content
        while True:
            head, separator, rest = self.received.partition(b"\r\n\r\n")
            if not separator:
                return
            length = _length(head)
            if len(rest) < length:
                return
            self.received = rest[length:]
            path = head.split(b" ", 2)[1]
            if b"/openapi/wa/message" in path:
                type(self).times.append(time.time())
                answer = _answer({"status": True, "code": 200, "message": "ok", "result": _result(len(self.times))})
                self._later(answer)
            elif path.endswith(b"/status"):
                self._later(_answer({"code": 200, "status": "connected", "message": "ok"}))
            else:
                self._control(path)

    def _later(self, answer: bytes) -> None:
        if self.latency_seconds:
            asyncio.get_running_loop().call_later(self.latency_seconds, self.transport.write, answer)
        else:
            self.transport.write(answer)

    def _control(self, path: bytes) -> None:
        if path == b"/reset":
            type(self).times = []
        self.transport.write(_answer(self.times if path == b"/times" else len(self.times)))


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _result(number: int) -> dict[str, str]:
    return {"id": f"true_628@c.us_{number:012d}", "body": "ok", "from": "6281234567890", "to": "628", "media_url": ""}


def _answer(content: object) -> bytes:
    body = json.dumps(content).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


async def main(port: int, latency_ms: float) -> None:
    Gateway.latency_seconds = latency_ms / 1000
    server = await asyncio.get_running_loop().create_server(Gateway, "127.0.0.1", port, backlog=1024)
    print("gateway ready", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0))
