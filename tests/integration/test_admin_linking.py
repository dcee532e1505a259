"""The page that links WhatsApp, with the sandbox behind it over a real socket. Its QR code is treated as a secret."""

from __future__ import annotations

import base64
import io
import logging
import re
import time

import pytest
import time_machine
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client
from PIL import Image, ImageDraw

from django_kpwa import license_actions
from django_kpwa.admin.license_link import STOP_SECONDS, drawing_of
from django_kpwa.gateway import LoginQr, ServiceStatus, SessionStatus
from django_kpwa.gateway.http import HttpGateway
from django_kpwa.models import Lane, License, PauseReason
from tests.contract.gateway_case import scanned
from tests.sandbox import SandboxProcess

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/django_kpwa/license/"
PANEL = {"X-Kpwa-Part": "panel"}


@pytest.fixture(scope="module")
def sandbox():
    with SandboxProcess() as running:
        yield running


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


def ask(client, license_, page="link/", **headers):
    return client.post(f"{LIST}{license_.pk}/{page}", headers=headers)


def check(client, license_):
    return ask(client, license_, "link/check/", **PANEL)


def step_of(answer):
    return re.search(r'data-step="(\w+)"', answer.content.decode()).group(1)


def code_in(page):
    """Return what a phone reads from the QR code drawn on a page."""
    side = int(re.search(r'viewBox="0 0 (\d+) \1"', page).group(1))
    path = re.search(r' d="([^"]+)"', page).group(1)
    image = Image.new("L", (side * 6, side * 6), 255)
    draw = ImageDraw.Draw(image)
    for x, y, width, back in re.findall(r"M(\d+) (\d+)h(\d+)v1H(\d+)z", path):
        assert x == back
        left, top = int(x) * 6, int(y) * 6
        draw.rectangle([left, top, left + int(width) * 6 - 1, top + 5], fill=0)
    saved = io.BytesIO()
    image.save(saved, "PNG")
    return scanned(saved.getvalue())


def logged():
    return list(LogEntry.objects.order_by("pk").values_list("change_message", flat=True))


# The code


def test_the_page_asks_the_gateway_nothing_and_holds_no_code_until_somebody_presses(operator, shop, sandbox):
    asked = len(sandbox.log())
    page = operator.get(f"{LIST}{shop.pk}/link/")

    assert page.status_code == 200
    assert "Linked devices" in page.content.decode()
    assert "<svg" not in page.content.decode().partition('class="kpwa-link"')[2].partition("<template")[0]
    assert len(sandbox.log()) == asked
    assert not Lane.objects.exists()


def test_pressing_shows_a_code_that_a_phone_reads_and_the_scan_is_noticed(operator, shop, sandbox):
    answer = ask(operator, shop)
    page = answer.content.decode()
    assert step_of(answer) == "code"
    assert code_in(page).startswith("2@")
    assert "I have scanned it" in page
    assert "data:image" not in page
    assert step_of(check(operator, shop)) == "waiting"
    assert Lane.objects.get().pause_reason == PauseReason.LOGGED_OUT

    sandbox.scan()
    linked = check(operator, shop)
    assert step_of(linked) == "linked"
    assert f"{LIST}{shop.pk}/send_test/" in linked.content.decode()
    assert "</span> Connected</span>" in linked.content.decode()
    assert Lane.objects.get().pause_reason == ""
    assert logged() == ["Showed the code that links WhatsApp.", "WhatsApp is linked."]


def test_the_script_gets_the_panel_alone(operator, shop):
    page = ask(operator, shop, **PANEL).content.decode()

    assert page.lstrip().startswith("<div")
    assert "<html" not in page
    assert code_in(page).startswith("2@")


def test_without_the_script_the_answer_to_a_check_is_a_whole_page_without_a_code(operator, shop):
    ask(operator, shop)
    answer = ask(operator, shop, "link/check/")

    assert "<html" in answer.content.decode()
    assert step_of(answer) == "waiting"
    assert 'class="kpwa-qr"' not in answer.content.decode()


def test_a_linked_license_has_no_code_to_show(operator, shop, sandbox):
    sandbox.scan()
    assert step_of(ask(operator, shop)) == "linked"
    assert "WhatsApp is linked already" in operator.get(f"{LIST}{shop.pk}/link/").content.decode()
    assert logged() == []


def test_what_keeps_a_linked_license_from_sending_is_said_at_once(operator, shop, sandbox):
    license_actions.pause(shop)
    sandbox.scan()
    assert "until you press “Resume”" in check(operator, shop).content.decode()


def test_every_answer_is_kept_by_nobody(operator, staff, shop):
    answers = [
        operator.get(f"{LIST}{shop.pk}/link/"),
        ask(operator, shop),
        ask(operator, shop, **PANEL),
        check(operator, shop),
        ask(staff("view_license"), shop),
    ]
    for answer in answers:
        assert "no-store" in answer.headers["Cache-Control"]
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["X-Frame-Options"] == "DENY"


def test_no_log_header_or_log_entry_holds_a_code_or_the_key(operator, shop, sandbox, caplog):
    with caplog.at_level(logging.DEBUG):
        answer = ask(operator, shop)
        check(operator, shop)
        sandbox.set_faults(error_500=1)
        ask(operator, shop)
    code = code_in(answer.content.decode())
    kept = caplog.text + str(answer.headers) + " ".join(logged()) + str(dict(operator.session))
    for part in (code, *code.split(","), sandbox.key):
        assert part not in kept
    assert sandbox.key not in answer.content.decode()


def test_showing_the_code_is_logged_once_and_not_for_every_redrawing(operator, shop):
    for _ in range(3):
        ask(operator, shop)
    assert logged() == ["Showed the code that links WhatsApp."]
    with time_machine.travel(time.time() + STOP_SECONDS):
        ask(operator, shop)
    assert len(logged()) == 2


# Permissions


@pytest.mark.parametrize("page", ["link/", "link/check/"])
@pytest.mark.parametrize("method", ["get", "post"])
def test_staff_without_the_permission_get_a_refusal_in_words(staff, shop, sandbox, page, method):
    client = staff("view_license", "change_license", "operate_license")
    asked = len(sandbox.log())
    answer = getattr(client, method)(f"{LIST}{shop.pk}/{page}")

    assert answer.status_code == 403
    assert "Can link WhatsApp to a license" in answer.content.decode()
    assert len(sandbox.log()) == asked
    assert f"{LIST}{shop.pk}/link/" not in client.get(f"{LIST}{shop.pk}/change/").content.decode()


def test_who_may_link_and_nothing_else_links(staff, shop, sandbox):
    client = staff("link_license")
    assert client.get(f"{LIST}{shop.pk}/link/").status_code == 200
    assert step_of(ask(client, shop)) == "code"
    sandbox.scan()
    page = check(client, shop).content.decode()
    assert "WhatsApp is linked" in page
    assert "href=" not in page  # no link to a page that this person may not see


@pytest.mark.parametrize("page", ["link/", "link/check/"])
def test_strangers_are_sent_to_the_login(client, shop, page):
    answer = ask(client, shop, page)
    assert answer.status_code == 302
    assert "/login/" in answer.headers["Location"]


def test_a_post_without_its_csrf_token_is_refused(shop, sandbox):
    client = Client(enforce_csrf_checks=True)
    client.force_login(get_user_model().objects.create_superuser("boss"))
    asked = len(sandbox.log())
    assert ask(client, shop).status_code == 403
    assert ask(client, shop, "link/check/").status_code == 403
    assert len(sandbox.log()) == asked


def test_a_check_by_get_and_a_license_that_is_not_there_are_refused(operator, shop):
    assert operator.get(f"{LIST}{shop.pk}/link/check/").status_code == 405
    assert operator.put(f"{LIST}{shop.pk}/link/").status_code == 405
    assert operator.post(f"{LIST}{shop.pk + 1}/link/").status_code == 404


# Failures


@pytest.mark.parametrize(
    ("faults", "title", "words"),
    [
        ({"revoked_key": 1}, "Key refused", "does not accept the API key"),
        ({"error_500": 1}, "Restart needed", "Restart its service"),
        ({"html_200": 1}, "Restart needed", "Restart its service"),
        ({"timeout_504_before": 1}, "No answer in time", "Wait a minute"),
        ({"reset_before": 1}, "Connection lost", "Try again"),
        ({"rate_limited_429": {"amount": 9}}, "The gateway asks to wait", "in 9 seconds"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_each_failure_has_its_own_words(operator, shop, sandbox, faults, title, words):
    with sandbox.having_faults(**faults):
        answer = ask(operator, shop, **PANEL)

    page = answer.content.decode()
    assert answer.status_code == 200
    assert step_of(answer) == "failed"
    assert title in page
    assert words in page
    assert logged() == []


def test_a_failure_offers_what_helps_to_whom_may_press_it(operator, staff, shop, sandbox):
    restart, key = f'action="{LIST}{shop.pk}/restart/"', "Enter the key"
    with sandbox.having_faults(error_500=1):
        assert restart in ask(operator, shop).content.decode()
        page = ask(staff("view_license", "link_license"), shop).content.decode()
        assert "Restart needed" in page
        assert restart not in page
    with sandbox.having_faults(revoked_key=1):
        assert key not in ask(Client(), shop).content.decode()
        get_user_model().objects.get(username="ani").user_permissions.add(
            Permission.objects.get(codename="change_license")
        )
        client = Client()
        client.force_login(get_user_model().objects.get(username="ani"))
        assert key in ask(client, shop).content.decode()


def test_the_gateways_own_words_are_quoted(operator, shop, sandbox):
    with sandbox.having_faults(error_500=1):
        assert "<blockquote>Internal server error" in ask(operator, shop).content.decode()


def test_a_gateway_that_is_not_there_is_unreachable(operator, shop):
    shop.base_url = "http://127.0.0.1:9/backend"
    shop.set_api_key("a-key")
    shop.save()
    assert "Gateway unreachable" in ask(operator, shop).content.decode()
    assert "Gateway unreachable" in check(operator, shop).content.decode()


def test_a_key_that_is_missing_is_told_apart_from_one_that_is_refused(operator, shop):
    License.objects.update(api_key_ciphertext="")
    assert "Key unreadable" in ask(operator, shop).content.decode()


# The warning


def test_before_the_first_link_the_page_warns_that_numbers_get_restricted(operator, shop):
    assert "restrict or ban numbers" in operator.get(f"{LIST}{shop.pk}/link/").content.decode()
    Lane.objects.update_or_create(license=shop, defaults={"linked_number": "628111"})
    assert "restrict or ban numbers" not in operator.get(f"{LIST}{shop.pk}/link/").content.decode()


# Formats of a code


def test_a_code_that_came_as_an_image_is_drawn_anew(sandbox):
    text = LoginQr.from_text("2@" + "aB3/xY9+" * 20 + ",q6Zk/+w=,m3N==,Zz0=")
    image = LoginQr.from_image(text.png())
    assert drawing_of(image) == drawing_of(text)
    assert drawing_of(image).side > 40
    assert "M" not in repr(drawing_of(image)).removeprefix("Drawing")


def test_an_image_whose_modules_cannot_be_made_out_is_shown_as_it_came():
    saved = io.BytesIO()
    Image.linear_gradient("L").save(saved, "PNG")
    drawing = drawing_of(LoginQr.from_image(saved.getvalue()))
    assert (drawing.path, drawing.side) == ("", 0)
    assert base64.b64decode(drawing.image.partition(",")[2]) == saved.getvalue()


# --- accounts that WhatsApp asks for a passkey ---


def test_the_page_says_what_to_mind_before_the_first_code(operator, shop):
    page = operator.get(f"{LIST}{shop.pk}/link/").content.decode()
    assert "Not a fresh SIM card" in page
    assert "the owner&#x27;s own" in page or "the owner's own" in page
    assert "Fewer than four linked devices" in page
    passkey = re.search(r"<p[^>]*data-kpwa-passkey hidden>.*?</p>", page, re.DOTALL)[0]
    assert "passkey" in passkey
    assert f"{LIST}{shop.pk}/link/passkey/" in passkey


def test_what_to_do_about_a_passkey_is_a_page_with_a_text_for_the_support(operator, shop):
    page = operator.get(f"{LIST}{shop.pk}/link/passkey/").content.decode()
    assert re.search(r"<textarea[^>]* readonly[^>]*>Hello, we scan the code of our license “Toko”", page)
    for said in ("What to do", "What helped others", "What does not help", "a new device was linked"):
        assert said in page


def test_the_page_asks_about_the_passkey_at_once_where_the_gateway_says_so(operator, shop, monkeypatch):
    def say(word):
        status = ServiceStatus(SessionStatus.UNKNOWN, word)
        monkeypatch.setattr(HttpGateway, "get_status", lambda self, **_: status)
        return ask(operator, shop, "link/check/", **PANEL).content.decode()

    panel = say("passkey_required")
    assert 'data-step="waiting"' in panel
    assert re.search(r"<p data-kpwa-asks-for-passkey>.*link/passkey/", panel)
    panel = say("banned")
    assert 'data-step="failed"' in panel
    assert "Number banned" in panel
    assert "data-kpwa-asks-for-passkey" not in panel


def test_the_page_about_passkeys_needs_the_permission_to_link(staff, shop):
    assert staff("view_license").get(f"{LIST}{shop.pk}/link/passkey/").status_code == 403
    assert staff_with_link(staff).get(f"{LIST}{shop.pk}/link/passkey/").status_code == 200


def staff_with_link(staff):
    get_user_model().objects.filter(username="ani").delete()
    return staff("link_license")


def test_whoever_may_lose_a_link_is_warned_first(operator, shop):
    said = "A link that is lost may be hard to get back"
    address = f"{LIST}{shop.pk}/"
    assert said in operator.get(f"{address}delete/").content.decode()
    assert said in operator.post(f"{address}restart/").content.decode()
    Lane.objects.update_or_create(license=shop, defaults={"session_status": "connected"})
    assert said in operator.get(f"{address}link/").content.decode()
    License.objects.update(is_active=False)
    assert said in operator.post(f"{address}archive/").content.decode()
