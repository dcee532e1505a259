"""The API key is sent only to the address that it was entered for."""

from __future__ import annotations

import logging
from urllib.parse import urlsplit

import pytest
from django.contrib.admin.models import LogEntry
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management import CommandError
from django.urls import reverse

from django_kpwa.dispatch import drive
from django_kpwa.encryption import encrypt
from django_kpwa.exceptions import KeyForAnotherUrlError, KeyUnreadableError
from django_kpwa.gateway import addresses
from django_kpwa.models import Lane, License, PauseReason
from django_kpwa.outbox import send_message
from tests.cli import kpwa

from .misbehaving import MisbehavingServer, free_port

pytestmark = pytest.mark.django_db

HTTP = "django_kpwa.gateway.http.HttpGateway"

KEY = "a-key-of-the-gateway"
OWN, OTHER = "https://wa.example/backend", "https://elsewhere.example/backend"


@pytest.fixture(autouse=True)
def _allows_its_own_and_another(settings):
    settings.KPWA = {**settings.KPWA, "ALLOWED_GATEWAY_HOSTS": ["wa.example", "elsewhere.example"]}


@pytest.fixture
def shop() -> License:
    license_ = License(name="Toko", base_url=OWN)
    license_.set_api_key(KEY)
    license_.save()
    return license_


def test_a_key_is_read_for_the_address_that_it_was_given_for(shop):
    assert License.objects.get().get_api_key().reveal() == KEY


@pytest.mark.parametrize("base_url", [OTHER, "", "http://wa.example/backend", f"{OWN}:81"])
def test_a_base_url_changed_in_bulk_makes_the_key_unreadable(shop, base_url):
    License.objects.update(base_url=base_url)
    with pytest.raises(KeyUnreadableError, match="Enter the API key again"):
        License.objects.get().get_gateway()


def test_a_base_url_changed_on_the_instance_makes_the_key_unreadable_until_it_is_given_again(shop):
    shop.base_url = OTHER
    shop.save()
    with pytest.raises(KeyUnreadableError):
        shop.get_api_key()
    shop.set_api_key(KEY)
    assert shop.get_api_key().reveal() == KEY


def test_a_key_stored_without_an_address_serves_the_configured_ones_alone():
    license_ = License(name="Lama", api_key_ciphertext=encrypt(KEY))
    assert license_.get_api_key().reveal() == KEY
    license_.base_url = OTHER
    with pytest.raises(KeyUnreadableError):
        license_.get_api_key()


def test_the_form_asks_for_the_key_when_the_base_url_changes(shop, admin_client):
    page = reverse("admin:django_kpwa_license_change", args=[shop.pk])
    form = {"name": "Toko", "is_active": "on", "base_url": OTHER, "api_key": ""}
    assert "enter the API key again" in admin_client.post(page, form).content.decode()
    assert License.objects.get().base_url == OWN
    assert admin_client.post(page, {**form, "api_key": "another-key"}).status_code == 302
    changed = License.objects.get()
    assert (changed.base_url, changed.get_api_key().reveal()) == (OTHER, "another-key")


# Which addresses a license may use

REFUSED = [
    "https://evil.example/backend",
    "https://wa.example:8443/backend",  # only the usual port of an allowed host is accepted
    "https://wa.example.evil.example/backend",
    "https://notwa.example/backend",
    "https://wa.example@evil.example/backend",
    "https://evil.example#@wa.example/backend",
    "https://evil.example\\@wa.example/backend",
    "https://wa.example/backend?to=evil",
    "https://wa.kpntr.com:22/backend",
    "http://wa.kpntr.com/backend",
    "http://wa.example/backend",
    "http://127.0.0.1:6379/",
    "http://127.0.0.1/backend",
    "http://127.evil.example/backend",
    "http://localhost:5432",
    "http://[::1]:6379/backend",
    "http://10.0.0.5:22",
    "http://169.254.169.254/latest/meta-data",
    "http://2130706433/backend",
    "https://192.168.1.1/backend",
]


def problems(base_url):
    with pytest.raises(ValidationError) as refused:
        License(name="Toko", base_url=base_url).full_clean()
    return refused.value.message_dict["base_url"]


@pytest.mark.parametrize("base_url", REFUSED)
def test_an_address_that_the_site_does_not_allow_is_refused_with_one_sentence_for_all(base_url):
    told = problems(base_url)
    assert told in (problems("https://evil.example"), ["Enter a valid URL."])


@pytest.mark.parametrize(
    "base_url",
    ["https://wa.kpntr.com/backend", "https://KPWA.kpntr.com:443/backend", "https://wa.example/any/path", ""],
)
def test_documented_and_allowed_addresses_are_taken(base_url):
    License(name="Toko", base_url=base_url).full_clean()


def test_what_the_settings_name_is_taken_by_its_origin_and_port(settings):
    settings.KPWA = {
        "BASE_URLS": ["http://127.0.0.1:8900/backend", "https://tunnel.example:4443"],
        "ALLOWED_GATEWAY_HOSTS": ["own.example:8443", "127.0.0.1:8901"],
    }
    for base_url in (
        "http://127.0.0.1:8900/backend", "http://127.0.0.1:8901/b", "https://tunnel.example:4443/b",
        "https://own.example:8443/backend",
    ):  # fmt: skip
        License(name="Toko", base_url=base_url).full_clean()
    for base_url in ("http://127.0.0.1:8902/backend", "https://tunnel.example/backend", "https://own.example/backend"):
        problems(base_url)


def test_under_debug_this_machine_is_taken_at_any_port_and_http_of_an_allowed_host(settings):
    settings.DEBUG = True
    for base_url in ("http://127.0.0.1:8900/backend", "http://localhost:1234", "http://wa.example/backend"):
        License(name="Toko", base_url=base_url).full_clean()
    problems("http://10.0.0.5:22")


def test_the_form_says_nothing_of_what_is_behind_an_address(admin_client, shop):
    """An open port, a closed one, and another machine's are refused alike, without a connection attempt."""
    server = MisbehavingServer()
    page = reverse("admin:django_kpwa_license_change", args=[shop.pk])
    told = set()
    try:
        for base_url in (server.url, f"http://127.0.0.1:{free_port()}/backend", "http://10.0.0.5:22/backend"):
            form = {"name": "Toko", "is_active": "on", "base_url": base_url, "api_key": "another-key"}
            answer = admin_client.post(page, form)
            assert "This site does not allow this address." in answer.content.decode()
            told.add(tuple(answer.context["adminform"].form.errors["base_url"]))
    finally:
        server.close()
    assert (len(told), server.connections) == (1, 0)
    assert License.objects.get().base_url == OWN


def test_the_command_line_refuses_it_too():
    with pytest.raises(CommandError, match="does not allow this address"):
        kpwa("licenses", "add", "Toko", "--base-url", "http://10.0.0.5:22/backend", stdin="a-key\n")
    assert not License.objects.exists()


@pytest.mark.parametrize("base_url", ["https://evil.example/backend", "http://wa.kpntr.com/backend", "http://10.0.0.5"])
def test_what_came_into_the_table_by_another_way_is_not_opened(settings, base_url, caplog):
    settings.KPWA = {**settings.KPWA, "GATEWAY": HTTP}
    license_ = License(name="Toko", base_url=base_url)
    license_.set_api_key(KEY)
    license_.save()
    with pytest.raises(ImproperlyConfigured, match="ALLOWED_GATEWAY_HOSTS"):
        license_.get_gateway()
    send_message("081234567890", "struk", license=license_)
    drive(license_.pk)
    assert Lane.objects.get().pause_reason == PauseReason.FAILING
    assert "ALLOWED_GATEWAY_HOSTS" in caplog.text
    assert urlsplit(base_url).hostname not in caplog.text


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (OWN, OTHER, "from https://wa.example/backend to https://elsewhere.example/backend"),
        (OWN, "", "from https://wa.example/backend to the configured addresses"),
        ("https://kasir:hunter2@wa.example/backend?key=4711#x", OWN, "from https://wa.example/backend to "),
        (f"https://wa.example/{'k' * 43}/backend", OWN, "from https://wa.example/…/backend to "),
        ("https://wa.example/\x1b[31m\nback", OWN, "from https://wa.example/ [31mback to "),
    ],
)
def test_the_log_says_from_what_to_what_a_base_url_was_changed_without_secrets(caplog, before, after, told):
    license_ = License(name="Toko", base_url=before)
    license_.set_api_key(KEY)
    license_.save()
    License.objects.filter(pk=license_.pk).update(name="Toko\x1b]0;")
    license_ = License.objects.get()
    license_.base_url = after
    with caplog.at_level(logging.WARNING, "django_kpwa.licenses"):
        license_.save()
        license_.save()
    [record] = [record for record in caplog.records if record.name == "django_kpwa.licenses"]
    assert told in record.getMessage()
    assert not any(secret in record.getMessage() for secret in ("hunter2", "4711", "kkk", KEY, "\x1b", "\n"))


def test_the_history_in_the_admin_says_it_too(shop, admin_client):
    page = reverse("admin:django_kpwa_license_change", args=[shop.pk])
    admin_client.post(page, {"name": "Toko", "is_active": "on", "base_url": OTHER, "api_key": "another-key"})
    told = LogEntry.objects.get().get_change_message()
    assert f"{OWN} → {OTHER}" in told
    assert "another-key" not in told


def test_the_alert_gives_one_advice_for_a_key_that_belongs_to_another_address(shop, caplog):
    License.objects.update(base_url=OTHER)
    with pytest.raises(KeyForAnotherUrlError):
        License.objects.get().get_api_key()
    send_message("081234567890", "struk")
    drive(shop.pk)
    [alert] = [record.getMessage() for record in caplog.records if record.name == "django_kpwa.alerts"]
    assert "Enter the API key again." in alert
    assert "secret key" not in alert.lower()
    assert "SECRET_KEYS" not in alert


def test_an_address_that_can_be_read_in_two_ways_has_no_origin():
    for base_url in ("https://a.example\t.evil.example", "https://a.example\\.evil.example", "https://a%2eexample"):
        assert addresses.origin_of(base_url) is None
