"""The example shop as a process of its own: what a cashier does at the till, seen from the browser."""

from __future__ import annotations

import http.cookiejar
import os
import re
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from contextlib import closing
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


class Till:
    """A cashier's browser: it keeps cookies and sends the form's token."""

    def __init__(self, address: str, environment: dict[str, str]) -> None:
        self.address = address
        self.environment = environment
        self.home = Path(environment["SHOP_HOME"])
        jar = http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
        self.token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', self.get("/")[1])[1]

    def get(self, path: str) -> tuple[int, str]:
        return self._open(urllib.request.Request(self.address + path))

    def post(self, path: str, **fields: object) -> tuple[int, str]:
        body = urllib.parse.urlencode({"csrfmiddlewaretoken": self.token, **fields}).encode()
        return self._open(urllib.request.Request(self.address + path, data=body))

    def pay(self, quantities: dict[int, object], **fields: object) -> tuple[int, str]:
        given = {"uuid": uuid.uuid4(), "payment": "cash", **fields}
        return self.post("/sales/pay/", **given, **{f"quantity-{pk}": count for pk, count in quantities.items()})

    def state(self, sale: str) -> str:
        """Return what the chip of a sale says, from the part of the page that the till polls."""
        chip = self.get("/sales/recent/")[1].partition(f'data-kpwa-part="sales.sale-{sale}"')[2].partition("</div>")[0]
        status = re.search(r'data-kpwa-status="(\w+)"', chip)
        return status[1] if status else "none"

    def shell(self, code: str) -> str:
        """Return what `code` prints in the shop's own Django."""
        return run_shop(self.environment, "shell", "--no-imports", "-c", code).strip()

    def _open(self, request: urllib.request.Request) -> tuple[int, str]:
        try:
            with self.opener.open(request, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


def run_shop(environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "manage.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


DEPLOYED = {
    "DEBUG": "0",
    "SECRET_KEY": "nobody-knows-0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEF",
    "ALLOWED_HOSTS": "kopi-senja.id",
    "PUBLIC_URL": "https://kopi-senja.id",
    "CELERY_BROKER_URL": "redis://127.0.0.1:6379/0",
    "BEHIND_TLS_PROXY": "1",
    "SANDBOX_URL": "",
    "ALERT_EMAILS": "owner@kopi-senja.id",
}


BEGIN = """
from django.core.management import call_command
from django_kpwa.models import License
call_command("migrate", verbosity=0)
license = License(name="Toko"); license.set_api_key("k" * 20); license.save()
"""


@pytest.fixture(scope="module")
def till(tmp_path_factory):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = tmp_path_factory.mktemp("shop")
    kept = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "CELERY_BROKER_URL")}
    environment = {**kept, "DJANGO_SETTINGS_MODULE": "example_project.settings", "SHOP_HOME": str(home)}
    run_shop(environment, "shell", "--no-imports", "-c", BEGIN)
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "manage.py", "runserver", "--noreload", str(port)]
    with (home / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            gives_up_at = time.monotonic() + 30
            while not _answers(port):
                assert server.poll() is None, (home / "log").read_text()
                assert time.monotonic() < gives_up_at, "the shop did not start within 30 s"
                time.sleep(0.05)
            yield Till(address, environment)
        finally:
            server.terminate()
            server.wait(20)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def newest_sale(page: str) -> str:
    return re.search(r'data-sale="(\d+)"', page)[1]


def test_the_menu_is_there_after_migrating(till):
    status, page = till.get("/")
    assert status == 200
    assert "Kopi Susu Gula Aren" in page
    assert "Rp 18.000" in page


def test_a_paid_sale_with_a_number_waits_to_be_sent_and_one_without_has_no_receipt(till):
    status, page = till.pay({1: 2, 2: 1}, customer_phone="0812 3456 7890", customer_name="Budi")
    assert (status, "lunas" in page, "Rp 48.000" in page) == (200, True, True)
    sale = newest_sale(page)
    assert till.state(sale) == "queued"
    other = newest_sale(till.pay({1: 1})[1])
    assert till.state(other) == "none"


def test_the_same_form_sent_twice_is_one_sale(till):
    form = uuid.uuid4()
    first = newest_sale(till.pay({3: 1}, uuid=form)[1])
    assert newest_sale(till.pay({3: 1}, uuid=form)[1]) == first


@pytest.mark.parametrize(
    ("quantities", "fields", "words"),
    [
        ({}, {}, "Keranjang masih kosong"),
        ({1: -3}, {}, "Jumlah produk tidak valid"),
        ({1: 100}, {}, "Maksimal 99"),
        ({999: 1}, {}, "sudah tidak tersedia"),
        ({1: 1}, {"customer_phone": "0812"}, "Nomor WhatsApp ini tidak valid"),
    ],
)
def test_what_cannot_be_sold_is_refused_with_the_reason_and_the_cart_kept(till, quantities, fields, words):
    before = newest_sale(till.pay({1: 1})[1])
    status, page = till.pay(quantities, **fields)
    assert status == 422
    assert words in page
    assert newest_sale(page) == before


def test_a_post_without_its_token_is_refused(till):
    assert till.post("/sales/pay/", csrfmiddlewaretoken="x" * 32)[0] == 403
    assert till.get("/sales/pay/")[0] == 405


def test_a_refund_and_a_void_work_once(till):
    refunded = newest_sale(till.pay({1: 1}, customer_phone="081234567890")[1])
    assert "dikembalikan" in till.post(f"/sales/{refunded}/refund/")[1]
    assert "sudah dikembalikan" in till.post(f"/sales/{refunded}/void/")[1]
    voided = newest_sale(till.pay({1: 1}, customer_phone="081234567890")[1])
    assert "dibatalkan" in till.post(f"/sales/{voided}/void/")[1]
    assert "sudah batal" in till.post(f"/sales/{voided}/refund/")[1]
    assert till.post("/sales/123456/void/")[0] == 404


def test_receipts_of_a_sale_and_its_refund_say_what_was_bought_and_given_back(till):
    texts = till.shell(
        "from django_kpwa.models import OutboundMessage\n"
        "from django_kpwa.receipts.render import render_receipt\n"
        "from example_project.sales import till\n"
        "sale = till.ring_up([till.Item('Kopi Tubruk', 12000, 2)], customer_phone='081234567890',"
        " customer_name='Budi *S*')\n"
        "print(render_receipt(OutboundMessage.objects.for_source(sale).get()).text)\n"
        "till.refund(sale)\n"
        "for message in OutboundMessage.objects.for_source(sale):\n"
        "    rendered = render_receipt(message)\n"
        "    print(getattr(rendered, 'text', rendered))\n"
    )
    assert "  2 x 12.000              24.000\n" in texts
    assert "TOTAL                  Rp 24.000\n" in texts
    assert "Terima kasih, *Budi ∗S∗*!" in texts
    assert "Withdrawn(" in texts
    assert "DIKEMBALIKAN           Rp 24.000" in texts


def test_who_is_not_logged_in_sees_what_became_of_receipts_and_no_buttons_or_numbers(till):
    till.pay({1: 1}, customer_phone="0812 3456 7890")
    with closing(sqlite3.connect(till.home / "shop.sqlite3", timeout=20)) as database, database:
        database.execute("UPDATE django_kpwa_outboundmessage SET status = 'failed'")
    for path in ("/", "/sales/recent/"):
        page = till.get(path)[1]
        assert 'data-kpwa-status="failed"' in page
        assert "/kpwa/messages/" not in page
        assert "81234567890" not in page
    assert "Masuk" in till.get("/")[1]


def test_the_demo_page_shows_the_till_beside_the_phone(till):
    status, page = till.get("/demo/")
    assert status == 200
    assert 'src="/"' in page
    assert 'src="http://127.0.0.1:8900/?embed=1"' in page


def test_the_shop_has_no_findings_and_all_its_migrations(till):
    told = till.shell(
        "from django.core.management import call_command\n"
        "call_command('check')\n"
        "call_command('makemigrations', 'sales', '--check', '--dry-run')\n"
    )
    assert "no issues" in told
    assert "No changes" in told


def test_a_deployed_shop_has_no_findings_is_reached_by_https_alone_and_stands_in_no_frame(till):
    ask = (
        "from django.core.management import call_command\n"
        "from django.test import Client\n"
        "call_command('check', deploy=True, fail_level='WARNING')\n"
        "for scheme in ('http', 'https'):\n"
        "    answer = Client().get('/', headers={'host': 'kopi-senja.id', 'x-forwarded-proto': scheme})\n"
        "    print(answer.status_code, answer.headers)\n"
    )
    told = run_shop(till.environment | DEPLOYED, "shell", "--verbosity", "0", "--command", ask)
    findings, redirected, answered = told.splitlines()
    assert "no issues" in findings
    assert redirected.startswith("301")
    assert "https://kopi-senja.id/" in redirected
    assert answered.startswith("200")
    assert "'X-Frame-Options': 'DENY'" in answered
    assert "'Strict-Transport-Security': 'max-age=86400'" in answered


def test_the_admin_speaks_its_readers_language_and_the_till_the_shops(till):
    def read(path, language):
        request = urllib.request.Request(till.address + path, headers={"Accept-Language": language})
        return till._open(request)[1]

    assert "Log in" in read("/admin/login/", "en-GB,en;q=0.8")
    assert "Masuk" in read("/admin/login/", "id")
    assert "Masuk" in read("/admin/login/", "fr")
    assert read("/", "en").partition("<body")[0] == read("/", "id").partition("<body")[0]
    assert "no receipt" not in read("/sales/recent/", "en")
