"""The dashboard in a browser: it refreshes itself, does not disturb the user, and never shows old figures as new."""

from __future__ import annotations

import pytest

from tests.browser.chromium import Chromium

from .test_counter import api, log_in  # noqa: F401
from .test_demo import browser, demo, sell  # noqa: F401

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

SENT = "Number(document.querySelectorAll('.kpwa-counts dd:not(.kpwa-quiet)')[1].innerText)"
TIME = "document.querySelector('[data-kpwa-time]').innerText"


@pytest.fixture
def dashboard(demo, browser):  # noqa: F811
    """The demo's dashboard, open in a browser with a logged-in user."""
    log_in(browser, demo[0])
    browser.open(f"{demo[0]}/admin/django_kpwa/dashboard/", width=1300, height=1400)
    browser.evaluate("window.notReloaded = true")
    return browser


def ring_up(shop, number, name):
    with Chromium() as till:
        sell(till, shop, number, name)


def wait_for_a_refresh(page):
    before = page.evaluate(TIME)
    page.wait_for(f"{TIME} !== '{before}'", 20)


def test_a_sale_is_counted_on_an_open_dashboard(demo, dashboard):  # noqa: F811
    before = dashboard.evaluate(SENT)
    ring_up(demo[0], "0812 5555 1111", "Bu Rina")
    dashboard.wait_for(f"{SENT} === {before + 1}", 60)
    assert dashboard.evaluate("window.notReloaded")


def test_a_message_in_doubt_appears_and_is_decided_here(demo, dashboard, api):  # noqa: F811
    api("PUT", "faults", {"timeout_504_after": {"probability": 1, "count": 1, "operation": "sends"}})
    ring_up(demo[0], "0812 5555 2222", "Pak Joko")
    dashboard.wait_for("document.querySelector('.kpwa-undecided')?.innerText.includes('0812-5555-2222')", 60)
    assert dashboard.evaluate("window.notReloaded")
    dashboard.click("[id^=kpwa-it_arrived-]")
    dashboard.wait_for("document.querySelector('.messagelist') && !document.querySelector('.kpwa-undecided')")


def test_a_refresh_leaves_what_a_person_is_doing(demo, dashboard, api):  # noqa: F811
    def fall_into_doubt(number, count):
        api("PUT", "faults", {"timeout_504_after": {"probability": 1, "count": 1, "operation": "sends"}})
        ring_up(demo[0], number, f"Pelanggan {count}")
        dashboard.wait_for(f"document.querySelectorAll('.kpwa-undecided li').length === {count}", 60)

    fall_into_doubt("0812 5555 3333", 1)
    fall_into_doubt("0812 5555 4444", 2)
    chosen = dashboard.evaluate("document.querySelector('.kpwa-undecided input').id")
    dashboard.click(f"#{chosen}")
    dashboard.click("#kpwa-hours-table summary")
    dashboard.evaluate("document.querySelector('[id^=kpwa-leave_it-]').focus()")
    focused = dashboard.evaluate("document.activeElement.id")
    scrolled = dashboard.evaluate("(window.scrollTo(0, 150), window.scrollY)")
    # A third message changes the part of the page that is in use.
    fall_into_doubt("0812 5555 6666", 3)
    wait_for_a_refresh(dashboard)

    assert dashboard.evaluate("[...document.querySelectorAll('.kpwa-undecided input:checked')].map(box => box.id)") == [
        chosen
    ]
    assert dashboard.evaluate("document.activeElement.id") == focused
    assert dashboard.evaluate("document.querySelector('#kpwa-hours-table').open")
    assert dashboard.evaluate("window.scrollY") >= scrolled
    assert dashboard.evaluate("window.notReloaded")

    dashboard.click("#kpwa-choose-all")
    dashboard.click("#kpwa-many-leave_it")
    dashboard.click("form.kpwa-panel button[type=submit]")
    dashboard.wait_for("document.querySelector('.messagelist') && !document.querySelector('.kpwa-undecided')")


def test_a_server_that_went_away_is_said_and_the_old_figures_are_grey_until_it_is_back(dashboard):
    dashboard.offline(True)
    dashboard.wait_for("document.querySelector('[data-kpwa-stale]').dataset.problem === 'away'", 20)
    time = dashboard.evaluate(TIME)
    assert time in dashboard.evaluate("document.querySelector('[data-kpwa-stale]').innerText")
    assert dashboard.evaluate("!!document.querySelector('.kpwa-is-stale')")
    dashboard.errors.clear()  # the failed requests

    dashboard.offline(False)
    dashboard.wait_for("document.querySelector('[data-kpwa-stale]').innerText === ''", 20)
    assert not dashboard.evaluate("!!document.querySelector('.kpwa-is-stale')")
    assert dashboard.evaluate(TIME) != time
    dashboard.errors.clear()


def test_who_was_logged_out_meanwhile_is_told_and_led_to_the_login(dashboard):
    dashboard.evaluate(
        "fetch('/admin/logout/', {method: 'POST', body: new FormData(document.querySelector('#logout-form'))})"
    )
    dashboard.wait_for("document.querySelector('[data-kpwa-stale]').dataset.problem === 'loggedOut'", 20)
    assert dashboard.evaluate("!!document.querySelector('.kpwa-is-stale')")
    dashboard.click("[data-kpwa-stale] a")
    dashboard.wait_for("document.querySelector('#id_username')")
