"""What people see when the number is in trouble or a customer wants no messages.

This covers the page about passkeys, a restriction, a message with only one tick, and a stop. Each runs in both
languages, on desktop and phone, by keyboard and with axe. The sandbox causes everything: its phone asks for the
passkey, refuses new customers and sends no ticks, and its customer writes "stop".
"""

from __future__ import annotations

import json
import time
from itertools import product
from pathlib import Path

import pytest
from django.contrib.auth import get_user_model
from django.db.models import F
from django.test import Client
from django.utils import translation
from django.utils.translation import gettext
from pytest_django.live_server_helper import LiveServer

from django_kpwa import license_actions
from django_kpwa.dispatch import drive
from django_kpwa.formatting import coming_day
from django_kpwa.models import Heartbeat, Lane, License, OutboundMessage, Status
from django_kpwa.outbox import send_message
from django_kpwa.ticks import LAST_SENT
from django_kpwa.webhooks import process_due_events
from django_kpwa.words import Tone
from tests.integration.times import pass_time
from tests.shop.models import Sale
from tests.sites import stock

from .test_every_page import DESK, PHONE, problems_of

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]

KNOWN, NEW = "6281200000001", "6281200000002"
ADMIN = "/admin/django_kpwa/"
FOCUSED = "document.activeElement.innerText?.trim()"


@pytest.fixture
def site(settings):
    settings.MIDDLEWARE, settings.LANGUAGES = stock.MIDDLEWARE, stock.LANGUAGES
    settings.ROOT_URLCONF = stock.ROOT_URLCONF
    templates = Path(__file__).parent.parent / "sites" / "templates"
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [templates]}]
    server = LiveServer("127.0.0.1:0")
    settings.KPWA = {
        **settings.KPWA, "GATEWAY": "django_kpwa.gateway.http.HttpGateway", "PUBLIC_URL": server.url
    }  # fmt: skip
    yield server.url
    server.stop()


@pytest.fixture
def shop(sandbox, site):
    """A license with a linked phone and a registered webhook."""
    sandbox.reset()
    sandbox.scan()
    license_ = License(name="Toko", base_url=sandbox.base_url)
    license_.set_api_key(sandbox.key)
    license_.save()
    license_actions.check_status(license_)
    license_actions.set_webhook(license_)
    # Pretend that a sweep ran. A missing sender is not the subject of these tests.
    Heartbeat.objects.note("sweep")
    return license_


@pytest.fixture(params=product(["en", "id"], [DESK, PHONE]), ids=["en-desk", "en-phone", "id-desk", "id-phone"])
def reader(request, site, shop, chromium, axe_source):
    """A superuser with a language and a screen size."""
    language, size = request.param
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("boss"))
    chromium.set_cookie("sessionid", client.cookies["sessionid"].value, site)
    chromium.prefer(language=language)
    chromium.errors.clear()
    yield Reader(chromium, site, size, axe_source, language)
    chromium.open("about:blank")


class Reader:
    def __init__(self, browser, site, size, axe_source, language):
        self.browser, self.site, self.size = browser, site, size
        self.axe_source, self.language = axe_source, language

    def open(self, path):
        width, height = self.size
        self.browser.open(f"{self.site}{path}", width=width, height=height)
        self.look()

    def look(self):
        """Check that the page is in the reader's language, accessible and free of errors."""
        assert self.browser.evaluate("document.documentElement.lang") == self.language
        assert problems_of(self.browser, self.axe_source, self.size[0]) == []

    def words(self, text, **values):
        """Return a text of the app in the reader's language."""
        with translation.override(self.language):
            return gettext(text) % values if values else gettext(text)

    def until(self, moment):
        with translation.override(self.language):
            return gettext("until %(time)s") % {"time": coming_day(moment)}

    def sees(self, words, within="body"):
        found = self.browser.evaluate(f"document.querySelector({json.dumps(within)})?.innerText ?? ''")
        said = " ".join(found.split())
        assert words in said
        for slip in ("..", "None", "%(", " ."):
            assert slip not in said.replace("…", "")

    def sees_mark(self, words, tone, within="body"):
        marks = self.browser.evaluate(
            f"[...document.querySelectorAll({json.dumps(f'{within} .kpwa-mark')})].map(e => [e.innerText, e.className])"
        )
        assert any(words in text and f"kpwa-{tone.value}" in classes for text, classes in marks), marks

    def presses(self, words, *, leaves=True):
        """Move to the element with this text by the Tab key alone, and press Enter."""
        self.browser.evaluate("document.activeElement.blur()")
        for _ in range(300):
            self.browser.press("Tab", 9)
            if (self.browser.evaluate(FOCUSED) or "").startswith(words):
                break
        else:
            raise AssertionError(f"The Tab key never reaches {words!r}.")
        if leaves:
            with self.browser.loading(words):
                self.browser.type("\n")
            self.look()
        else:
            self.browser.type("\n")


def hear(sandbox, count):
    """Process the webhooks that the phone posts, until `count` have arrived."""
    until, heard = time.monotonic() + 30, 0
    while heard < count:
        assert time.monotonic() < until, f"{heard} of {count} webhooks arrived"
        heard += process_due_events()
        time.sleep(0.05)


def a_sale(number=NEW):
    sale = Sale.objects.create(status=Sale.Status.PAID, customer_phone=number)
    # A receipt normally waits some seconds, in case the sale is saved again.
    receipt = OutboundMessage.objects.for_source(sale)
    receipt.update(due_at=F("created_at"))
    return receipt.get()


def test_who_is_asked_for_a_passkey_finds_what_to_do(reader, shop, sandbox):
    sandbox.logout()
    license_actions.check_status(shop)
    sandbox.set_faults(passkey_asked=1)
    reader.open(f"{ADMIN}license/{shop.pk}/link/")
    sooner = "{pollSeconds: 0.2, passkeySeconds: 1}"
    reader.browser.evaluate(f"Object.assign(document.querySelector('[data-kpwa-link]').dataset, {sooner})")
    reader.presses(reader.words("Show the code"), leaves=False)
    reader.browser.wait_for("document.querySelector('.kpwa-qr path')")
    sandbox.scan()
    question = reader.words("Does the phone ask for a passkey, or say to continue on another device?")
    reader.browser.wait_for("!document.querySelector('[data-kpwa-passkey]').hidden")
    reader.sees(question, "[data-kpwa-passkey]")
    reader.look()
    reader.presses(reader.words("What to do then"))
    reader.sees(reader.words("The phone asks for a passkey"), "h1")
    reader.sees(reader.words("What helped others"))
    reader.sees(reader.words("The phone may say that a new device was linked. That is the gateway, and expected."))
    assert "“Toko”" in reader.browser.evaluate("document.querySelector('.kpwa-ready').value")
    reader.presses(reader.words("Back to the code"))
    reader.browser.wait_for("document.querySelector('[data-kpwa-link]')")


def test_a_restriction_is_said_everywhere_and_ended_by_who_knows_better(reader, shop, sandbox):
    sandbox.answer("Halo", chat=KNOWN)
    hear(sandbox, 1)
    sandbox.set_faults(restricted_400={"amount": 0})
    message = a_sale()
    for n in range(2):
        a_sale(f"628120000001{n}")
    send_message(KNOWN, "Struk", license=shop)
    drive(shop.pk)
    assert [entry["recipient"] for entry in sandbox.ledger()] == [KNOWN]
    until = Lane.objects.get().restricted_until
    # The spelling that the lists of problems use.
    told = reader.until(until)
    reader.open("/")
    assert reader.browser.evaluate("document.querySelector('.kpwa-banner').getAttribute('role')") == "status"
    reader.sees(told, ".kpwa-banner .kpwa-attention")
    reader.open(f"{ADMIN}dashboard/")
    reader.sees(told)
    reader.open(f"{ADMIN}outboundmessage/")
    reader.sees_mark(reader.words("number restricted"), Tone.WAITING, "#result_list")
    reader.open(f"{ADMIN}outboundmessage/{message.pk}/change/")
    reader.sees(reader.words("It goes out sooner if the customer writes to the shop."), ".kpwa-meaning")
    reader.open(f"{ADMIN}license/{shop.pk}/change/")
    sandbox.clear_faults()
    reader.presses(reader.words("End the restriction"))
    reader.presses(reader.words("End the restriction"))
    reader.sees(reader.words("What waited for that is sent."))
    drive(shop.pk)
    message.refresh_from_db()
    assert message.status == Status.SENT
    reader.open("/")
    assert not reader.browser.evaluate("document.querySelector('.kpwa-banner').innerText.trim()")


def test_one_tick_only_is_said_where_others_get_two(reader, shop, sandbox):
    for n in range(LAST_SENT):
        send_message(f"62812{n:08}", "Struk", license=shop)
    drive(shop.pk)
    hear(sandbox, LAST_SENT)
    sandbox.set_faults(no_ticks=1)
    message = a_sale()
    drive(shop.pk)
    pass_time(minutes=31)
    words = reader.words("one tick only")
    reader.open(f"{ADMIN}outboundmessage/")
    reader.sees_mark(words, Tone.ATTENTION, "#result_list")
    reader.open(f"{ADMIN}outboundmessage/{message.pk}/change/")
    reader.sees_mark(words, Tone.ATTENTION, ".kpwa-meaning")
    reader.sees(
        reader.words("The phone may be off or without a connection. Ask the customer whether the number is right."),
        ".kpwa-meaning",
    )
    reader.open("/")
    reader.sees_mark(words, Tone.ATTENTION, ".kpwa-chip")
    sandbox.clear_faults()
    reader.presses(reader.words("Send to another number"), leaves=False)
    reader.browser.wait_for("document.querySelector('details[open] input')")
    reader.browser.press("Tab", 9)
    with reader.browser.loading():
        reader.browser.type(f"{KNOWN}\n")
    reader.look()
    drive(shop.pk)
    assert sandbox.ledger()[-1]["recipient"] == KNOWN


def test_a_stop_is_said_on_the_sale_and_lifted_once_the_customer_asks_again(reader, shop, sandbox):
    message = a_sale()
    sandbox.answer("STOP", chat=NEW)
    hear(sandbox, 1)
    words = reader.words("the customer wants no messages")
    reader.open(f"{ADMIN}outboundmessage/")
    reader.sees_mark(words, Tone.NEUTRAL, "#result_list")
    reader.open(f"{ADMIN}outboundmessage/{message.pk}/change/")
    reader.sees_mark(words, Tone.NEUTRAL, ".kpwa-meaning")
    reader.open("/")
    reader.sees_mark(words, Tone.NEUTRAL, ".kpwa-chip")
    assert not reader.browser.evaluate("document.querySelector('.kpwa-chip .kpwa-why')")
    reader.presses(reader.words("The customer asks again"), leaves=False)
    reader.browser.wait_for("document.querySelector('details[open] button')")
    reader.look()
    reader.browser.press("Tab", 9)
    with reader.browser.loading():
        reader.browser.type("\n")
    reader.look()
    reader.presses(reader.words("Send again"))
    drive(shop.pk)
    assert {entry["recipient"] for entry in sandbox.ledger()} == {NEW}
