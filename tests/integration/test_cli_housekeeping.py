"""`kpwa webhook` and `kpwa purge`."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.core.management import CommandError
from django.test import Client
from django.utils import timezone

from django_kpwa.exceptions import NotConnectedError
from django_kpwa.gateway import locmem
from django_kpwa.models import EventKind, EventStatus, OutboundMessage, WebhookEvent, WebhookToken
from django_kpwa.testing import create_license, deliver
from django_kpwa.webhooks import ParsedEvent, Parser, process_due_events
from tests.cli import kpwa, kpwa_json


class KnowingParser(Parser):
    """Understands everything, like a parser that a site wrote for the events of its own gateway."""

    def parse(self, body, content_type, *, linked_number):
        return [ParsedEvent(EventKind.SESSION, session_status="connected")]


def post(content: dict) -> None:
    """Post `content` to the registered webhook, as the gateway would."""
    path = locmem.webhook_url().removeprefix("https://shop.example")
    assert Client().post(path, json.dumps(content), content_type="application/json").status_code == 200
    process_due_events()


class TestWebhook:
    def test_set_registers_this_site_and_shows_no_token(self, license_):
        code, told = kpwa("webhook", "set")
        assert code == 0
        url = locmem.webhook_url()
        assert url.startswith("https://shop.example/kpwa/webhooks/")
        assert "https://shop.example/kpwa/webhooks/•••/" in told
        assert url.rstrip("/").rpartition("/")[2] not in told

    def test_without_a_public_url_it_says_what_to_write(self, license_, settings):
        settings.KPWA = {**settings.KPWA, "PUBLIC_URL": ""}
        with pytest.raises(CommandError, match=r'Set KPWA\["PUBLIC_URL"\]'):
            kpwa("webhook", "set")

    def test_a_gateway_that_does_not_take_it_ends_with_3(self, license_, monkeypatch):
        def fail(gateway, url):
            raise NotConnectedError("no connection")

        monkeypatch.setattr(locmem.LocmemGateway, "set_webhook", fail)
        with pytest.raises(CommandError) as raised:
            kpwa("webhook", "set")
        assert raised.value.returncode == 3

    def test_reset_removes_it(self, license_):
        kpwa("webhook", "set")
        assert kpwa("webhook", "reset")[0] == 0
        assert locmem.webhook_url() == ""
        assert not WebhookToken.objects.filter(expires_at=None).exists()

    def test_show_is_a_no_until_one_is_registered(self, license_):
        code, told = kpwa("webhook", "show")
        assert code == 1
        assert "manage.py kpwa webhook set" in told

    def test_show_counts_what_came_and_shows_no_token(self, license_):
        kpwa("webhook", "set")
        post({"whatever": [1]})
        code, told = kpwa_json("webhook", "show")
        assert code == 0
        assert told["events"] == {"unrecognised": 1}
        assert told["last_event_at"]
        shown = kpwa("webhook", "show")[1]
        assert "unrecognised: 1" in shown
        assert locmem.webhook_url().rstrip("/").rpartition("/")[2] not in shown

    def test_replay_processes_again_what_was_not_understood(self, license_, settings):
        kpwa("webhook", "set")
        post({"whatever": [1]})
        assert kpwa_json("webhook", "replay") == (1, {"processed": 1, "not_understood": 1, "missing": 0})
        settings.KPWA = {**settings.KPWA, "WEBHOOK_PARSER": "tests.integration.test_cli_housekeeping.KnowingParser"}
        code, told = kpwa("webhook", "replay", "--since", "1h", "--license", "Toko Utama")
        assert (code, told) == (0, "Processed 1 again; 0 are still not understood.\n")
        assert WebhookEvent.objects.get().status == EventStatus.PROCESSED

    def test_replay_of_named_events_tells_which_are_missing(self, license_):
        kpwa("webhook", "set")
        post({"from": "6281234567890", "message": "Terima kasih", "id": "A1"})
        event = WebhookEvent.objects.get()
        code, told = kpwa("webhook", "replay", str(event.uuid), "nonsense")
        assert code == 1
        assert "Processed 1 again; 0 are still not understood." in told
        assert "1 of the ids name no event." in told

    def test_replay_leaves_the_events_of_other_licenses_alone(self, license_):
        kpwa("webhook", "set")
        post({"whatever": [1]})
        create_license("Cabang")
        assert kpwa_json("webhook", "replay", "--license", "Cabang") == (
            0,
            {"processed": 0, "not_understood": 0, "missing": 0},
        )


def test_purge_deletes_what_is_old_and_counts_it(license_):
    kpwa("send", "0812 3456 7890", "Lama")
    deliver()
    OutboundMessage.objects.update(settled_at=timezone.now() - timedelta(days=400))
    kpwa("send", "0812 3456 7890", "Baru")
    assert kpwa("purge") == (0, "Deleted: messages 1, webhook events 0, hours of statistics 0.\n")
    assert OutboundMessage.objects.get().text == "Baru"
