"""The API key goes to the address that it was given for, and to no other."""

from __future__ import annotations

import pytest
from django.urls import reverse

from django_kpwa.encryption import encrypt
from django_kpwa.exceptions import KeyUnreadableError
from django_kpwa.models import License

pytestmark = pytest.mark.django_db

KEY = "a-key-of-the-gateway"
OWN, OTHER = "https://wa.example/backend", "https://elsewhere.example/backend"


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
    with pytest.raises(KeyUnreadableError, match="Type the API key again"):
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
    assert "type the API key again" in admin_client.post(page, form).content.decode()
    assert License.objects.get().base_url == OWN
    assert admin_client.post(page, {**form, "api_key": "another-key"}).status_code == 302
    changed = License.objects.get()
    assert (changed.base_url, changed.get_api_key().reveal()) == (OTHER, "another-key")
