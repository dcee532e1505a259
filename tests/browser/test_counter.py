"""The till when WhatsApp fails: the counter shows the problem by itself, and its buttons fix it."""

from __future__ import annotations

import json

import pytest
import requests

from .test_demo import browser, demo, sell  # noqa: F401

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


@pytest.fixture
def api(demo):  # noqa: F811
    """A function that queries or controls the simulated phone."""

    def call(method: str, path: str, content: object = None) -> dict:
        answer = requests.request(method, f"{demo[1]}/sandbox/api/{path}", json=content, timeout=30)
        assert answer.ok, answer.text
        return answer.json()

    yield call
    call("DELETE", "faults")
    call("POST", "scan", {"license": ""})


def log_in(page, shop):
    page.open(f"{shop}/")
    page.click("nav a[href*=login]")
    page.wait_for("document.querySelector('#id_username')")
    page.click("#id_username")
    page.type("admin")
    page.click("#id_password")
    page.type("admin\n")
    page.wait_for("document.querySelector('.bar nav span')")


def wait_for_status(page, status, seconds=30):
    page.wait_for(f"document.querySelector('li.sale [data-kpwa-status={status}]')", seconds)


def deliveries_to(api, number):
    return [delivery for delivery in api("GET", "ledger")["deliveries"] if delivery["recipient"] == number]


def test_a_phone_that_is_logged_out_stands_on_the_till_by_itself_and_goes_when_it_is_linked(demo, browser, api):  # noqa: F811
    shop, _ = demo
    browser.open(f"{shop}/")
    assert browser.evaluate("document.querySelector('.kpwa-banner').innerText.trim()") == ""
    api("POST", "logout", {"license": ""})
    sell(browser, shop, "0812 4444 1111", "Bu Tuti")
    browser.evaluate("window.notReloaded = true")
    said = "document.querySelector('.kpwa-banner li.kpwa-bad .kpwa-words')?.innerText"
    browser.wait_for(said, 30)
    browser.wait_for(f"/, 1 /.test({said})", 30)
    wait_for_status(browser, "queued")
    # Nobody is logged in, so the page offers no links or buttons.
    assert not browser.evaluate("document.querySelectorAll('.kpwa-banner a, .kpwa-chip form').length")

    api("POST", "scan", {"license": ""})
    browser.wait_for("!document.querySelector('.kpwa-banner li')", 60)
    browser.wait_for("/sampai|dibaca/.test(document.querySelector('li.sale .kpwa-mark')?.innerText)", 60)
    assert browser.evaluate("window.notReloaded")


def test_a_lost_receipt_is_sent_again_from_its_chip_and_arrives(demo, browser, api):  # noqa: F811
    shop, _ = demo
    log_in(browser, shop)
    api("PUT", "faults", {"error_500": {"count": 1, "operation": "sends"}})
    sell(browser, shop, "0812 4444 2222", "Pak Agus")
    wait_for_status(browser, "unknown")
    assert deliveries_to(api, "6281244442222") == []
    browser.click("li.sale [data-kpwa-status=unknown] ~ .kpwa-actions details:first-child summary")
    browser.click("li.sale .kpwa-actions details[open] button")
    browser.wait_for("document.querySelector('.notice.success')")
    browser.wait_for("/sampai|dibaca/.test(document.querySelector('li.sale .kpwa-mark')?.innerText)", 30)
    assert len(deliveries_to(api, "6281244442222")) == 1


def test_a_receipt_goes_to_another_number_from_its_chip(demo, browser, api):  # noqa: F811
    shop, _ = demo
    log_in(browser, shop)
    sell(browser, shop, "0812 4444 3333", "Bu Sri")
    browser.wait_for("/sampai|dibaca/.test(document.querySelector('li.sale .kpwa-mark')?.innerText)", 30)
    for typed in ("0812", "0857 4444 9999"):
        browser.click("li.sale .kpwa-actions details:last-child summary")
        browser.click("li.sale .kpwa-actions details[open] input[type=tel]")
        browser.evaluate("document.activeElement.value = ''")
        browser.type(f"{typed}\n")
        if typed == "0812":
            browser.wait_for(f"document.querySelector('#to')?.value === {json.dumps(typed)}")
            browser.errors[:] = [error for error in browser.errors if "422" not in error]
            browser.open(f"{shop}/")
    browser.wait_for("document.querySelector('.notice.success')")
    browser.wait_for("/sampai|dibaca/.test(document.querySelector('li.sale .kpwa-mark')?.innerText)", 30)
    assert len(deliveries_to(api, "6285744449999")) == 1
    assert len(deliveries_to(api, "6281244443333")) == 1


def test_the_till_says_by_its_looks_that_it_could_not_ask_again(demo, browser, api):  # noqa: F811
    shop, _ = demo
    browser.open(f"{shop}/")
    browser.evaluate("window.fetch = () => Promise.reject(new TypeError('gone'))")
    browser.wait_for("document.querySelector('.kpwa-banner.kpwa-stale')")


def test_a_receipt_reported_as_not_delivered_says_so_by_itself_and_is_sent_again(demo, browser, api):  # noqa: F811
    shop, _ = demo
    log_in(browser, shop)
    api("PUT", "faults", {"undelivered": {"count": 1}})
    sell(browser, shop, "0812 4444 5555", "Pak Budi")
    mark = "document.querySelector('li.sale .kpwa-mark')"
    browser.wait_for(f"/tidak sampai/.test({mark}?.innerText)", 30)
    # The longest mark fits into the narrow list of sales.
    assert browser.evaluate(
        f"{mark}.getBoundingClientRect().right <= {mark}.closest('li').getBoundingClientRect().right"
    )
    browser.click("li.sale .kpwa-actions details:first-child summary")
    browser.click("li.sale .kpwa-actions details[open] button")
    browser.wait_for("document.querySelector('.notice.success')")
    browser.wait_for(f"/✓✓/.test({mark}?.innerText)", 30)
    assert len(deliveries_to(api, "6281244445555")) == 2
