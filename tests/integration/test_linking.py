"""Status, QR, restart and webhook registration, against the sandbox over a real socket."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from django_kpwa import license_actions, signals
from django_kpwa.dispatch import drive
from django_kpwa.exceptions import GatewayError, UnauthorizedError
from django_kpwa.gateway import ServiceStatus, SessionStatus
from django_kpwa.models import Lane, License, OutboundMessage, PauseReason, Status, WebhookToken
from django_kpwa.outbox import send_message
from tests.sandbox import SandboxProcess

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def sandbox():
    with SandboxProcess() as running:
        yield running


@pytest.fixture
def shop(sandbox, settings):
    settings.KPWA = {**settings.KPWA, "GATEWAY": "django_kpwa.gateway.http.HttpGateway"}
    license_ = License(name="Toko", base_url=sandbox.base_url)
    license_.set_api_key(sandbox.key)
    license_.save()
    sandbox.clear_faults()
    sandbox.logout()
    yield license_
    sandbox.clear_faults()


def lane_of(license_):
    return Lane.objects.get(pk=license_.pk)


def test_a_license_that_waits_for_a_scan_is_paused_and_goes_on_once_it_is_scanned(shop, sandbox):
    heard = []

    def hear(session_status, previous_session_status, **_):
        heard.append((previous_session_status.value, session_status.value))

    signals.license_status_changed.connect(hear)
    try:
        assert license_actions.check_status(shop).session_status == SessionStatus.QR
        assert lane_of(shop).pause_reason == PauseReason.LOGGED_OUT
        assert license_actions.get_login_qr(shop).png().startswith(b"\x89PNG")
        sandbox.scan()
        assert license_actions.check_status(shop).session_status == SessionStatus.CONNECTED
        assert license_actions.check_status(shop).session_status == SessionStatus.CONNECTED
    finally:
        signals.license_status_changed.disconnect(hear)
    lane = lane_of(shop)
    assert (lane.pause_reason, lane.session_status) == ("", "connected")
    assert lane.session_seen_at is not None
    assert heard == [("unknown", "qr"), ("qr", "connected")]


def test_losing_the_link_alerts_once(shop, sandbox, caplog):
    sandbox.scan()
    license_actions.check_status(shop)
    sandbox.logout()
    with caplog.at_level(logging.ERROR, "django_kpwa.alerts"):
        license_actions.check_status(shop)
        license_actions.check_status(shop)
    assert len([record for record in caplog.records if record.name == "django_kpwa.alerts"]) == 1


def test_a_linked_license_has_no_qr_to_show(shop, sandbox):
    sandbox.scan()
    assert license_actions.get_login_qr(shop) is None
    assert lane_of(shop).session_status == "connected"


@pytest.mark.parametrize("asks", ["a person", "the worker"])
def test_a_linked_status_ends_what_a_key_that_is_mended_paused(shop, sandbox, settings, asks):
    sandbox.scan()
    send_message("6281234567890", "Struk")
    secret_key, settings.SECRET_KEY = settings.SECRET_KEY, "another"
    drive(shop.pk)
    assert lane_of(shop).pause_reason == PauseReason.KEY_UNREADABLE
    settings.SECRET_KEY = secret_key
    if asks == "a person":
        assert license_actions.check_status(shop).session_status == SessionStatus.CONNECTED
        assert lane_of(shop).pause_reason == ""
    else:
        Lane.objects.update(paused_until=timezone.now() - timedelta(seconds=1))
    drive(shop.pk)
    assert (lane_of(shop).pause_reason, OutboundMessage.objects.get().status) == ("", Status.SENT)


@pytest.mark.parametrize("asks", ["a person", "the worker"])
def test_a_linked_status_ends_the_pause_of_a_refused_key_only_under_another_one(shop, sandbox, asks):
    sandbox.scan()
    send_message("6281234567890", "Struk")
    refused = {"pause_reason": PauseReason.UNAUTHORIZED, "paused_key_version": shop.api_key_version}
    Lane.objects.update_or_create(license=shop, defaults=refused)
    ask = {"a person": lambda: license_actions.check_status(shop), "the worker": lambda: drive(shop.pk)}[asks]
    ask()
    assert lane_of(shop).pause_reason == PauseReason.UNAUTHORIZED
    shop.set_api_key(sandbox.key)
    shop.save()
    ask()
    assert lane_of(shop).pause_reason == ""


def test_a_restart_is_followed_by_the_status_because_ready_is_not_linked(shop, sandbox):
    assert license_actions.restart(shop).session_status == SessionStatus.QR
    sandbox.scan()
    assert license_actions.restart(shop).session_status == SessionStatus.CONNECTED


def test_a_number_can_be_checked(shop, sandbox):
    sandbox.scan()
    assert license_actions.check_number(shop, "6281234567890").is_registered


def stop_for_another_number(license_):
    columns = {"pause_reason": PauseReason.NUMBER_CHANGED, "confirmed_number": "628111", "linked_number": "628222"}
    Lane.objects.update_or_create(license=license_, defaults=columns)


def test_a_persons_pause_is_lifted_by_a_person_and_said_once(license_):
    assert license_actions.pause(license_)
    assert not license_actions.pause(license_)
    assert lane_of(license_).pause_reason == PauseReason.BY_PERSON
    assert license_actions.resume(license_)
    assert not license_actions.resume(license_)
    assert lane_of(license_).pause_reason == ""


def test_a_changed_number_is_confirmed_and_nothing_else_ends_its_pause(license_):
    assert not license_actions.confirm_number(license_)
    stop_for_another_number(license_)
    license_actions.note_status(license_, ServiceStatus(SessionStatus.QR))
    license_actions.note_status(license_, ServiceStatus(SessionStatus.CONNECTED))
    assert not license_actions.pause(license_)
    assert not license_actions.resume(license_)
    assert lane_of(license_).pause_reason == PauseReason.NUMBER_CHANGED
    assert license_actions.confirm_number(license_)
    assert not license_actions.confirm_number(license_)
    lane = lane_of(license_)
    assert (lane.pause_reason, lane.confirmed_number, lane.linked_number) == ("", "628222", "628222")


def test_a_phone_that_is_linked_again_keeps_its_place(license_):
    stop_for_another_number(license_)
    assert license_actions.confirm_number(license_, keep=True)
    lane = lane_of(license_)
    assert (lane.pause_reason, lane.confirmed_number, lane.linked_number) == ("", "628111", "628111")


def test_registering_rotates_the_token_and_stores_only_its_digest(shop, sandbox):
    sandbox.scan()
    first = license_actions.set_webhook(shop)
    second = license_actions.set_webhook(shop)
    assert first != second
    assert second.startswith("https://shop.example/kpwa/webhooks/")
    token = second.rstrip("/").rpartition("/")[2]
    assert len(token) >= 43
    stored = WebhookToken.objects.get(digest=license_actions.token_digest(token))
    assert stored.registered_at is not None
    assert WebhookToken.objects.filter(expires_at=None).count() == 2
    license_actions.reset_webhook(shop)
    assert not WebhookToken.objects.filter(expires_at=None).exists()


def test_a_registration_that_failed_leaves_a_token_that_ends_by_itself(shop, sandbox):
    sandbox.scan()
    sandbox.set_faults(error_500={"probability": 1})
    with pytest.raises(GatewayError):
        license_actions.set_webhook(shop)
    token = WebhookToken.objects.get()
    assert (token.registered_at, token.expires_at is None) == (None, False)


def test_without_a_public_url_the_error_says_what_to_set(shop, settings):
    settings.KPWA = {**settings.KPWA, "PUBLIC_URL": ""}
    with pytest.raises(ImproperlyConfigured, match="PUBLIC_URL"):
        license_actions.set_webhook(shop)
    assert not WebhookToken.objects.exists()


def test_a_wrong_key_is_told_without_showing_it(shop):
    shop.set_api_key("wrong-key-000000001")
    with pytest.raises(UnauthorizedError) as refused:
        license_actions.check_status(shop)
    assert "wrong-key" not in f"{refused.value!r} {refused.value}"


@pytest.mark.parametrize("first", ["console.ConsoleGateway", "locmem.LocmemGateway"])
def test_going_from_a_gateway_that_is_no_phone_to_the_sandbox_and_back_stops_nothing(shop, sandbox, settings, first):
    def send_by(gateway):
        settings.KPWA = {**settings.KPWA, "GATEWAY": f"django_kpwa.gateway.{gateway}"}
        message = send_message("081234567890", "Struk")
        Lane.objects.update(next_send_at=None)
        drive(shop.pk)
        assert OutboundMessage.objects.get(pk=message.pk).status == "sent"
        lane = lane_of(shop)
        return lane.confirmed_number, lane.linked_number, lane.pause_reason

    assert send_by(first) == ("", "", "")
    sandbox.scan()
    confirmed, linked, reason = send_by("http.HttpGateway")
    assert confirmed == linked != ""
    assert reason == ""
    assert send_by(first) == (confirmed, linked, "")
    assert send_by("http.HttpGateway") == (confirmed, linked, "")
