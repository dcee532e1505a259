"""Takes the pictures of README and docs from a running demo: `python -m docs.take_pictures` (needs Chromium).

Starts the demo in a folder of its own, rings up sales at its till as a cashier would, answers as the customer, and
writes PNG files into docs/images/.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import requests

from tests.browser.chromium import Chromium

IMAGES = Path(__file__).resolve().parent / "images"
BASKETS = (
    ("Bu Sari", "0812 3344 5566", (0, 0, 3)),
    ("Pak Budi", "0857 1122 3344", (1, 4, 5)),
)


class Demo:
    """`manage.py demo`, started fresh and stopped as Ctrl-C would."""

    def __init__(self, home: Path) -> None:
        command = [sys.executable, "manage.py", "demo", "--no-browser", "--home", str(home)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()
        self.shop = self._announced(r"(http://[\d.]+:\d+)/demo/")
        self.phone = self._announced(r"Phone alone\s+(http://[\d.]+:\d+)")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.append(line)

    def _announced(self, pattern: str) -> str:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            found = re.search(pattern, "".join(self._lines))
            if found:
                return found[1]
            time.sleep(0.1)
        raise SystemExit("The demo did not start:\n" + "".join(self._lines))


def ring_up(browser: Chromium, name: str, number: str, tiles: tuple[int, ...]) -> None:
    """Sell at the till in the left frame of the demo's page."""
    till = "document.querySelector('iframe.shop').contentDocument"
    browser.wait_for(f"!!{till}.querySelector('.tile')")
    for tile in tiles:
        browser.evaluate(f"{till}.querySelectorAll('.tile')[{tile}].click()")
    for field, value in (("customer_phone", number), ("customer_name", name)):
        browser.evaluate(f"{till}.getElementById('{field}').value = {json.dumps(value)}")
    browser.evaluate(f"{till}.querySelector('button.pay').click()")
    browser.wait_for(f"{till}.querySelector('.recent')?.innerText.includes({json.dumps(name)})")
    browser.wait_for(f"/sampai|dibaca/.test({till}.querySelector('.kpwa-mark')?.innerText)")


def answer(phone: str, number: str, text: str) -> None:
    """Answer as the customer, as a press on the phone's screen would."""
    response = requests.post(f"{phone}/sandbox/api/answer", json={"chat": number, "text": text}, timeout=10)
    response.raise_for_status()


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    os.environ["TZ"] = "Asia/Jakarta"  # the browser's, so that phone and receipt show one time
    with tempfile.TemporaryDirectory() as home:
        demo = Demo(Path(home))
        try:
            with Chromium() as browser:
                browser.open(f"{demo.shop}/demo/", width=1400, height=900)
                for basket in BASKETS:
                    ring_up(browser, *basket)
                answer(demo.phone, "6285711223344", "Terima kasih!")
                time.sleep(3)  # the phone is another origin: whether it shows the answer cannot be asked
                (IMAGES / "demo.png").write_bytes(browser.screenshot())
        finally:
            demo.stop()


if __name__ == "__main__":
    main()
