"""Headless Chromium, controlled over its debugging pipe. It needs no driver, port or package besides the browser.

with Chromium() as browser:
    browser.open("http://127.0.0.1:8900/", width=1200, height=900)
    browser.wait_for("document.querySelector('.bubble')")
    Path("phone.png").write_bytes(browser.screenshot())
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# These options keep the browser's own background requests from leaving this machine.
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
    "--remote-debugging-pipe",
)


class NavigatedError(Exception):
    """The browser left the page during a call."""


class Chromium:
    """One browser with one page. Every method raises `AssertionError` if the page does not respond as expected."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        """Uncaught exceptions and console errors of the page, including Content-Security-Policy violations."""
        self._answers: dict[int, dict] = {}
        self._events: list[dict] = []
        self._changed = threading.Condition()
        self._last_id = 0
        self._session: str | None = None

    def __enter__(self) -> Chromium:
        program = next((found for name in NAMES if (found := shutil.which(name))), None)
        assert program, f"None of {', '.join(NAMES)} is installed."
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        for_browser, self._write_fd = os.pipe()
        self._read_fd, from_browser = os.pipe()
        # The browser reads from descriptor 3 and writes to 4. A shell assigns them without a race with other threads.
        command = [program, *OPTIONS, f"--user-data-dir={self._profile.name}", "about:blank"]
        placed = f'exec "$@" 3<&{for_browser} 4>&{from_browser}'
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", placed, "chromium", *command],
            pass_fds=(for_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(for_browser)
        os.close(from_browser)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")
        self._call("Page.setLifecycleEventsEnabled", enabled=True)
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._write_fd)  # the browser exits when its pipe is closed
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(timeout=10)
        os.close(self._read_fd)
        self._profile.cleanup()

    def open(self, url: str, *, width: int = 1200, height: int = 900) -> None:
        """Open `url` in a window of this size in CSS pixels, and wait until it has loaded."""
        self.resize(width, height)
        self._events.clear()
        started = self._call("Page.navigate", url=url)
        # The load event of the previous page may arrive only now. An error page has another loader id.
        loader = "" if "errorText" in started else started.get("loaderId", "")
        self._wait(lambda: any(self._has_loaded(event, loader) for event in self._events), 20, f"{url} to load")

    def resize(self, width: int, height: int) -> None:
        """Resize the window of the current page, in CSS pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **size)

    @contextlib.contextmanager
    def loading(self, what: str = "a page") -> Iterator[None]:
        """Context manager whose body leads to another page. It waits until that page has loaded."""
        self._events.clear()
        yield
        self._wait(lambda: any(map(self._has_loaded, self._events)), 20, f"{what} to load")

    def evaluate(self, expression: str) -> object:
        """Return the value of a JavaScript expression. A promise is awaited."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 15) -> object:
        """Wait until the expression is true, on this page or one that replaces it, and return its value."""
        until = time.monotonic() + seconds
        while True:
            with contextlib.suppress(NavigatedError):
                if value := self.evaluate(f"(() => {{ const v = {expression}; return v instanceof Node || v; }})()"):
                    return value
            assert time.monotonic() < until, f"Waited {seconds} s for {expression}"
            time.sleep(0.05)

    def open_until(self, url: str, expression: str, seconds: float = 60) -> None:
        """Open the page repeatedly until the expression is true, for a page that does not refresh itself."""
        until = time.monotonic() + seconds
        self.open(url)
        while not self.evaluate(expression):
            assert time.monotonic() < until, f"Opened {url} for {seconds} s without {expression}"
            time.sleep(0.5)
            self.open(url)

    def click(self, selector: str) -> None:
        """Click the middle of the element, as a person would. An element on top of it gets the click."""
        self.wait_for(f"document.querySelector({json.dumps(selector)})?.getClientRects().length")
        x, y = self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'nearest', behavior: 'instant'});"
            " const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, text: str) -> None:
        """Type into the focused element. A line break presses Enter."""
        for index, line in enumerate(text.split("\n")):
            if index:
                for kind in ("keyDown", "keyUp"):
                    enter = {"key": "Enter", "code": "Enter", "text": "\r", "windowsVirtualKeyCode": 13}
                    self._call("Input.dispatchKeyEvent", type=kind, **enter)
            if line:
                self._call("Input.insertText", text=line)

    def press(self, key: str, code: int) -> None:
        """Press a key that types no text, by its name and its Windows key code: `Tab` is 9, `Escape` is 27."""
        for kind in ("rawKeyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def prefer(self, *, dark: bool = False, language: str = "") -> None:
        """Set the reader's preference for dark mode and `language`, for the pages that are opened next."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        if language:
            self._call("Network.enable")
            self._call("Network.setExtraHTTPHeaders", headers={"Accept-Language": language})

    def set_cookie(self, name: str, value: str, url: str) -> None:
        self._call("Network.setCookie", name=name, value=value, url=url)

    def offline(self, is_offline: bool) -> None:
        """Disconnect the page from the network, or reconnect it."""
        self._call("Network.enable")
        speed = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self._call("Network.emulateNetworkConditions", offline=is_offline, **speed)

    def screenshot(self) -> bytes:
        """Return the window as a PNG."""
        return base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"])

    @staticmethod
    def _has_loaded(event: dict, loader: str = "") -> bool:
        """Return True if the event reports a loaded page: the one of the navigation `loader`, or any page."""
        if not loader:
            return event["method"] == "Page.loadEventFired"
        told = event["params"]
        return event["method"] == "Page.lifecycleEvent" and (told["name"], told["loaderId"]) == ("load", loader)

    def _call(self, method: str, **parameters: object) -> dict:
        with self._changed:
            self._last_id += 1
            number = self._last_id
        request = {"id": number, "method": method, "params": parameters}
        if self._session:
            request["sessionId"] = self._session
        os.write(self._write_fd, json.dumps(request).encode() + b"\0")
        self._wait(lambda: number in self._answers, 30, f"the browser to answer {method}")
        answer = self._answers.pop(number)
        if "navigated" in answer.get("error", {}).get("message", ""):
            raise NavigatedError(method)
        assert "error" not in answer, f"{method}: {answer.get('error')}"
        return answer["result"]

    def _wait(self, condition, seconds: float, what: str) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, seconds), f"Waited {seconds} s for {what}"

    def _read(self) -> None:
        buffer = b""
        while chunk := os.read(self._read_fd, 1 << 20):
            *messages, buffer = (buffer + chunk).split(b"\0")
            with self._changed:
                for message in messages:
                    self._take(json.loads(message))
                self._changed.notify_all()

    def _take(self, message: dict) -> None:
        if "id" in message:
            self._answers[message["id"]] = message
            return
        self._events.append(message)
        if message["method"] == "Runtime.exceptionThrown":
            details = message["params"]["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        if message["method"] == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
            self.errors.append(message["params"]["entry"]["text"])
