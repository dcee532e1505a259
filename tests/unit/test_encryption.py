"""Secrets in memory and at rest."""

from __future__ import annotations

import copy
import pickle
import traceback

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_kpwa.encryption import Secret, clean_api_key, decrypt, encrypt, is_under_newest_key
from django_kpwa.exceptions import InvalidApiKeyError, KeyUnreadableError

KEY = "secret-key-4711"


def test_a_secret_shows_itself_to_reveal_alone():
    secret = Secret(KEY)
    assert secret.reveal() == KEY
    for shown in (repr(secret), str(secret), f"{secret}", f"{[secret]}", "%s" % secret):  # noqa: UP031
        assert KEY not in shown


def test_a_secret_is_not_pickled_or_copied():
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError) as refused:
            leave(Secret(KEY))
        assert KEY not in "".join(traceback.format_exception(refused.value))


def test_secrets_compare_by_value_and_are_false_where_empty():
    assert Secret(KEY) == Secret(KEY)
    assert Secret(KEY) != Secret("another")
    assert Secret(KEY) != KEY
    assert len({Secret(KEY), Secret(KEY)}) == 1
    assert Secret(KEY)
    assert not Secret("")


@pytest.mark.parametrize("value", ["a b", "a\tb", "a\nb", "a\rb", "kunci-é", "a\x00b", "a\x7fb", "ｋｅｙ", "a\u200bb"])
def test_a_key_unfit_for_a_header_is_refused_without_being_shown(value):
    with pytest.raises(InvalidApiKeyError) as refused:
        clean_api_key(value)
    assert value not in str(refused.value)


@pytest.mark.parametrize("value", ["", "  ", "\n"])
def test_an_empty_key_is_refused(value):
    with pytest.raises(InvalidApiKeyError, match="empty"):
        clean_api_key(value)


def test_white_space_around_a_key_is_removed():
    assert clean_api_key(f" {KEY}\r\n") == KEY


def test_what_was_encrypted_is_read_again_and_is_not_readable_at_rest(settings):
    token = encrypt("kunci rahasia 🔑")
    assert decrypt(token) == Secret("kunci rahasia 🔑")
    assert token.isascii()
    assert "kunci" not in token
    assert encrypt("kunci rahasia 🔑") != token


def test_the_sites_secret_key_and_its_fallbacks_are_the_default(settings):
    settings.KPWA = {}
    settings.SECRET_KEY = "old"
    token = encrypt(KEY)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", ["older", "old"]
    assert decrypt(token).reveal() == KEY
    settings.SECRET_KEY_FALLBACKS = []
    with pytest.raises(KeyUnreadableError) as unreadable:
        decrypt(token)
    assert unreadable.value.__cause__ is None
    assert token not in str(unreadable.value)


def test_a_secret_key_of_bytes_serves_like_the_same_text(settings):
    settings.KPWA = {}
    settings.SECRET_KEY = b"site-secret"
    token = encrypt(KEY)
    settings.SECRET_KEY = "site-secret"
    assert decrypt(token).reveal() == KEY


def test_keys_rotate(settings):
    settings.KPWA = {"SECRET_KEYS": ["one-secret-key-0123456789abcdefghijklmn"]}
    token = encrypt(KEY)
    settings.KPWA = {
        "SECRET_KEYS": ["two-secret-key-0123456789abcdefghijklmn", "one-secret-key-0123456789abcdefghijklmn"]
    }
    assert decrypt(token).reveal() == KEY
    assert not is_under_newest_key(token)
    renewed = encrypt(decrypt(token).reveal())
    assert is_under_newest_key(renewed)
    settings.KPWA = {"SECRET_KEYS": ["two-secret-key-0123456789abcdefghijklmn"]}
    assert decrypt(renewed).reveal() == KEY
    with pytest.raises(KeyUnreadableError):
        decrypt(token)


def test_keys_of_its_own_leave_the_sites_secret_key_out(settings):
    settings.KPWA = {}
    token = encrypt(KEY)
    settings.KPWA = {"SECRET_KEYS": ["one-secret-key-0123456789abcdefghijklmn"]}
    with pytest.raises(KeyUnreadableError):
        decrypt(token)


@pytest.mark.parametrize("token", ["", "x", "gAAAAA", "gAAAAAB…", "é", encrypt.__name__])
def test_what_was_never_encrypted_is_unreadable(token):
    with pytest.raises(KeyUnreadableError):
        decrypt(token)
    assert not is_under_newest_key(token)


@pytest.mark.parametrize("secret", ["", "short", "x" * 31, "a" * 60, "abab" * 20, b"short", 5, None])
def test_a_secret_key_that_could_be_guessed_is_refused_without_being_told(secret, settings):
    settings.KPWA = {"SECRET_KEYS": ["one-secret-key-0123456789abcdefghijklmn", secret]}
    with pytest.raises(ImproperlyConfigured, match="SECRET_KEYS") as refused:
        encrypt(KEY)
    assert not secret or str(secret) not in str(refused.value).replace("shorter", "")
