"""A day at the counter. Browser, site, worker and beat are real, and only the phone is simulated.

The tests are one story: each part starts where the previous one ended.
"""

from __future__ import annotations

import json

import pytest

from .chromium import Chromium
from .test_counter import api, deliveries_to, log_in  # noqa: F401
from .test_demo import demo, sell  # noqa: F401

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

CARD = "document.querySelector('.kpwa-card')"
WAITING, SENT = (
    f"Number({CARD}.querySelectorAll('.kpwa-counts div > dd:nth-of-type(1)')[{index}].innerText)" for index in (0, 1)
)
UNDECIDED = "document.querySelector('.kpwa-undecided')?.innerText"
TOLD = "document.querySelector('.messagelist .success')"


@pytest.fixture
def people(demo):  # noqa: F811
    """Three screens: the operator's (logged in), the cashier's, and the shop's phone."""
    with Chromium() as operator, Chromium() as cashier, Chromium() as phone:
        log_in(operator, demo[0])
        yield operator, cashier, phone
        assert operator.errors + cashier.errors + phone.errors == []


class Screens:
    def __init__(self, demo, people):  # noqa: F811
        self.shop, self.phone_url = demo
        self.operator, self.cashier, self.phone = people

    def look_at_dashboard(self):
        self.operator.open(f"{self.shop}/admin/django_kpwa/dashboard/", width=1280, height=1200)
        self.operator.evaluate("window.notReloaded = true")

    def look_at_license(self):
        self.operator.open(f"{self.shop}/admin/django_kpwa/license/1/change/", width=1280, height=1200)

    def see(self, what, seconds=60):
        """Wait for `what` on the operator's screen, and check that the page was not reloaded."""
        self.operator.wait_for(what, seconds)
        assert self.operator.evaluate("window.notReloaded")

    def sell(self, number, name):
        sell(self.cashier, self.shop, number, name)

    def press_and_confirm(self, selector):
        with self.operator.loading("the question"):
            self.operator.click(selector)
        with self.operator.loading("the answer"):
            self.operator.click("form.kpwa-panel button[type=submit]")
        self.operator.wait_for(TOLD)

    def scan_what_the_page_shows(self):
        """Show the code on the operator's screen, and scan it with the phone."""
        self.operator.click("[data-kpwa-ask] button")
        self.operator.wait_for("document.querySelector('[data-step=code] .kpwa-qr')")
        self.phone.open(f"{self.phone_url}/")
        self.phone.click("#scan")
        self.operator.wait_for("document.querySelector('[data-step=linked]')", 10)

    def log_the_phone_out(self):
        self.phone.open(f"{self.phone_url}/")
        self.phone.click("#open-menu")
        self.phone.click("#log-out")
        self.phone.wait_for("document.querySelector('#qr')?.naturalWidth > 100")

    def see_on_the_phone(self, number, name):
        self.phone.open(f"{self.phone_url}/?chat={number}")
        self.phone.wait_for(f"document.querySelector('.bubble.ours')?.innerText.includes({json.dumps(name)})")


@pytest.fixture
def screens(demo, people):  # noqa: F811
    return Screens(demo, people)


def test_a_day_of_the_operator(screens, api):  # noqa: F811
    link_whatsapp(screens, api)
    watch_a_sale_being_counted(screens)
    say_that_one_in_doubt_arrived(screens, api)
    send_a_lost_one_again(screens, api)
    see_the_phone_logged_out_and_link_it_again(screens, api)
    reset_the_webhook(screens, api)


def link_whatsapp(screens, api):  # noqa: F811
    api("POST", "logout", {"license": ""})
    screens.look_at_license()
    with screens.operator.loading("the page that links"):
        screens.operator.click("a[href$='/link/']")
    screens.scan_what_the_page_shows()


def watch_a_sale_being_counted(screens):
    screens.look_at_dashboard()
    before = screens.operator.evaluate(SENT)
    screens.sell("0812 7000 0001", "Bu Rina")
    screens.see(f"{SENT} === {before + 1}")
    screens.see(f"{CARD}.classList.contains('kpwa-edge-good')")
    screens.see_on_the_phone("6281270000001", "Bu Rina")


def say_that_one_in_doubt_arrived(screens, api):  # noqa: F811
    api("PUT", "faults", {"timeout_504_after": {"count": 1, "operation": "sends"}})
    screens.sell("0812 7000 0002", "Pak Joko")
    screens.see(f"{UNDECIDED}?.includes('0812-7000-0002')")
    with screens.operator.loading("the dashboard"):
        screens.operator.click("[id^=kpwa-it_arrived-]")
    screens.operator.wait_for(TOLD)
    assert screens.operator.evaluate(f"!{UNDECIDED}")
    assert len(deliveries_to(api, "6281270000002")) == 1


def send_a_lost_one_again(screens, api):  # noqa: F811
    api("PUT", "faults", {"error_500": {"count": 1, "operation": "sends"}})
    screens.look_at_dashboard()
    screens.sell("0812 7000 0003", "Bu Sari")
    screens.see(f"{UNDECIDED}?.includes('0812-7000-0003')")
    assert deliveries_to(api, "6281270000003") == []
    screens.press_and_confirm("[id^=kpwa-send_again-]")
    screens.see_on_the_phone("6281270000003", "Bu Sari")
    assert len(deliveries_to(api, "6281270000003")) == 1


def see_the_phone_logged_out_and_link_it_again(screens, api):  # noqa: F811
    screens.look_at_dashboard()
    before = screens.operator.evaluate(SENT)
    screens.log_the_phone_out()
    screens.sell("0812 7000 0004", "Pak Budi")
    screens.sell("0812 7000 0005", "Bu Ani")
    screens.see(f"{CARD}.classList.contains('kpwa-edge-bad') && {WAITING} === 2")

    with screens.operator.loading("the page that links"):
        screens.operator.click("[id^=kpwa-help-]")
    screens.scan_what_the_page_shows()
    screens.look_at_dashboard()
    screens.see(f"{CARD}.classList.contains('kpwa-edge-good') && {WAITING} === 0 && {SENT} === {before + 2}")
    assert [len(deliveries_to(api, f"628127000000{last}")) for last in (4, 5)] == [1, 1]


def reset_the_webhook(screens, api):  # noqa: F811
    assert api("GET", "state")["licenses"][0]["has_webhook"]
    screens.look_at_license()
    screens.press_and_confirm("form[action$='/reset_webhook/'] button")
    assert not api("GET", "state")["licenses"][0]["has_webhook"]
    assert screens.operator.evaluate("!!document.querySelector(`form[action$='/register_webhook/']`)")
