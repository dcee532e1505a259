"""Every page of the app in each variant: stock admin and unfold, light and dark, phone and desktop, both languages.

The stock site sends a strict Content-Security-Policy, so that every violation is a console error.
"""

from __future__ import annotations

import json
from itertools import product

import pytest

from tests.sandbox import SandboxProcess
from tests.sites.live import LiveSite

from . import axe
from .chromium import Chromium

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

KEY = "test-api-key-of-Toko-Utama"
PHONE, DESK = (390, 844), (1280, 900)

TOO_WIDE = """[...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1)
    .slice(-3).map(e => `${e.tagName}.${e.className}`).join(", ")"""
# `looks` has the styles that a theme may change for the focus. `stops` has the elements that the Tab key must reach.
WALK = """(() => {
    window.looks = (e) => { const s = getComputedStyle(e); return [s.outlineStyle, s.outlineWidth, s.outlineColor,
        s.boxShadow, s.borderColor, s.backgroundColor, s.color, s.textDecorationLine].join(); };
    window.stops = [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, summary, textarea,"
        + " [tabindex='0']")].filter(e => e.checkVisibility({visibilityProperty: true}) && !e.disabled
        && e.tabIndex >= 0 && !e.closest("[inert]"));
    document.activeElement.blur();
    window.before = stops.map(looks);
    return stops.map(e => `${e.tagName}.${e.className} ${e.innerText ?? ""} ${e.id}`.trim());
})()"""
STOP = """(() => {
    const e = document.activeElement, index = stops.indexOf(e);
    return [index, index >= 0 && looks(e) !== before[index]];
})()"""
# The buttons whose forms the browser submits without script, and what identifies each kind of button.
BUTTONS = """[...document.querySelectorAll("form[method=post] button.kpwa-button")]
    .filter(b => !("kpwaAsk" in b.form.dataset))"""
KINDS = f"""{BUTTONS}.map(b => [b.name, b.value,
    (b.getAttribute("formaction") ?? b.form.action).replace(/\\d+/g, "N")].join(" ").trim())"""


@pytest.fixture(scope="module", params=["stock", "unfold"])
def site(request):
    with SandboxProcess("--license", f"Toko Utama:{KEY}") as sandbox:
        kpwa = {"GATEWAY": "django_kpwa.gateway.http.HttpGateway", "BASE_URLS": [sandbox.base_url]}
        with LiveSite(f"tests.sites.{request.param}", kpwa=kpwa) as site:
            client = site.client()
            site.session = client.cookies["sessionid"]
            # Without the answers that scripts fetch, because those are only parts of a page.
            site.shown_pages = [page["url"] for page, text in site.shown(client) if "<html" in text]
            yield site


@pytest.fixture
def browser(site):
    with Chromium() as running:
        running.set_cookie("sessionid", site.session, site.url)
        yield running


def problems_of(browser, axe_source, width):
    """Return the problems of the current page. axe adds inline styles, so the errors that it causes are dropped."""
    found = [*browser.errors]
    if (needed := browser.evaluate("document.scrollingElement.scrollWidth")) > width:
        found.append(f"{needed} pixels in a window of {width}: {browser.evaluate(TOO_WIDE)}")
    found += axe.violations(browser, axe_source)
    browser.errors.clear()
    return found


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("language", ["en", "id"])
def test_every_page_is_accessible_fits_and_breaks_no_policy(site, browser, axe_source, dark, language):
    browser.prefer(dark=dark, language=language)
    problems = {}
    for address in site.shown_pages:
        browser.open(address, width=DESK[0], height=DESK[1])
        assert browser.evaluate("document.documentElement.lang") == language
        # Resizing is cheaper than loading the page again.
        for width, height in (DESK, PHONE):
            browser.resize(width, height)
            if found := problems_of(browser, axe_source, width):
                problems[f"{address} at {width} pixels"] = found

    assert len(site.shown_pages) > 20
    assert problems == {}


@pytest.mark.parametrize(
    ("name", "size"),
    [*product(("outboundmessage/", "webhookevent/", "receiptfailure/", "license/"), (DESK, PHONE))],
)
def test_a_list_cuts_nothing_off_and_has_rows_of_two_lines(site, browser, name, size):
    browser.prefer(language="id")
    width, height = size
    browser.open(site.page(name), width=width, height=height)
    cut_off = """(() => { const list = document.getElementById("result_list");
        const frame = list.parentElement.getBoundingClientRect();
        return [...list.querySelectorAll("td, th")].filter(e => e.getBoundingClientRect().right > frame.right + 1)
            .map(e => e.className); })()"""
    tallest = "Math.max(...[...document.querySelectorAll('#result_list tbody tr')].map(e => e.offsetHeight))"

    assert browser.evaluate(cut_off) == []
    assert size != DESK or browser.evaluate(tallest) < 70


def test_what_a_button_answers_is_accessible_fits_and_breaks_no_policy(site, browser, axe_source):
    browser.prefer(dark=True, language="id")
    width, height = PHONE
    problems, pressed = {}, set()
    addresses = list(site.shown_pages)
    while addresses:
        browser.open(addresses[0], width=width, height=height)
        browser.errors.clear()
        kinds = browser.evaluate(KINDS)
        kind = next((kind for kind in kinds if kind not in pressed), None)
        if kind is None:
            del addresses[0]
            continue
        pressed.add(kind)
        with browser.loading(kind):
            browser.evaluate(f"{BUTTONS}[{kinds.index(kind)}].click()")
        if found := problems_of(browser, axe_source, width):
            problems[f"{addresses[0]}: {kind}"] = found

    assert len(pressed) > 10
    assert problems == {}


def test_the_code_that_links_whatsapp_is_accessible_fits_and_breaks_no_policy(site, browser, axe_source):
    link = site.page("license/<path:object_id>/link/")
    refused = link.replace("/1/", "/4/")
    for dark, (width, height) in ((False, DESK), (True, PHONE)):
        for address, step in ((link, "code"), (refused, "failed")):
            browser.prefer(dark=dark)
            browser.open(address, width=width, height=height)
            browser.click("[data-kpwa-ask] button")
            browser.wait_for(f"document.querySelector('[data-kpwa-panel]').dataset.step === {json.dumps(step)}", 30)
            assert problems_of(browser, axe_source, width) == []


def test_without_a_mouse_every_button_is_reached_and_seen_to_be(site, browser):
    problems = {}
    for address in site.shown_pages:
        browser.open(address, width=DESK[0], height=DESK[1])
        stops = browser.evaluate(WALK)
        missed, unseen = set(range(len(stops))), set()
        for _ in range(3 * len(stops) + 10):  # a date field has three stops
            browser.press("Tab", 9)
            index, is_seen = browser.evaluate(STOP)
            missed.discard(index)
            if index >= 0 and not is_seen:
                unseen.add(index)
            if not missed:
                break
        if missed or unseen:
            problems[address] = {"missed": [stops[i] for i in missed], "not seen": [stops[i] for i in unseen]}

    assert problems == {}
