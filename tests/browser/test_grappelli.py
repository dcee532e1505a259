"""Under django-grappelli, whose buttons float and are 25 pixels wide, ours do not overlap and are readable."""

from __future__ import annotations

import pytest

from tests.sites.live import LiveSite

from .chromium import Chromium

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

OURS = ".kpwa-button, .kpwa-troubles a"
# Buttons that overlap another, leave the window, or are narrower than their text.
WRONG = f"""(() => {{
    const found = [...document.querySelectorAll("{OURS}")].filter(e => e.checkVisibility());
    const rects = found.map(e => e.getBoundingClientRect());
    const name = e => (e.innerText || e.value).trim();
    return found.filter((e, i) => rects[i].left < 0 || rects[i].right > innerWidth + 1
        || e.scrollWidth > e.clientWidth + 1
        || rects.some((r, j) => j !== i && r.left < rects[i].right - 1 && r.right > rects[i].left + 1
            && r.top < rects[i].bottom - 1 && r.bottom > rects[i].top + 1)).map(name);
}})()"""


@pytest.fixture(scope="module")
def site():
    with LiveSite("tests.sites.grappelli") as running:
        yield running


@pytest.mark.parametrize("width", [1280, 390])
def test_buttons_lie_beside_one_another(site, width):
    client = site.client()
    messages, licenses = site.page("outboundmessage/"), site.page("license/")
    addresses = [
        site.page("dashboard/"),
        site.page("webhookevent/"),
        messages,
        *(f"{messages}{number}/change/" for number in (1, 2, 9)),
        *(f"{licenses}{number}/change/" for number in (1, 3, 4)),
        f"{messages}1/another_number/",
    ]
    with Chromium() as browser:
        browser.set_cookie("sessionid", client.cookies["sessionid"], site.url)
        wrong, count = {}, 0
        for address in addresses:
            assert client.get(address, timeout=30).status_code == 200, address
            browser.open(address, width=width, height=900)
            count += browser.evaluate(f'document.querySelectorAll("{OURS}").length')
            if found := browser.evaluate(WRONG):
                wrong[address] = found
    assert count > 30
    assert wrong == {}
