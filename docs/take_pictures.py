"""Takes the pictures of README and docs from a running demo: `python -m docs.take_pictures` (needs Chromium).

It starts the demo in a separate folder, rings up sales at its till as a cashier would, answers as the customer, and
writes PNG files into docs/images/. Messages of earlier days are made up, so that the charts have data. The QR codes are
the simulated phone's: they link nothing.
"""

from __future__ import annotations

import io
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
from PIL import Image

from tests.browser.chromium import Chromium

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
DESK, PHONE = (1280, 900), (390, 844)
PHONE_LEFT = 973
"""Where the phone begins on the demo's page of 1400 by 900."""
# name, number, tiles of the till; the first is the one whose message is shown
BASKETS = (
    ("Bu Sari", "0812 3344 5566", (0, 0, 3)),
    ("Pak Budi", "0857 1122 3344", (1, 4, 5)),
)
MORE_BASKETS = (
    ("Mas Dimas", "0813 9876 1200", (2, 6)),
    ("Bu Ratna", "0821 5567 8899", (0, 1)),
)
WAITING = ("Bu Wati", "0813 2211 4455", (2, 9))
IN_DOUBT = ("Pak Hendra", "0852 7788 9900", (3, 3, 7))
ARRIVED = "delivered|read"
PAST = """
import random
from datetime import timedelta
from django.utils import timezone
from django_kpwa.models import HourlyStatistic, License
random.seed(7)
license_ = License.objects.get()
now = timezone.localtime().replace(minute=0, second=0, microsecond=0)
hours = [now - timedelta(hours=ago) for ago in range(4, 24 * 30)]
HourlyStatistic.objects.bulk_create(
    HourlyStatistic(
        license=license_, hour=hour, sent=sent, failed=random.random() < .06, unknown=0,
        queued_to_sent=[0, sent // 2, sent // 3, sent - sent // 2 - sent // 3, *[0] * 8],
    )
    for hour in hours
    if 7 <= hour.hour <= 21 and (sent := random.randint(4, 11) + (9 if hour.hour in (12, 13, 18, 19) else 0)
                                 + (6 if hour.weekday() > 4 else 0))
)
"""


class Demo:
    """`manage.py demo`, started fresh and stopped like with Ctrl-C."""

    def __init__(self, home: Path) -> None:
        self._home = home
        command = [sys.executable, "manage.py", "demo", "--no-browser", "--home", str(home)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()
        self.shop = self._announced(r"(http://[\d.]+:\d+)/demo/")
        self.phone = self._announced(r"Phone alone\s+(http://[\d.]+:\d+)")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)

    def make_up_a_past(self) -> None:
        settings = {"DJANGO_SETTINGS_MODULE": "example_project.demo.settings", "SHOP_HOME": str(self._home)}
        command = [sys.executable, "manage.py", "shell", "--no-imports", "-c", PAST]
        subprocess.run(command, cwd=ROOT, env={**os.environ, **settings}, check=True)

    def tell_phone(self, method: str, path: str, content: dict) -> None:
        """Send the request of a press on the phone's screen."""
        requests.request(method, f"{self.phone}/sandbox/api/{path}", json=content, timeout=10).raise_for_status()

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


def ring_up(browser: Chromium, name: str, number: str, tiles: tuple[int, ...], until: str = ARRIVED) -> None:
    """Sell at the till in the left frame of the demo's page."""
    till = "document.querySelector('iframe.shop').contentDocument"
    browser.wait_for(f"!!{till}.querySelector('.tile')")
    for tile in tiles:
        browser.evaluate(f"{till}.querySelectorAll('.tile')[{tile}].click()")
    for field, value in (("customer_phone", number), ("customer_name", name)):
        browser.evaluate(f"{till}.getElementById('{field}').value = {json.dumps(value)}")
    browser.evaluate(f"{till}.querySelector('button.pay').click()")
    browser.wait_for(f"{till}.querySelector('.recent')?.innerText.includes({json.dumps(name)})")
    browser.wait_for(f"/{until}/.test({till}.querySelector('[data-kpwa-status]')?.dataset.kpwaStatus)", 30)


def log_in(browser: Chromium, demo: Demo) -> None:
    browser.open(f"{demo.shop}/admin/login/?next=/admin/")
    browser.click("#id_username")
    browser.type("admin")
    browser.click("#id_password")
    browser.type("admin\n")
    browser.wait_for("document.querySelector('#user-tools')")


def write(name: str, png: bytes) -> None:
    """Reduce to 256 colours: half the size, without a visible difference."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(IMAGES / f"{name}.png", optimize=True)


def show_every_way(
    browser: Chromium, name: str, address: str, *, prepare: str = "", ready: str = "", desk: tuple[int, int] = DESK
) -> None:
    """Pictures of a page in both languages, light and dark, on a desktop and on a phone."""
    for language in ("en", "id"):
        for dark in (False, True):
            for (width, height), device in ((desk, ""), (PHONE, "-phone")):
                browser.prefer(dark=dark, language=language)
                browser.open(address, width=width, height=height)
                if prepare:
                    browser.click(prepare)
                if ready:
                    browser.wait_for(ready)
                browser.evaluate("document.activeElement.blur()")
                tone = "dark" if dark else "light"
                write(f"{name}-{language}-{tone}{device}", browser.screenshot())


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    os.environ["TZ"] = "Asia/Jakarta"  # the browser's time zone, so that phone and receipt show the same time
    with tempfile.TemporaryDirectory() as home:
        demo = Demo(Path(home))
        try:
            demo.make_up_a_past()
            with Chromium() as browser:
                take_pictures(browser, demo)
        finally:
            demo.stop()


def take_row_of_readme(browser: Chromium, demo: Demo) -> None:
    """The till and the customer's phone, in the shape of the dashboard's picture on a phone: three in a row."""
    width, height = PHONE
    shown = Image.open(io.BytesIO(browser.screenshot()))
    phone = shown.crop((PHONE_LEFT, 0, PHONE_LEFT + shown.height * width // height, shown.height)).resize(PHONE)
    as_png = io.BytesIO()
    phone.save(as_png, "PNG")
    write("phone", as_png.getvalue())
    browser.open(f"{demo.shop}/", width=width, height=height)
    browser.wait_for("!!document.querySelector('.tile')")
    name, number, tiles = BASKETS[-1]
    for tile in tiles:
        browser.evaluate(f"document.querySelectorAll('.tile')[{tile}].click()")
    for field, value in (("customer_phone", number), ("customer_name", name)):
        browser.evaluate(f"document.getElementById('{field}').value = {json.dumps(value)}")
    browser.evaluate("document.querySelector('button.pay').scrollIntoView({block: 'end'}); scrollBy(0, 100)")
    write("till", browser.screenshot())


def take_pictures(browser: Chromium, demo: Demo) -> None:
    browser.open(f"{demo.shop}/demo/", width=1400, height=900)
    for basket in BASKETS:
        ring_up(browser, *basket)
    demo.tell_phone("POST", "answer", {"chat": "6285711223344", "text": "Terima kasih!"})
    time.sleep(3)  # the phone is another origin, so the browser cannot tell if it shows the answer
    take_row_of_readme(browser, demo)

    for basket in MORE_BASKETS:
        ring_up(browser, *basket)
    demo.tell_phone("POST", "answer", {"chat": "6281233445566", "text": "Terima kasih, kopinya enak"})
    demo.tell_phone("PUT", "faults", {"timeout_504_after": {"count": 1, "operation": "sends"}})
    ring_up(browser, *IN_DOUBT, until="unknown")
    log_in(browser, demo)
    ours = f"{demo.shop}/admin/django_kpwa"
    show_every_way(browser, "message", f"{ours}/outboundmessage/1/change/")
    show_every_way(browser, "dashboard", f"{ours}/dashboard/", desk=(1280, 1400))

    demo.tell_phone("POST", "logout", {"license": ""})
    browser.prefer(language="id")
    browser.open(f"{demo.shop}/demo/", width=1400, height=900)
    ring_up(browser, *WAITING, until="queued")
    width, height = PHONE
    browser.open(f"{ours}/dashboard/", width=width, height=height)
    browser.wait_for("document.body.innerText.includes('Perlu scan QR')", 30)
    write("stopped-id-phone", browser.screenshot())
    show_every_way(
        browser,
        "link",
        f"{ours}/license/1/link/",
        prepare="[data-kpwa-ask] button",
        ready="document.querySelector('[data-step=code] .kpwa-qr')",
    )


if __name__ == "__main__":
    main()
