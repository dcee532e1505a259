"""Sites with other setups: their own `AdminSite` below a prefix, unfold, or requests in transactions.

Each is served by a process of its own; see tests/sites/. The browser tests check how they look.
"""

from __future__ import annotations

import re
from functools import cache
from html import unescape
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest

from tests.sites.live import LiveSite

ADDRESS = re.compile(r'(?:href|src|action|data-address|data-url)="([^"#][^"]*)"')


@pytest.fixture(scope="module")
def hostile():
    with LiveSite("tests.sites.hostile") as site:
        yield site


def press(site, client, name, **body):
    """Post the action `name`, confirmed, from the message's page. Return the address that it redirects to."""
    headers = {"Referer": site.page("outboundmessage/<path:object_id>/change/")}
    answer = client.post(
        site.page(name), {"confirmed": "yes", **body}, headers=headers, allow_redirects=False, timeout=30
    )
    assert answer.status_code == 302, answer.text
    return urljoin(site.url, answer.headers["Location"])


@pytest.fixture(
    scope="module",
    params=["hostile", pytest.param("stock", marks=pytest.mark.slow), pytest.param("unfold", marks=pytest.mark.slow)],
)
def site(request):
    if request.param == "hostile":
        yield request.getfixturevalue("hostile")
        return
    with LiveSite(f"tests.sites.{request.param}") as site:
        yield site


@cache
def addresses_on(site):
    """Every address on every page that the site shows, each with the URL of its page."""
    shown = site.shown(site.client())
    return [(page["url"], unescape(address)) for page, text in shown for address in ADDRESS.findall(text)]


def test_every_page_is_shown_and_leads_nowhere_that_does_not_exist(site):
    client = site.client()
    led_to = {urljoin(url, address).partition("#")[0] for url, address in addresses_on(site)}
    of_site = sorted(address for address in led_to if address.startswith(site.url) and "/logout/" not in address)
    # One value of a filter is enough: all its values lead to the same page.
    apart = {(urlsplit(address).path, *sorted(parse_qs(urlsplit(address).query))): address for address in of_site}
    answers = {address: client.get(address, timeout=30).status_code for address in apart.values()}

    assert len(answers) > 30
    assert {address for address, status in answers.items() if status not in (200, 403, 405)} == set()


def test_below_a_prefix_no_address_leaves_it(hostile):
    own = [(url, address) for url, address in addresses_on(hostile) if address.startswith("/")]

    assert own
    assert [pair for pair in own if not f"{pair[1]}/".startswith("/toko/")] == []


def test_buttons_of_the_admin_work_on_a_site_of_ones_own(hostile):
    client = hostile.client()
    page = hostile.page("outboundmessage/<path:object_id>/change/")

    assert press(hostile, client, "outboundmessage/<path:object_id>/send_again/") == page
    assert "waiting" in client.get(page, timeout=30).text
    assert urlsplit(
        press(hostile, client, "outboundmessage/<path:object_id>/another_number/", to="0812 9876 5432")
    ).path.startswith("/toko/kantor/django_kpwa/outboundmessage/")


def test_buttons_of_the_counter_work_inside_of_the_hosts_transactions(hostile):
    client = hostile.client()
    before = client.get(hostile.page("outboundmessage/"), timeout=30).text.count("action-checkbox")

    assert press(hostile, client, "kpwa:messages/<uuid:message_uuid>/send-to/", to="0812 9876 5433")
    assert client.get(hostile.page("outboundmessage/"), timeout=30).text.count("action-checkbox") == before + 1


def test_a_webhook_is_answered_whatever_the_hosts_rest_framework_refuses(hostile):
    answer = hostile.client().post(
        hostile.page("kpwa:webhooks/<str:token>/"), json={"from": "6281234567890"}, timeout=30
    )

    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/json"
