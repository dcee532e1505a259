"""A test's own Redis server. The test can kill and restart it on the same port. It keeps nothing on disk."""

from __future__ import annotations

import socket
import subprocess

import pytest
import redis

from tests.processes import wait_until
from tests.servers import REDIS_SERVER

needs_own_redis = pytest.mark.skipif(
    REDIS_SERVER is None, reason="there is no Redis to start: no wheel for this Python, and no `redis-server`"
)


class OwnRedis:
    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> OwnRedis:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        command = [REDIS_SERVER, "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self._answers, 30, "the Redis of this test")

    def kill(self) -> None:
        """Kill the server, as a power loss would. All its data is lost."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def _answers(self) -> bool:
        try:
            with redis.Redis(port=self.port) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False
