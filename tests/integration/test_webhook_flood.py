"""A flood of wrong webhook tokens: it costs no lookups, and no right token notices it."""

from __future__ import annotations

import secrets
import time

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from django_kpwa.linking import token_digest
from django_kpwa.models import DatabaseNow, License, WebhookEvent, WebhookToken, in_seconds
from django_kpwa.webhooks import flood

pytestmark = pytest.mark.django_db

BODY = b'{"id": "A1", "status": "Delivered"}'


def new_token(license_, **columns):
    token = secrets.token_urlsafe(32)
    WebhookToken.objects.create(license=license_, digest=token_digest(token), created_at=DatabaseNow(), **columns)
    return token


def post(token):
    path = reverse("django_kpwa:webhook", args=[token])
    return Client().post(path, data=BODY, content_type="application/json")


def flood_in(count=flood.WRONG_AT_ONCE + 20):
    return [post(secrets.token_urlsafe(32)).status_code for _ in range(count)]


@pytest.fixture
def no_recovery(monkeypatch):
    """A slow machine must not let the count recover in the middle of a test."""
    monkeypatch.setattr(flood, "WRONG_A_SECOND", 0.0)


def test_some_wrong_tokens_are_404_and_a_flood_of_them_is_429_with_nothing_looked_up(
    license_, no_recovery, monkeypatch
):
    monkeypatch.setattr(flood, "LIST_SECONDS", 3600)
    assert flood_in() == [404] * flood.WRONG_AT_ONCE + [429] * 20
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert set(flood_in(100)) == {429}
    assert len(queries) == 0
    assert post("x" * 43).headers["Retry-After"] == "1"
    assert not WebhookEvent.objects.exists()


def test_right_tokens_are_taken_in_a_flood_old_and_new_and_of_every_license(license_, no_recovery):
    other = License.objects.create(name="Cabang")
    tokens = [new_token(license_, expires_at=in_seconds(86400)), new_token(license_), new_token(other)]
    flood_in()
    assert [post(token).status_code for token in tokens] == [200] * 3


def test_an_expired_token_is_one_of_the_wrong_ones(license_, no_recovery):
    expired = new_token(license_, expires_at=in_seconds(-1))
    flood_in()
    assert post(expired).status_code == 429


def test_a_token_made_within_a_flood_is_asked_to_come_again_and_then_taken(license_, no_recovery, monkeypatch):
    flood_in()
    fresh = new_token(license_)
    monkeypatch.setattr(flood, "LIST_SECONDS", 3600)
    assert post(fresh).status_code == 429
    monkeypatch.setattr(flood, "LIST_SECONDS", 0)
    assert post(fresh).status_code == 200


def test_after_a_flood_wrong_tokens_are_told_so_again(license_, monkeypatch):
    monkeypatch.setattr(flood, "WRONG_A_SECOND", 0.0)
    flood_in()
    assert post("x" * 43).status_code == 429
    monkeypatch.setattr(flood, "WRONG_A_SECOND", 1000.0)
    time.sleep(0.05)
    assert post("x" * 43).status_code == 404
