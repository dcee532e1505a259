"""Warnings of addresses where webhooks would be lost: by the address's name, and by a request of the site to itself."""

from __future__ import annotations

import time

import pytest
from django.core.management import CommandError
from django.urls import reverse
from django.utils import translation

from django_kpwa import license_actions, webhook_address
from django_kpwa.exceptions import KpwaError, WebhookAddressError
from django_kpwa.models import License, WebhookToken
from tests.cli import kpwa, kpwa_json
from tests.integration.certificates import tls_context, write_certificate
from tests.integration.misbehaving import NO_HOST, MisbehavingServer, answer, free_port, response
from tests.sandbox import SandboxProcess

HTTP = "django_kpwa.gateway.http.HttpGateway"
KEY = "sandbox-key-0123456789"
REAL = "https://wa.kpntr.com/backend"
LOCAL = "http://127.0.0.1:8900/backend"
OURS = answer({"status": "ok"})


@pytest.fixture(scope="module")
def phone():
    with SandboxProcess("--license", f"Toko Utama:{KEY}") as sandbox:
        yield sandbox


@pytest.fixture
def shop(db, phone, settings):
    """A license on the running sandbox."""
    settings.KPWA = {**settings.KPWA, "GATEWAY": HTTP, "BASE_URLS": [phone.base_url]}
    license_ = License(name="Toko Utama")
    license_.set_api_key(KEY)
    license_.save()
    phone.reset()
    return license_


@pytest.fixture
def site():
    """The server that answers at the address in `KPWA["PUBLIC_URL"]`."""
    server = MisbehavingServer()
    yield server
    server.close()


@pytest.fixture
def public(settings):
    def set_public_url(url):
        settings.KPWA = {**settings.KPWA, "PUBLIC_URL": url}

    return set_public_url


def refusal(*arguments):
    with pytest.raises(CommandError) as raised:
        kpwa("webhook", "set", *arguments)
    assert raised.value.returncode == 1
    assert not WebhookToken.objects.exists()
    return str(raised.value)


def is_registered(phone):
    return phone.state()["licenses"][0]["has_webhook"]


def test_a_site_that_answers_itself_is_registered(shop, phone, public, live_server):
    public(live_server.url)
    assert kpwa("webhook", "set")[0] == 0
    assert is_registered(phone)


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example",
        "https://example.com",
        "https://www.example.org/toko",
        "https://example.co.id:8443",
        "https://SHOP.EXAMPLE.",
        "https://shop.invalid",
        "http://example",
    ],
)
def test_a_placeholder_is_refused_though_the_gateway_would_take_it(shop, phone, public, url):
    public(url)
    told = refusal()
    assert "placeholder" in told
    assert "http://127.0.0.1:8000" in told
    assert refusal("--untried") == told
    assert not is_registered(phone)


@pytest.mark.parametrize(
    "url", ["https://", "https://<alamat-anda>", "https://a:b@toko.id", "https://toko.id?x=1", "https://toko id"]
)
def test_what_is_no_address_is_refused(shop, public, url):
    public(url)
    assert "is not a URL" in refusal()


@pytest.mark.parametrize(
    ("url", "base_urls", "debug", "is_useless"),
    [
        ("http://127.0.0.1:8000", [REAL], False, True),
        ("http://localhost:8000", [REAL], False, True),
        ("https://192.168.1.20", [REAL], False, True),
        ("https://kasir", [REAL], False, True),
        ("https://kasir.local", [REAL, LOCAL], False, True),
        ("http://[::1]:8000", [REAL], False, True),
        ("http://127.0.0.1:8000", [LOCAL], False, False),
        ("http://web:8000", ["http://sandbox:8900/backend"], False, False),
        ("http://127.0.0.1:8000", [REAL], True, False),
        ("https://toko-senja.id", [REAL], False, False),
        ("https://xn--caf-dma.id", [REAL], False, False),
        ("https://example-toko.id", [REAL], False, False),
        ("https://contoh.example.tokosenja.com", [REAL], False, False),
    ],
)
def test_a_host_that_only_this_machine_knows_is_refused_where_the_gateway_is_elsewhere(
    settings, url, base_urls, debug, is_useless
):
    settings.DEBUG = debug
    assert bool(webhook_address.useless(url, base_urls)) == is_useless


REDIRECTS = {
    "https://toko.id/kpwa/webhooks/": "https://toko.id",
    "https://www.toko.id:8443/x?token=secret": "https://www.toko.id:8443",
    "/id/kpwa/webhooks/secret/": "http://SITE/id…",
    "http://[nothing": "an invalid address",
    "//other.id/\x1b[2Jsecret": "http://other.id",
}


@pytest.mark.parametrize(("location", "told"), REDIRECTS.items())
def test_a_redirect_is_told_with_where_it_leads(shop, site, public, location, told):
    public(f"http://127.0.0.1:{site.port}")
    site.behave(lambda peer: peer.send(response({}, 301, headers={"Location": location})))
    words = refusal()
    assert "redirects the webhook to" in words
    assert f"to {told.replace('SITE', f'127.0.0.1:{site.port}')}, but" in words
    assert "secret" not in words
    assert "\x1b" not in words
    assert 'webhook set --license "Toko Utama" --untried' in words


@pytest.mark.parametrize(
    ("behaviour", "told"),
    [
        (answer({"detail": "Not found"}, 404), "answers 404"),
        (answer({"status": "error"}, 403), "answers 403"),
        (answer(body=b"<h1>Bad Request (400)</h1>", status=400), "answers 400"),
        (answer(body=b"<h1>Parked</h1>", content_type="text/html"), "Something other than this site's webhook"),
        (answer({"status": "ok", "more": 1}), "Something other than this site's webhook"),
        (lambda peer: peer.reset(), "does not answer"),
        (lambda peer: peer.send(b"no HTTP\r\n\r\n"), "does not answer"),
        (answer(body=b"x" * 1_000_000), "does not answer"),
    ],
    ids=["404", "403", "400", "another page", "another answer", "reset", "no HTTP", "too long"],
)
def test_what_is_not_the_webhooks_own_answer_is_told(shop, site, public, behaviour, told):
    public(f"http://127.0.0.1:{site.port}")
    site.behave(behaviour)
    assert told in refusal()


def test_a_site_that_cannot_reach_itself_from_inside_is_registered_untried(shop, phone, public):
    public(f"http://127.0.0.1:{free_port()}")
    told = refusal()
    assert "nothing is listening there" in told
    assert "--untried" in told
    assert kpwa_json("webhook", "set", "--untried")[0] == 0
    assert is_registered(phone)


@pytest.mark.parametrize("behaviour", [lambda peer: peer.stall(), lambda peer: peer.drip(b"x" * 4000, 0.01)])
def test_asking_takes_no_longer_than_its_limit(site, behaviour):
    site.behave(behaviour)
    began = time.monotonic()
    url = f"http://127.0.0.1:{site.port}/kpwa/webhooks/x/"
    assert "longer than 1 seconds" in webhook_address.not_answering(url, seconds=1)
    assert time.monotonic() - began < 4


def test_a_certificate_that_nobody_vouches_for_is_told(tmp_path):
    server = MisbehavingServer(tls_context(write_certificate(tmp_path / "certificate.pem")))
    try:
        told = webhook_address.not_answering(f"https://127.0.0.1:{server.port}/kpwa/webhooks/x/")
    finally:
        server.close()
    assert "TLS certificate" in told


def test_a_name_that_does_not_resolve_is_told():
    assert "does not resolve" in webhook_address.not_answering(f"{NO_HOST}/kpwa/webhooks/x/")


def test_no_secret_leaves_with_the_question(shop, site, public):
    public(f"http://127.0.0.1:{site.port}")
    site.behave(OURS)
    license_actions.check_webhook_address(shop)
    url = license_actions.set_webhook(shop)
    [asked] = site.requests
    assert asked.startswith(b"GET /kpwa/webhooks/")
    assert url.rstrip("/").rpartition("/")[2].encode() not in asked
    assert KEY.encode() not in asked


def test_without_the_url_include_it_says_what_to_add(shop, settings):
    settings.ROOT_URLCONF = "tests.integration.other_admin_urls"
    assert 'include("django_kpwa.urls")' in refusal()
    with pytest.raises(WebhookAddressError, match=r"urls\.py") as raised:
        license_actions.set_webhook(shop)
    assert isinstance(raised.value, KpwaError)
    assert not WebhookToken.objects.exists()


@pytest.mark.parametrize("language", ["en", "id", None])
def test_the_address_is_one_whoever_asks_also_where_urls_have_a_language(settings, public, language):
    public("https://toko-senja.id/")
    settings.ROOT_URLCONF = "tests.integration.urls_with_languages"
    settings.LANGUAGE_CODE = "id"
    with translation.override(language):
        assert license_actions.webhook_url("x") == "https://toko-senja.id/id/kpwa/webhooks/x/"


def test_the_admins_button_says_the_same_and_names_the_command(operator, shop, site, public, settings):
    public(f"http://127.0.0.1:{site.port}")
    site.behave(answer({}, 404))
    url = reverse("admin:django_kpwa_license_register_webhook", args=[shop.pk])

    def told():
        answered = operator.post(url, follow=True)
        return " ".join(str(message) for message in answered.context["messages"])

    words = told()
    assert "A webhook would not arrive" in words
    assert "manage.py kpwa webhook set" in words
    public("https://shop.example")
    assert "placeholder shop.example" in told()
    assert not WebhookToken.objects.exists()
    public(f"http://127.0.0.1:{site.port}")
    site.behave(OURS)
    assert "is registered" in told()


def test_doctor_tells_of_a_webhook_that_would_not_come(shop, phone, site, public):
    public(f"http://127.0.0.1:{site.port}")
    site.behave(lambda peer: peer.send(response({}, 302, headers={"Location": "https://www.toko.id/"})))
    findings = kpwa_json("doctor")[1]["findings"]
    [found] = [finding for finding in findings if "redirects the webhook" in finding["words"]]
    assert (found["level"], found["subject"]) == ("note", "webhooks")
    site.behave(OURS)
    assert "redirects" not in str(kpwa_json("doctor"))


def test_a_gateway_that_posts_nothing_needs_no_address_that_answers(license_):
    assert kpwa("webhook", "set")[0] == 0
