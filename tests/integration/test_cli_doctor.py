"""`kpwa doctor`: it says whether receipts can go out, and what to do if not."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
from django.core.management import CommandError
from django.utils import timezone

from django_kpwa import dispatch
from django_kpwa.exceptions import GatewayTimeoutError, NotConnectedError, UnauthorizedError
from django_kpwa.gateway import locmem
from django_kpwa.models import Heartbeat, Lane, License, OutboundMessage, PauseReason, ReceiptFailure, WebhookEvent
from django_kpwa.outbox import send_message
from django_kpwa.receipts import registry
from django_kpwa.testing import deliver, fail_next, unlink
from tests.cli import kpwa, kpwa_json
from tests.integration.misbehaving import NO_HOST
from tests.processes import run_manage
from tests.servers import HAS_REDIS
from tests.shop.models import Sale

HTTP = "django_kpwa.gateway.http.HttpGateway"


@pytest.fixture
def healthy(license_):
    """A linked license, and a sweep that ran a moment ago."""
    dispatch.sweep()
    return license_


def levels(findings) -> dict[str, str]:
    return {finding["words"]: finding["level"] for finding in findings}


def finding(told, words: str):
    """Return the one finding that contains `words`."""
    [found] = [finding for finding in told["findings"] if words in finding["words"]]
    return found


def test_where_all_is_well_receipts_can_go_out(healthy):
    code, told = kpwa("doctor")
    assert code == 0, told
    assert told.endswith("\nReceipts can go out.\n")
    assert "[  ok   ] license Toko Utama: WhatsApp is linked" in told
    code, told = kpwa_json("doctor")
    assert (code, told["receipts_can_go_out"]) == (0, True)


def test_it_names_the_receipt_classes_that_are_registered_and_says_where_one_belongs(healthy, monkeypatch):
    """A receipt class in a file that nobody imports sends nothing, and only this list of classes can reveal that."""
    code, told = kpwa_json("doctor")
    registered = finding(told, "of shop.")
    assert (registered["subject"], registered["level"]) == ("receipts", "ok")
    assert all(f"({type(each.receipt).__name__})" in registered["words"] for each in registry.registrations())
    monkeypatch.setattr(registry, "_by_label", {})
    code, told = kpwa_json("doctor")
    missing = finding(told, "no class is registered")
    assert (code, missing["level"]) == (0, "note")
    assert "whatsapp.py of an installed app" in missing["words"]


def test_without_tables_it_says_migrate_and_looks_no_further(tmp_path):
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": f"sqlite:///{tmp_path}/empty.sqlite3",
    }
    finished = run_manage("kpwa", "doctor", environment=environment)
    assert finished.returncode == 1
    assert "Run: manage.py migrate" in finished.stdout
    assert "license" not in finished.stdout


def test_a_database_that_does_not_answer_is_said_plainly():
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": "postgres://nobody:secret-password@127.0.0.1:9/nothing",
    }
    finished = run_manage("kpwa", "doctor", environment=environment)
    assert finished.returncode == 1
    assert "database: it does not answer" in finished.stdout
    assert "secret-password" not in finished.stdout + finished.stderr


def test_settings_that_cannot_be_read_are_a_problem(healthy, settings):
    settings.KPWA = {**settings.KPWA, "GATEWAY": "nowhere.Gateway"}
    code, told = kpwa_json("doctor")
    assert code == 1
    assert finding(told, "nowhere.Gateway")["subject"] == "kpwa.E001"


def test_warnings_of_the_checks_are_notes_with_their_hint(healthy, settings):
    settings.KPWA = {**settings.KPWA, "PUBLIC_URL": "http://shop.example"}
    code, told = kpwa_json("doctor")
    assert code == 0
    found = finding(told, "is not https")
    assert (found["level"], found["subject"]) == ("note", "kpwa.W005")
    assert "For example" in found["words"]


def test_no_license_says_how_to_add_one(db):
    dispatch.sweep()
    code, told = kpwa_json("doctor")
    assert code == 1
    assert finding(told, "manage.py kpwa licenses add NAME")["level"] == "problem"


class TestSenders:
    def test_nobody_ever_having_looked_is_a_problem(self, license_):
        code, told = kpwa_json("doctor")
        assert code == 1
        assert finding(told, "No process looks after the outbox. Never seen. Start `manage.py kpwa run`")

    def test_nobody_having_looked_for_long_is_a_problem(self, healthy):
        Heartbeat.objects.update(seen_at=timezone.now() - timedelta(hours=3))
        code, told = kpwa_json("doctor")
        assert code == 1
        assert finding(told, "No process looks after the outbox. Last seen 3 h ago.")

    def test_a_broker_that_answers_is_said(self, healthy, celery_settings, request):
        celery_settings(broker_url=request.getfixturevalue("redis_url") if HAS_REDIS else "memory://")
        code, told = kpwa_json("doctor")
        assert code == 0
        assert levels(told["findings"])["answers."] == "ok"

    def test_eager_tasks_are_reported_and_beat_is_not_asked_for(self, healthy, celery_settings):
        celery_settings(broker_url="memory://", task_always_eager=True)
        Heartbeat.objects.all().delete()
        code, told = kpwa_json("doctor")
        assert code == 1
        assert finding(told, "task_always_eager is on")["level"] == "note"
        assert finding(told, "not handed to it (kpwa.W100)")["level"] == "ok"
        assert finding(told, "Never seen. Start `manage.py kpwa run`")["level"] == "problem"

    def test_a_broker_that_no_celery_app_of_the_site_reads_is_said(self, healthy, celery_settings, settings):
        settings.CELERY_BROKER_URL = "redis://127.0.0.1:6379/0"
        celery_settings(broker_url="")
        _, told = kpwa_json("doctor")
        assert finding(told, "no Celery app of this process reads it: see")["level"] == "note"
        assert not [each for each in told["findings"] if "none is configured" in each["words"]]

    def test_a_broker_whose_client_is_not_installed_is_a_problem(self, healthy, celery_settings):
        celery_settings(broker_url="sqs://")
        Heartbeat.objects.all().delete()
        code, told = kpwa_json("doctor")
        assert code == 1
        assert finding(told, "cannot be used: its client is not installed")["level"] == "problem"

    def test_a_silent_broker_is_a_problem_beside_beat_and_worker(self, healthy, celery_settings):
        celery_settings(broker_url="redis://:secret-password@127.0.0.1:9/0")
        Heartbeat.objects.all().delete()
        code, told = kpwa_json("doctor")
        assert code == 1
        assert finding(told, "does not answer. Nothing is lost")["level"] == "problem"
        assert finding(told, "Start a Celery worker, and beat")["level"] == "problem"
        assert "secret-password" not in str(told)

    @pytest.mark.parametrize(
        ("alive", "words", "level", "can_send"),
        [
            ({"worker": 20}, "beat has not been seen yet", "note", True),
            ({"worker": 300}, "Start Celery beat", "problem", True),
            ({"worker": 300, "other beat": 300}, "restart beat", "problem", True),
            ({"beat": 300}, "Start a Celery worker, and check", "problem", False),
            ({"other worker": 300, "beat": 300}, "-Q celery", "problem", False),
            ({"publish failed": 0, "beat": 300}, "Start the broker", "problem", False),
            ({}, "Start a Celery worker, and beat", "problem", False),
            ({"worker": 300, "beat": 300, "sweep": 300}, "the outbox was last swept", "ok", True),
            ({"run": 300, "sweep": 300}, "the outbox was last swept", "ok", True),
            ({"dispatch": 300, "sweep": 300}, "the outbox was last swept", "ok", True),
        ],
    )
    def test_what_is_missing_is_told_apart(self, license_, celery_settings, alive, words, level, can_send):
        celery_settings(broker_url="memory://")
        now = timezone.now()
        for name, seconds in alive.items():
            Heartbeat.objects.create(name=name, seen_at=now, since=now - timedelta(seconds=seconds))
        code, told = kpwa_json("doctor")
        assert finding(told, words)["level"] == level
        assert (code, told["receipts_can_go_out"]) == (1 if level == "problem" else 0, can_send)


class TestLicense:
    def test_logged_out_says_to_scan(self, healthy):
        unlink()
        code, told = kpwa_json("doctor")
        assert code == 1
        assert finding(told, 'manage.py kpwa qr --license "Toko Utama"')["level"] == "problem"

    def test_a_gateway_that_cannot_be_reached_is_a_problem(self, healthy, monkeypatch):
        def fail(gateway, **_):
            raise NotConnectedError("no connection to the gateway could be made")

        monkeypatch.setattr(locmem.LocmemGateway, "get_status", fail)
        code, told = kpwa_json("doctor")
        assert code == 1
        assert finding(told, "no connection to the gateway could be made")

    def test_a_status_that_nobody_documented_is_a_note(self, healthy, monkeypatch):
        status = locmem.ServiceStatus(locmem.SessionStatus.UNKNOWN, word="dozing")
        monkeypatch.setattr(locmem.LocmemGateway, "get_status", lambda gateway, **_: status)
        code, told = kpwa_json("doctor")
        assert code == 0
        assert finding(told, "undocumented status 'dozing'")["level"] == "note"

    def test_a_key_that_cannot_be_read_says_how_to_mend_it(self, healthy, settings):
        settings.KPWA = {**settings.KPWA, "SECRET_KEYS": ["another-secret-key-0123456789abcdefghijklmn"]}
        code, told = kpwa_json("doctor")
        assert code == 1
        assert 'licenses set-key "Toko Utama"' in finding(told, "the stored API key cannot be read")["words"]

    def test_a_refused_key_asks_for_the_current_one_and_a_new_one_is_enough(self, healthy):
        fail_next(UnauthorizedError("the key is not accepted", status_code=401, words="Unauthorized"))
        send_message("0812 3456 7890", "Halo")
        deliver()
        code, told = kpwa_json("doctor")
        assert code == 1
        assert finding(told, "The gateway said: Unauthorized")["level"] == "problem"
        kpwa("licenses", "set-key", "Toko Utama", stdin="a-new-key-0123456789\n")
        code, told = kpwa_json("doctor")
        assert code == 0
        assert finding(told, "WhatsApp is linked")
        assert Lane.objects.get().pause_reason == ""

    def test_a_key_that_is_refused_now_says_the_same_and_says_it_once(self, healthy, monkeypatch):
        def refuse(gateway, **_):
            raise UnauthorizedError("the key is not accepted", status_code=401, words="Unauthorized")

        monkeypatch.setattr(locmem.LocmemGateway, "get_status", refuse)
        assert 'licenses set-key "Toko Utama"' in finding(kpwa_json("doctor")[1], "the API key was refused")["words"]
        fail_next(UnauthorizedError("the key is not accepted", status_code=401, words="Unauthorized"))
        send_message("0812 3456 7890", "Halo")
        deliver()
        assert "The gateway said" in finding(kpwa_json("doctor")[1], "the API key was refused")["words"]

    def test_a_gateway_that_only_pretends_is_noted(self, healthy, settings):
        assert finding(kpwa_json("doctor")[1], "kept in memory and reach nobody")["level"] == "note"
        settings.KPWA = {**settings.KPWA, "GATEWAY": "django_kpwa.gateway.console.ConsoleGateway"}
        code, told = kpwa_json("doctor")
        assert finding(told, "printed and reach nobody")["level"] == "note"
        # DEBUG is off: the shop would believe that every receipt was sent.
        assert (code, finding(told, "no customer gets one")["level"]) == (1, "problem")
        settings.DEBUG = True
        assert kpwa_json("doctor")[0] == 0

    def test_a_sandbox_and_a_plain_address_are_noted_outside_debug(self, healthy, settings):
        settings.KPWA = {
            **settings.KPWA, "GATEWAY": HTTP, "BASE_URLS": ["http://127.0.0.1:9/backend", NO_HOST]
        }  # fmt: skip
        told = kpwa_json("doctor")[1]
        assert {found["subject"] for found in told["findings"]} >= {"kpwa.W082", "kpwa.W083"}
        settings.DEBUG = True
        told = kpwa_json("doctor")[1]
        assert not {found["subject"] for found in told["findings"]} & {"kpwa.W081", "kpwa.W082", "kpwa.W083"}

    def test_a_base_url_that_is_not_allowed_is_a_problem(self, healthy, settings):
        settings.KPWA = {**settings.KPWA, "GATEWAY": HTTP}
        healthy.base_url = "https://elsewhere.invalid/backend"
        healthy.set_api_key("a-key-of-the-gateway")
        healthy.save()
        code, told = kpwa_json("doctor")
        assert code == 1
        assert finding(told, "does not allow the base URL of license")["level"] == "problem"

    def test_a_pause_by_a_person_is_a_problem_until_it_is_ended(self, healthy):
        kpwa("licenses", "pause", "Toko Utama")
        code, told = kpwa_json("doctor")
        assert code == 1
        assert finding(told, 'manage.py kpwa licenses resume "Toko Utama"')

    def test_another_phone_is_a_problem_until_its_number_is_confirmed(self, healthy):
        columns = {"confirmed_number": "6281111111111", "linked_number": "6281222222222"}
        Lane.objects.update_or_create(license=healthy, defaults={"pause_reason": PauseReason.NUMBER_CHANGED, **columns})
        code, told = kpwa_json("doctor")
        assert code == 1
        found = finding(told, 'licenses confirm-number "Toko Utama"')
        assert (found["level"], "62812•••••222 instead of" in found["words"]) == ("problem", True)

    def test_one_that_is_not_active_is_not_asked_and_the_only_one_is_a_problem(self, healthy):
        unlink()
        License.objects.update(is_active=False)
        code, told = kpwa_json("doctor")
        assert (code, told["receipts_can_go_out"]) == (1, False)
        assert finding(told, "licenses activate NAME")["level"] == "problem"
        assert finding(told, "is not active: its messages are held")["level"] == "note"
        assert "WhatsApp is linked" not in str(told)

    def test_late_messages_and_those_in_doubt_are_notes(self, healthy):
        fail_next(GatewayTimeoutError("no answer in time"))
        send_message("0812 3456 7890", "Satu")
        deliver()
        send_message("0812 3456 7890", "Dua")
        OutboundMessage.objects.filter(text="Dua").update(due_at=timezone.now() - timedelta(hours=5))
        code, told = kpwa_json("doctor")
        assert code == 0
        assert finding(told, "The oldest has been due for 5 h")["level"] == "note"
        assert finding(told, "manage.py kpwa messages --status unknown")["level"] == "note"

    def test_the_webhook_and_its_last_event_are_told(self, healthy):
        assert finding(kpwa_json("doctor")[1], "no webhook is registered")["level"] == "note"
        kpwa("webhook", "set")
        assert finding(kpwa_json("doctor")[1], "no event has arrived yet")["level"] == "ok"
        at = timezone.now() - timedelta(minutes=5)
        WebhookEvent.objects.create(license=healthy, body=b"{}", received_at=at, last_received_at=at)
        assert finding(kpwa_json("doctor")[1], "the last event arrived 5 min ago")

    def test_without_a_public_url_no_webhook_can_be_registered(self, healthy, settings):
        settings.KPWA = {**settings.KPWA, "PUBLIC_URL": ""}
        assert finding(kpwa_json("doctor")[1], "KPWA['PUBLIC_URL'] is not set")["level"] == "note"

    def test_one_license_can_be_looked_at_alone(self, healthy):
        other = License(name="Cabang", is_active=True, api_key_ciphertext="nonsense")
        other.save()
        assert kpwa("doctor")[0] == 1
        assert kpwa("doctor", "--license", "Toko Utama")[0] == 0
        with pytest.raises(CommandError, match="There is no license 'Pusat'"):
            kpwa("doctor", "--license", "Pusat")


def test_receipts_that_were_not_queued_are_noted_while_they_are_new(healthy):
    sale = Sale.objects.create(status=Sale.Status.PAID, customer_phone="0812")
    words = kpwa("doctor")[1]
    assert "Sales without a receipt: 1. The newest: the phone number is not one." in words
    assert "Receipts can go out." in words
    sale.delete()
    ReceiptFailure.objects.update(occurred_at=timezone.now() - timedelta(days=3))
    assert "Receipt failures" not in kpwa("doctor")[1]
