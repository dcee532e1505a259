"""The sandbox as a real process, for every test that needs a gateway to talk to.

    with SandboxProcess("--linked", "--group", "Kitchen") as sandbox:
        …  # sandbox.base_url, sandbox.key, sandbox.ledger(), sandbox.set_faults(error_500={"count": 1})

Faults and other switches are those of `/sandbox/api/`. See docs/sandbox.md.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import subprocess
import sys
import threading
import time

import requests

STARTUP_SECONDS = 90


class SandboxProcess:
    """Runs `python -m django_kpwa.sandbox` with the given arguments on a free port, and stops it at the end."""

    key = "sandbox-key"

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self._session = requests.Session()
        self._session.trust_env = False
        self.process: subprocess.Popen[str] | None = None
        self.url = ""

    def __enter__(self) -> SandboxProcess:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def base_url(self) -> str:
        """The URL for `KPWA["BASE_URLS"]` or a license's base URL."""
        return f"{self.url}/backend"

    def start(self, *arguments: str) -> None:
        """Start the sandbox, and wait until it answers. After `stop()`, it uses the same port again.

        `arguments`: replace the previous arguments from now on.
        """
        self._arguments = arguments or self._arguments
        port = self.url.rpartition(":")[2] or "0"
        command = [sys.executable, "-m", "django_kpwa.sandbox", "--port", port, *self._arguments]
        environ = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ)
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        # A thread keeps reading, so that the sandbox never blocks on a full pipe.
        self._reader = threading.Thread(target=_copy_lines, args=(self.process.stdout, lines), daemon=True)
        self._reader.start()
        self.url = _announced_url(lines, self.process)
        self.state()

    def stop(self) -> int:
        """Stop the sandbox as Ctrl-C would, and return its exit code."""
        process, self.process = self.process, None
        if process is None:
            return 0
        process.terminate()
        try:
            return process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError("The sandbox did not stop within 10 seconds of SIGTERM.") from None
        finally:
            self._reader.join(timeout=10)
            process.stdout.close()
            self._session.close()

    # What happened

    def ledger(self, *, after: int = 0) -> list[dict]:
        """Accepted deliveries in order: sequence, id, license, recipient, group, text, image_url, accepted_at."""
        return self._json("GET", f"ledger?after={after}")["deliveries"]

    def log(self) -> list[dict]:
        """Received requests (`direction` in) and posted webhooks (out)."""
        return self._json("GET", "log")["log"]

    def state(self, *, license: str = "", chat: str = "") -> dict:
        return self._json("GET", f"state?license={license}&chat={chat}")

    def wait_for_deliveries(self, count: int, seconds: float = 20) -> list[dict]:
        """Wait until the ledger has `count` entries, and return it. Fails after `seconds`."""
        self.wait_until(lambda state: state["deliveries"] >= count, seconds, f"{count} deliveries")
        return self.ledger()

    def wait_until(self, condition, seconds: float = 20, what: str = "the expected state", **chosen: str) -> dict:
        """Wait until `condition(state)` is true, and return the state. `license` and `chat` select the full details."""
        until = time.monotonic() + seconds
        state = self.state(**chosen)
        while not condition(state):
            left = until - time.monotonic()
            assert left > 0, f"Waited {seconds} s for {what}; the sandbox has {state['deliveries']} deliveries."
            selection = "".join(f"&{name}={value}" for name, value in chosen.items())
            state = self._json("GET", f"state?since={state['version']}&wait={min(left, 5):.2f}{selection}")
        return state

    # What to do

    def faults(self) -> dict[str, dict]:
        return {fault["name"]: fault for fault in self._json("GET", "faults")["faults"]}

    def set_faults(self, **faults: object) -> None:
        """`set_faults(reset_after={"count": 1, "operation": "sends"}, latency={"amount": 200}, error_500=0.1)`."""
        self._json("PUT", "faults", faults)

    def clear_faults(self) -> None:
        self._json("DELETE", "faults")

    @contextlib.contextmanager
    def having_faults(self, **faults: object):
        self.set_faults(**faults)
        try:
            yield
        finally:
            self.clear_faults()

    def scan(self, license: str = "") -> None:
        self._json("POST", "scan", {"license": license})

    def logout(self, license: str = "") -> None:
        self._json("POST", "logout", {"license": license})

    def answer(self, text: str, *, chat: str = "", group: str = "", sender: str = "", license: str = "") -> None:
        """Send a message as the customer. `chat` is a number, or `group` is a name and `sender` a member's number."""
        arguments = {"text": text, "chat": chat, "group": group, "sender": sender, "license": license}
        self._json("POST", "answer", arguments)

    def read(self, *, chat: str = "", id: str = "", license: str = "") -> None:
        """Open a chat as the customer, or mark a single message as read."""
        self._json("POST", "read", {"chat": chat, "id": id, "license": license})

    def add_group(self, name: str, license: str = "") -> None:
        self._json("POST", "groups", {"name": name, "license": license})

    def set_registered(self, number: str, registered: bool) -> None:
        self._json("POST", "registered", {"number": number, "registered": registered})

    def set_unlinked_status(self, status: int) -> None:
        self._json("POST", "unlinked-status", {"status": status})

    def reset(self) -> None:
        """Empty chats, ledger and log, remove webhooks, and switch off faults. Licenses, links and groups stay."""
        self._json("POST", "reset")

    def _json(self, method: str, path: str, content: object = None) -> dict:
        answer = self._session.request(method, f"{self.url}/sandbox/api/{path}", json=content, timeout=30)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()


def _copy_lines(stream, lines: queue.SimpleQueue[str]) -> None:
    for line in stream:
        lines.put(line)
    lines.put("")


def _announced_url(lines: queue.SimpleQueue[str], process: subprocess.Popen[str]) -> str:
    until = time.monotonic() + STARTUP_SECONDS
    while True:
        try:
            line = lines.get(timeout=max(until - time.monotonic(), 0.1))
        except queue.Empty:
            process.kill()
            raise AssertionError(f"The sandbox did not start within {STARTUP_SECONDS} seconds.") from None
        if not line:
            raise AssertionError(f"The sandbox exited during its start, with exit code {process.wait()}.")
        if found := re.search(r"Phone +(http://\S+)/", line):
            return found.group(1)
