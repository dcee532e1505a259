"""Linking WhatsApp in a real browser, under a strict Content-Security-Policy, with a scan on the sandbox's page."""

from __future__ import annotations

import time

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from pytest_django.live_server_helper import LiveServer

from django_kpwa.models import Lane, License, OutboundMessage
from tests.contract.gateway_case import scanned

from .chromium import Chromium

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

LINK = "[data-kpwa-link]"
PATH = "document.querySelector('.kpwa-qr path')?.getAttribute('d')"
FOCUSED = "document.activeElement.hasAttribute('data-kpwa-heading')"


@pytest.fixture
def shop(sandbox, settings, db):
    settings.KPWA = {**settings.KPWA, "GATEWAY": "django_kpwa.gateway.http.HttpGateway"}
    license_ = License(name="Toko", base_url=sandbox.base_url)
    license_.set_api_key(sandbox.key)
    license_.save()
    sandbox.clear_faults()
    sandbox.logout()
    yield license_
    sandbox.clear_faults()


@pytest.fixture
def site(settings, shop):
    settings.MIDDLEWARE = ["tests.sites.policy.StrictPolicyMiddleware", *settings.MIDDLEWARE]
    server = LiveServer("127.0.0.1:0")
    yield server.url
    server.stop()


@pytest.fixture
def browser(chromium, site):
    get_user_model().objects.create_superuser("boss", password="boss")
    chromium.errors.clear()
    chromium.open(f"{site}/admin/")
    chromium.click("#id_username")
    chromium.type("boss")
    chromium.click("#id_password")
    chromium.type("boss\n")
    chromium.wait_for("document.querySelector('#user-tools')")
    yield chromium
    chromium.open("about:blank")
    assert chromium.errors == []


def open_page(browser, site, shop, width=1200, has_script=True, **seconds):
    """Open the linking page with shorter intervals."""
    browser.open(f"{site}/admin/django_kpwa/license/{shop.pk}/link/", width=width, height=900)
    browser.wait_for(f"document.querySelector('{LINK}{'.kpwa-live' if has_script else ''}')")
    for name, value in {"pollSeconds": 0.2, **seconds}.items():
        browser.evaluate(f"document.querySelector('{LINK}').dataset.{name} = {value}")


def show_code(browser):
    browser.click("[data-kpwa-ask] button")
    browser.wait_for(PATH)


def heading(browser):
    return browser.evaluate("document.querySelector('[data-kpwa-heading]').innerText.trim()")


def wait_for_step(browser, step, seconds=15):
    browser.wait_for(f"document.querySelector('[data-kpwa-panel][data-step={step}]')", seconds)


def questions(sandbox, operation):
    return len([entry for entry in sandbox.log() if entry.get("operation") == operation])


def test_a_license_is_linked_by_a_scan_on_the_phone_and_the_page_notices_within_two_seconds(
    browser, site, shop, sandbox
):
    open_page(browser, site, shop, pollSeconds=2)
    assert questions(sandbox, "login-qr") == 0
    show_code(browser)
    assert scanned(browser.screenshot()).startswith("2@")
    assert browser.evaluate(FOCUSED)
    with Chromium() as phone:
        phone.open(f"{sandbox.url}/")
        phone.click("#scan")
        sandbox.wait_until(lambda state: state["licenses"][0]["linked"])
        scanned_at = time.monotonic()
        wait_for_step(browser, "linked")
        assert time.monotonic() - scanned_at < 3  # the two-second interval, plus the answer

    assert "WhatsApp is linked" in heading(browser)
    assert "WhatsApp is linked" in browser.evaluate("document.querySelector('[data-kpwa-said]').textContent")
    assert browser.evaluate(FOCUSED)
    assert not browser.evaluate(PATH)
    assert Lane.objects.get().session_status == "connected"
    messages = list(LogEntry.objects.order_by("pk").values_list("change_message", flat=True))
    assert messages == ["Showed the code that links WhatsApp.", "WhatsApp is linked."]

    # The page offers a test message next.
    browser.click("[data-kpwa-panel] a.kpwa-primary")
    browser.click("#id_to")
    browser.type("0812 3456 7890\n")
    browser.wait_for("document.querySelector('.messagelist .success')")
    assert OutboundMessage.objects.get().recipient == "6281234567890"


def test_after_a_minute_without_a_link_the_page_asks_about_a_passkey(browser, site, shop, sandbox):
    question = "!document.querySelector('[data-kpwa-passkey]').hidden"
    open_page(browser, site, shop, passkeySeconds=1)
    assert not browser.evaluate(question)
    show_code(browser)
    browser.wait_for(question)
    browser.click("[data-kpwa-passkey] a")
    browser.wait_for("document.querySelector('.kpwa-ready')")
    assert "“Toko”" in browser.evaluate("document.querySelector('.kpwa-ready').value")
    open_page(browser, site, shop, passkeySeconds=1)
    show_code(browser)
    browser.wait_for(question)
    sandbox.scan()
    wait_for_step(browser, "linked")
    assert not browser.evaluate(question)


def test_the_code_is_drawn_anew_without_reloading(browser, site, shop, sandbox):
    open_page(browser, site, shop, redrawSeconds=0.5)
    show_code(browser)
    browser.evaluate(f"window.before = {PATH}")
    sandbox.logout()  # this creates a new code
    browser.wait_for(f"{PATH} && {PATH} !== window.before")
    assert scanned(browser.screenshot()).startswith("2@")
    assert browser.evaluate("window.before")


def test_when_the_time_is_up_the_code_goes_and_nobody_is_asked_any_more(browser, site, shop, sandbox):
    open_page(browser, site, shop, stopSeconds=1)
    show_code(browser)
    wait_for_step(browser, "expired")
    assert heading(browser) == "The time is up"
    assert browser.evaluate(FOCUSED)
    assert not browser.evaluate("document.querySelector('.kpwa-qr')")
    time.sleep(0.5)  # let a request in flight finish
    asked = len(sandbox.log())
    time.sleep(0.8)
    assert len(sandbox.log()) == asked

    browser.evaluate(f"document.querySelector('{LINK}').dataset.stopSeconds = 60")
    browser.click("[data-kpwa-ask] button")
    browser.wait_for(PATH)
    sandbox.scan()
    wait_for_step(browser, "linked")


def test_a_hidden_tab_asks_nobody_and_goes_on_when_it_is_seen_again(browser, site, shop, sandbox):
    open_page(browser, site, shop)
    show_code(browser)
    browser.evaluate("Object.defineProperty(document, 'hidden', { configurable: true, get: () => true })")
    time.sleep(0.5)  # let a request in flight finish
    asked = len(sandbox.log())
    time.sleep(0.8)
    assert len(sandbox.log()) == asked
    browser.evaluate("delete document.hidden")
    sandbox.scan()
    wait_for_step(browser, "linked")


def test_one_failure_is_a_hiccup_and_a_second_is_shown_in_place_of_the_code(browser, site, shop, sandbox):
    open_page(browser, site, shop)
    show_code(browser)
    sandbox.set_faults(error_500={"count": 1})
    sandbox.wait_until(lambda state: not any(fault["probability"] for fault in state["faults"]))
    time.sleep(0.8)
    assert browser.evaluate(PATH)
    sandbox.set_faults(revoked_key=1)
    wait_for_step(browser, "failed")
    assert "Key refused" in heading(browser)
    assert not browser.evaluate("document.querySelector('.kpwa-qr')")


def test_a_site_that_no_longer_answers_is_said_to_be_gone(browser, site, shop):
    open_page(browser, site, shop)
    show_code(browser)
    browser.evaluate("window.fetch = () => Promise.reject(new TypeError('gone'))")
    wait_for_step(browser, "offline")
    assert heading(browser) == "This site does not answer"
    assert not browser.evaluate("document.querySelector('.kpwa-qr')")


def test_one_question_at_a_time(browser, site, shop, sandbox):
    open_page(browser, site, shop, pollSeconds=0.05)
    browser.evaluate(
        "(() => { const real = fetch; let open = 0; window.most = 0; window.fetch = async (...asked) => {"
        " open += 1; window.most = Math.max(window.most, open);"
        " try { return await real(...asked); } finally { open -= 1; } }; })()"
    )
    sandbox.set_faults(latency={"amount": 300})
    show_code(browser)
    time.sleep(1.5)
    assert browser.evaluate("window.most") == 1


def test_a_page_that_was_left_shows_no_code_when_one_goes_back(browser, site, shop):
    open_page(browser, site, shop)
    show_code(browser)
    browser.open(f"{site}/admin/")
    browser.evaluate("setTimeout(() => history.back(), 0)")
    browser.wait_for("document.querySelector('[data-kpwa-panel]')")
    assert not browser.evaluate("document.querySelector('.kpwa-qr')")


def test_without_javascript_every_button_works(browser, site, shop, sandbox):
    browser._call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        open_page(browser, site, shop, has_script=False)
        browser.click("[data-kpwa-ask] button")
        browser.wait_for(PATH)
        assert scanned(browser.screenshot()).startswith("2@")
        browser.click("form[action$='/link/check/'] button")
        wait_for_step(browser, "waiting")
        sandbox.scan()
        browser.click("form[action$='/link/check/'] button")
        wait_for_step(browser, "linked")
    finally:
        browser._call("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_on_a_phone_nothing_is_cut_off_and_the_code_is_black_on_white_in_every_theme(browser, site, shop, theme):
    browser.evaluate(f"localStorage.setItem('theme', '{theme}')")
    open_page(browser, site, shop, width=390)
    show_code(browser)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390
    assert scanned(browser.screenshot()).startswith("2@")
    assert (
        browser.evaluate("getComputedStyle(document.querySelector('.kpwa-qr')).backgroundColor") == "rgb(255, 255, 255)"
    )
    browser.open(f"{site}/admin/django_kpwa/license/{shop.pk}/change/", width=390, height=900)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390
    browser.evaluate("localStorage.removeItem('theme')")
