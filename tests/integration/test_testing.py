"""`django_kpwa.testing`: what a site's own tests use."""

from __future__ import annotations

from datetime import timedelta

from django.test import TestCase, override_settings
from django.utils import timezone

from django_kpwa import testing
from django_kpwa.exceptions import BadRequestError, NotConnectedError
from django_kpwa.models import License, OutboundMessage, Status
from django_kpwa.outbox import send_group_message, send_message, send_rendered_later
from django_kpwa.rendering import Rendered, register_renderer

NUMBER = "0812 3456 7890"


class DeliverTests(TestCase):
    def setUp(self):
        testing.clear()
        self.license = testing.create_license()

    def test_everything_due_is_sent_in_order_and_returned(self):
        send_message(NUMBER, "Satu")
        send_group_message("Dapur", "Dua")
        assert [sent.text for sent in testing.deliver()] == ["Satu", "Dua"]
        assert [sent.text for sent in testing.outbox] == ["Satu", "Dua"]
        assert testing.deliver() == []

    def test_nothing_leaves_the_process_whatever_the_gateway_is(self):
        unreachable = {"GATEWAY": "django_kpwa.gateway.http.HttpGateway", "BASE_URLS": ["http://127.0.0.1:9/backend"]}
        with override_settings(KPWA=unreachable):
            send_message(NUMBER, "Satu")
            assert len(testing.deliver()) == 1

    def test_a_site_that_names_a_default_license_gets_that_one(self):
        with override_settings(KPWA={"DEFAULT_LICENSE": "Toko Utama"}):
            license_ = testing.create_license()
            assert send_message(NUMBER, "Satu").license == license_
            assert len(testing.deliver()) == 1

    def test_the_pace_of_a_license_is_skipped(self):
        License.objects.update(pace_min_seconds=60, pace_max_seconds=60)
        for number in range(5):
            send_message(NUMBER, f"Pesan {number}")
        assert len(testing.deliver()) == 5

    def test_the_wait_for_a_sales_lines_is_skipped_but_not_send_after(self):
        register_renderer("testing", lambda message, label: Rendered(f"Struk {label}"))
        source = License.objects.get()
        send_rendered_later(NUMBER, "testing/17", idempotency_key="r", source=source, render_after_seconds=3)
        send_message(NUMBER, "Besok", send_after=timezone.now() + timedelta(days=1))
        assert [sent.text for sent in testing.deliver()] == ["Struk 17"]

    def test_failures_can_be_had(self):
        send_message(NUMBER, "Satu")
        testing.fail_next(BadRequestError("no", status_code=400))
        assert testing.deliver() == []
        assert OutboundMessage.objects.get().status == Status.FAILED

    def test_what_is_to_be_tried_again_later_is_left_waiting(self):
        send_message(NUMBER, "Satu")
        testing.fail_next(NotConnectedError("no"))
        assert testing.deliver() == []
        assert OutboundMessage.objects.get().status == Status.QUEUED

    def test_a_logged_out_license_holds_its_messages(self):
        testing.unlink()
        send_message(NUMBER, "Satu")
        assert testing.deliver() == []
        assert OutboundMessage.objects.get().status == Status.QUEUED
