"""What an Indonesian user reads: our errors are translated, the gateway's are marked, and times look like 14.25."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from datetime import timezone as datetime_timezone

import pytest
from django.contrib import admin
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone, translation

from django_kpwa import formatting
from django_kpwa.dispatch import drive
from django_kpwa.exceptions import (
    BadRequestError,
    ConnectionLostError,
    GatewayTimeoutError,
    NotConnectedError,
    UnexpectedAnswerError,
)
from django_kpwa.gateway import SessionStatus, locmem
from django_kpwa.gateway.outcome import Cause
from django_kpwa.models import Lane, License, OutboundMessage, SendAttempt
from django_kpwa.outbox import send_message
from tests.sites.routes import routes_of
from tests.sites.shop import Shop

ADMIN = "/admin/django_kpwa"
CLOCK = re.compile(r"(?<![\d.:])\d{1,2}:\d\d(?!\d)")
OURS = {
    NotConnectedError: Cause.NOT_CONNECTED,
    GatewayTimeoutError: Cause.TIMEOUT,
    ConnectionLostError: Cause.CONNECTION_LOST,
    UnexpectedAnswerError: Cause.BAD_ANSWER,
}


@pytest.fixture
def site(operator, license_, settings):
    """A client whose user reads Indonesian, on a site whose own language is English."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.locale.LocaleMiddleware"]
    operator.defaults["HTTP_ACCEPT_LANGUAGE"] = "id"
    Lane.objects.update_or_create(
        license=license_, defaults={"session_status": SessionStatus.CONNECTED, "session_seen_at": timezone.now()}
    )
    with translation.override("en"):  # the middleware leaves the reader's language active
        yield operator


def seen(client, address):
    page = client.get(address).content.decode()
    page = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


def pages_of(client, license_):
    message = OutboundMessage.objects.get()
    pages = (f"outboundmessage/{message.pk}/change/", f"license/{license_.pk}/change/", "dashboard/")
    return [seen(client, f"{ADMIN}/{page}") for page in pages]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("error", OURS)
def test_an_error_of_ours_is_told_in_the_readers_language_alone(site, license_, error, caplog):
    send_message("081234567890", "Struk 7")
    locmem.fail_next(error("Our English sentence about 081234567890."))
    drive(license_.pk)
    assert "Our English sentence about" in caplog.text
    assert "081234567890" not in caplog.text
    pages = pages_of(site, license_)
    with translation.override("id"):
        told = str(OURS[error].label)

    assert SendAttempt.objects.get().words == ""
    assert [told.casefold() in page.casefold() for page in pages] == [True, True, True]
    assert not any("English" in page or "Pesan dari gateway" in page for page in pages)


@pytest.mark.django_db(transaction=True)
def test_the_gateways_own_words_stay_as_they_are_and_are_marked(site, license_):
    send_message("081234567890", "Struk 7")
    said = "Image could not be fetched"
    locmem.fail_next(BadRequestError("The gateway refused the request", status_code=400, words=said))
    drive(license_.pk)

    for page in pages_of(site, license_):
        assert f"Pesan dari gateway: {said}" in page


@pytest.mark.parametrize(
    "said",
    [
        "Validation: The number is not registered on WhatsApp",
        "Nomor tujuan tidak terdaftar di WhatsApp",
        "Phone 62812••• is not on WhatsApp",
    ],
)
def test_a_number_that_is_not_on_whatsapp_is_told_in_our_words(site, license_, said):
    message = send_message("081234567890", "Struk 7")
    OutboundMessage.objects.filter(pk=message.pk).update(status="failed", reason="refused", reason_words=said)
    page = pages_of(site, license_)[0]
    shown = site.get(f"{ADMIN}/outboundmessage/{message.pk}/change/").content.decode()

    assert re.findall(r'kpwa-button kpwa-primary"[^>]*>([^<]*)<', shown) == ["Kirim ke nomor lain"]
    assert "Penyebab: nomor ini tidak punya WhatsApp." in page
    assert f"Pesan dari gateway: {said}" in page


@pytest.mark.django_db(transaction=True)
def test_what_only_the_developer_can_mend_is_said_to_be_theirs(site, license_, monkeypatch):
    def fail(self):
        raise ImproperlyConfigured("KPWA['GATEWAY'] is no gateway.")

    send_message("081234567890", "Struk 7")
    monkeypatch.setattr(License, "get_gateway", fail)
    Lane.objects.update(session_status="", pause_reason="", session_seen_at=None)
    drive(license_.pk)
    page = seen(site, f"{ADMIN}/license/{license_.pk}/change/")

    assert "Pengembang situs ini bisa memperbaikinya: KPWA" in page.replace("&#x27;", "'")
    assert "Pesan dari gateway" not in page


# Times


@pytest.mark.parametrize(
    ("language", "today", "earlier"),
    [
        ("id", "19.04.05", "19.04"),
        ("en", "19:04:05", "7:04 p.m."),
        ("fr", "19:04:05", "19:04"),
        ("fi", "19.04.05", "19.04"),
    ],
)
def test_a_time_has_one_form_in_each_language(settings, monkeypatch, language, today, earlier):
    moment = datetime(2026, 11, 28, 12, 4, 5, tzinfo=datetime_timezone.utc)  # 19.04 in Jakarta
    monkeypatch.setattr(timezone, "now", lambda: moment)
    with translation.override(language):
        assert formatting.short_time(moment, seconds=True) == today
        assert formatting.short_time(moment) == earlier
        assert formatting.date_and_second(moment).endswith(f" {today}")
        assert formatting.short_time(moment - timedelta(days=1)).endswith(earlier)


@pytest.mark.django_db
def test_no_page_shows_a_time_with_a_colon(operator, settings):
    settings.LANGUAGE_CODE = "id"
    shop = Shop().fill()
    found, looked = {}, 0
    for route in routes_of(admin.site):
        objects = shop.objects.get(route.model) if route.name.endswith("/<path:object_id>/change/") else None
        for obj in objects or [None]:
            address = route.url(shop.values(route.model, obj))
            answer = operator.get(address)
            if answer.status_code != 200 or not answer.headers["Content-Type"].startswith("text/html"):
                continue
            looked += 1
            if times := CLOCK.findall(seen(operator, address)):
                found[address] = times

    assert looked > 20
    assert found == {}
