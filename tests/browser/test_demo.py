"""The demo as its user sees it: till, phone and admin in a real browser."""

from __future__ import annotations

import json
import os
import re
import sys

import pytest

from tests.browser.chromium import Chromium
from tests.processes import RunningProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The addresses of a new demo: those of the shop and the phone."""
    home = tmp_path_factory.mktemp("demo") / "home"
    command = [sys.executable, "manage.py", "demo", "--no-browser", "--home", str(home)]
    process = RunningProcess(command, _environment())
    try:
        process.wait_for_output("Ctrl-C stops everything", 90)
        found = re.findall(r"(?:Till and phone|Phone alone)\s+(http://[\d.]+:\d+)", process.output)
        yield found
        process.stop()
    finally:
        process.close()


@pytest.fixture
def browser():
    with Chromium() as running:
        yield running
        assert running.errors == []


def _environment():
    names = {"DATABASE_URL", "CELERY_BROKER_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE"}
    return {name: value for name, value in os.environ.items() if name not in names} | {"PYTHONUNBUFFERED": "1"}


def sell(browser, shop, number, name):
    browser.open(f"{shop}/")
    browser.click(".tile")
    browser.click(".tile:nth-child(2)")
    browser.click("#customer_phone")
    browser.type(number)
    browser.click("#customer_name")
    browser.type(name)
    browser.click("button.pay")
    browser.wait_for(f"document.querySelector('.recent')?.innerText.includes({json.dumps(name)})")


def test_a_sale_shows_on_the_phone_and_its_answer_in_the_admin(demo, browser):
    shop, phone = demo
    sell(browser, shop, "0812 9988 7766", "Bu Rina")
    browser.wait_for("/sampai|dibaca/.test(document.querySelector('li.sale .kpwa-mark')?.innerText)")

    browser.open(f"{phone}/?chat=6281299887766")
    browser.wait_for("document.body?.innerText.includes('Bu Rina')")
    browser.click("#composer input, #composer textarea")
    browser.type("terima kasih\n")
    browser.wait_for("[...document.querySelectorAll('.bubble')].some(b => b.innerText.includes('terima kasih'))")

    browser.open(f"{shop}/admin/")
    browser.click("#id_username")
    browser.type("admin")
    browser.click("#id_password")
    browser.type("admin\n")
    browser.wait_for("document.querySelector('#user-tools')")
    answered = "document.body.innerText.includes('terima kasih')"  # the phone shows it before the webhook arrives
    browser.open_until(f"{shop}/admin/django_kpwa/webhookevent/", answered)


def test_the_receipt_appears_on_an_open_phone_without_reloading_it(demo, browser):
    shop, phone = demo
    with Chromium() as customer:
        customer.open(f"{phone}/")
        customer.evaluate("window.notReloaded = true")
        sell(browser, shop, "0857 1111 2222", "Pak Joko")
        customer.wait_for("document.body?.innerText.includes('857-1111-2222')")
        assert customer.evaluate("window.notReloaded")
