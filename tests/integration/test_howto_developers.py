"""The how-to pages for developers (own-gateway, own-parser, from-requests): their code and commands work."""

from __future__ import annotations

import json
import re
import shlex
import sys
from datetime import timedelta
from types import ModuleType

import pytest
import requests
from django.conf import settings as django_settings
from django.test import SimpleTestCase, override_settings
from django.urls import clear_url_caches, path
from django.utils import timezone

from django_kpwa import receipts, testing
from django_kpwa.failing_server import FailingServer, answering
from django_kpwa.models import EventStatus, OutboundMessage, Status
from tests.cli import kpwa as run_kpwa
from tests.pages import blocks_of
from tests.processes import ROOT
from tests.shop.models import Sale
from tests.shop.whatsapp import PaidReceipt, RefundReceipt
from tests.sites import warta


def named_blocks_of(page: str) -> dict[str, str]:
    """The page's Python blocks by the name in their first line, which is usually a file."""
    return {named[1]: block for block in blocks_of(page) if (named := re.match(r"# (.+)\n", block))}


def run_block(block: str, **named: object) -> dict[str, object]:
    """Run a block and return the names that it defines. The site's modules come from `sys.modules`."""
    namespace = {"__name__": "a_site", **named}
    exec(compile(block, "a page", "exec"), namespace)
    return namespace


def commands_of(page: str) -> list[list[str]]:
    """The page's `manage.py kpwa` commands, split as a shell splits them."""
    lines = "".join(blocks_of(page, "console")).splitlines()
    return [shlex.split(line)[3:] for line in lines if line.startswith("python manage.py kpwa ")]


@pytest.fixture
def site(monkeypatch):
    """Add a module that the pages mention to the site: `site("shop.warta", module)`."""

    def add(name, module=None):
        module = module or ModuleType(name)
        package, _, last = name.rpartition(".")
        if package and package not in sys.modules:
            monkeypatch.setitem(sys.modules, package, ModuleType(package))
        monkeypatch.setitem(sys.modules, name, module)
        if package:
            monkeypatch.setattr(sys.modules[package], last, module, raising=False)
        return module

    return add


# own-gateway.md

_OWN_GATEWAY = named_blocks_of("own-gateway.md")
# A global name lets pytest collect the class as it would in the site.
TestWartaGateway = run_block(
    _OWN_GATEWAY["shop/tests/test_warta.py"].replace("from shop.warta", "from tests.sites.warta")
)["TestWartaGateway"]


class WartaGatewayTests(TestWartaGateway, SimpleTestCase):
    """The same tests under Django's test runner."""


def test_the_example_of_a_gateway_is_short():
    source = (ROOT / "tests/sites/warta.py").read_text()
    assert len(source.splitlines()) <= 60


def test_a_message_goes_out_by_a_gateway_of_the_sites_own(transactional_db, site, settings):
    site("shop.warta", warta)
    answers = {b"POST /api/messages": (201, {"id": "w-1"}), b"GET /api/session": (200, {"state": "online"})}

    def answer(connection, ended):
        line = b" ".join(server.requests[-1].split(b" ", 2)[:2])
        answering(answers[line])(connection, ended)

    add, send, dispatch = commands_of("own-gateway.md")
    with FailingServer(answer) as server:
        kpwa = dict(settings.KPWA)
        run_block(_OWN_GATEWAY["settings.py"], KPWA=kpwa)
        assert kpwa["BASE_URLS"] == ["https://api.warta.example/v1"]
        settings.KPWA = {**kpwa, "BASE_URLS": [server.url]}
        for command in (add, send, dispatch):
            assert run_kpwa(*command, stdin="warta-key-0001\n")[0] == 0
        sent = [request for request in server.requests if b"/messages" in request]

    message = OutboundMessage.objects.get()
    assert (message.status, message.attempts.get().gateway_id) == (Status.SENT, "w-1")
    (request,) = sent
    head, _, body = request.partition(b"\r\n\r\n")
    assert b"Authorization: Bearer warta-key-0001" in head
    assert json.loads(body) == {"to": "6281234567890", "text": "Halo dari Warta"}


# own-parser.md

_OWN_PARSER = named_blocks_of("own-parser.md")
_PARSER_SETTINGS = {"KPWA": dict(django_settings.KPWA)}
run_block(_OWN_PARSER["settings.py"], **_PARSER_SETTINGS)
WartaParserTests = override_settings(**_PARSER_SETTINGS)(
    run_block(_OWN_PARSER["shop/tests/test_warta_parser.py"])["WartaParserTests"]
)


@pytest.fixture(autouse=True)
def _parser_of_the_page(site):
    site("shop.warta_parser").__dict__.update(run_block(_OWN_PARSER["shop/warta_parser.py"]))


def test_an_event_that_failed_is_understood_after_the_parser_has_learnt_it(db, license_, settings, site):
    settings.KPWA = {**settings.KPWA, **_PARSER_SETTINGS["KPWA"]}
    event = testing.post_webhook({"kind": "inbound", "who": "6281234567890", "what": "Halo"})
    assert event.status == EventStatus.FAILED
    learnt = _OWN_PARSER["shop/warta_parser.py"].replace('event["ref"], sender', 'event.get("ref", ""), sender')
    site("shop.warta_parser").__dict__.update(run_block(learnt))
    (replay,) = commands_of("own-parser.md")
    assert run_kpwa(*replay)[0] == 0
    event.refresh_from_db()
    assert (event.status, event.sender_number) == (EventStatus.PROCESSED, "6281234567890")


def test_what_the_parser_makes_nothing_of_is_kept_as_not_understood(db, license_, settings):
    settings.KPWA = {**settings.KPWA, **_PARSER_SETTINGS["KPWA"]}
    event = testing.post_webhook({"kind": "typing"})
    assert (event.status, bytes(event.body)) == (EventStatus.UNRECOGNISED, b'{"kind": "typing"}')


# from-requests.md

_FROM_REQUESTS = named_blocks_of("from-requests.md")
_TEMPLATE = "".join(blocks_of("from-requests.md", "django"))


@pytest.fixture
def shop_of_the_page(site, settings):
    """Switch the shop to the code of one step of the page: `shop_of_the_page("with the outbox")`."""
    site("sales.models").Sale = Sale
    for receipt in (PaidReceipt, RefundReceipt):
        receipts.unregister(receipt)
    engine = {**settings.TEMPLATES[0], "APP_DIRS": False}
    sources = {"sales/receipt.txt": _TEMPLATE}
    engine["OPTIONS"] = {**engine["OPTIONS"], "loaders": [("django.template.loaders.locmem.Loader", sources)]}
    settings.TEMPLATES = [engine]
    registered = []

    def change(step):
        views = run_block(_FROM_REQUESTS[f"sales/views.py, {step}"])
        site("sales.urls").urlpatterns = [path("sales/<int:pk>/pay/", views["pay"])]
        settings.ROOT_URLCONF = "sales.urls"
        clear_url_caches()
        if step == "in the end":
            written = run_block(_FROM_REQUESTS["sales/whatsapp.py"])
            written["SINCE"] = timezone.now() - timedelta(hours=1)
            registered.append(written["PaidReceipt"])

    yield change
    for receipt in registered:
        receipts.unregister(receipt)
    for receipt in (PaidReceipt, RefundReceipt):
        receipts.register(Sale)(receipt)
    clear_url_caches()


@pytest.fixture
def sale():
    return Sale.objects.create(status=Sale.Status.OPEN, customer_phone="0812 3456 7890")


@pytest.mark.parametrize("step", ["with the outbox", "in the end"])
def test_the_pages_own_test_passes_after_each_step(step, shop_of_the_page, client, kpwa_deliver, site):
    shop_of_the_page(step)
    test = run_block(_FROM_REQUESTS["sales/tests.py"])["test_a_sale_that_is_paid_twice_has_one_receipt"]
    test(client, kpwa_deliver)


def test_what_people_have_today_answers_500_where_the_gateway_is_down(shop_of_the_page, db, sale, client, monkeypatch):
    def refuse(*arguments, **options):
        assert (options["headers"], options["data"]["phoneNumber"]) == ({"X-API-KEY": "a-key"}, "0812 3456 7890")
        raise requests.ConnectionError

    monkeypatch.setattr(requests, "post", refuse)
    shop_of_the_page("today")
    with override_settings(WA_API_KEY="a-key"), pytest.raises(requests.ConnectionError):
        client.post(f"/sales/{sale.pk}/pay/")


def test_the_commands_store_the_key_and_send(shop_of_the_page, transactional_db, sale, client):
    shop_of_the_page("with the outbox")
    add, dispatch = commands_of("from-requests.md")
    assert run_kpwa(*add, stdin="a-key-of-the-shop-0001\n")[0] == 0
    client.post(f"/sales/{sale.pk}/pay/")
    assert testing.outbox == []
    assert run_kpwa(*dispatch)[0] == 0
    assert [sent.text for sent in testing.outbox] == [f"Nota {sale.pk}. Terima kasih!"]


def test_a_wrong_number_leaves_the_sale_paid(shop_of_the_page, db, client):
    sale = Sale.objects.create(status=Sale.Status.OPEN, customer_phone="0812")
    shop_of_the_page("with the outbox")
    assert client.post(f"/sales/{sale.pk}/pay/").status_code == 302
    sale.refresh_from_db()
    assert (sale.status, OutboundMessage.objects.count()) == (Sale.Status.PAID, 0)


def test_a_sale_from_before_the_change_gets_no_second_receipt(shop_of_the_page, kpwa_deliver):
    shop_of_the_page("in the end")
    Sale.objects.create(
        status=Sale.Status.PAID, customer_phone="0812 3456 7890", sold_at=timezone.now() - timedelta(hours=2)
    ).save()
    assert kpwa_deliver() == []
