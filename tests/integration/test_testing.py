"""`django_kpwa.testing`, which a site's own tests use."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from datetime import timedelta

import pytest
import redis
from django.http import HttpResponseForbidden
from django.test import TestCase, override_settings
from django.utils import timezone

from django_kpwa import testing
from django_kpwa.dispatch import drive
from django_kpwa.exceptions import (
    BadRequestError,
    GatewayTimeoutError,
    NotConnectedError,
    RateLimitedError,
    ServerError,
    UnauthorizedError,
    WebhookAddressError,
)
from django_kpwa.models import EventStatus, Lane, License, OutboundMessage, Status
from django_kpwa.outbox import send_group_message, send_message, send_rendered_later
from tests.processes import ROOT
from tests.servers import HAS_REDIS
from tests.shop.models import Sale

NUMBER = "0812 3456 7890"
UNREACHABLE = '{"GATEWAY": "django_kpwa.gateway.http.HttpGateway", "BASE_URLS": ["http://127.0.0.1:9/backend"]}'
DJANGO = ["-m", "django", "test", "tests.sites.own_tests"]
PYTEST = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--noconftest", "tests/sites/own_tests.py"]


def refuse(get_response):
    """A middleware that refuses everyone who has not logged in."""
    return lambda request: HttpResponseForbidden()


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
        sale = Sale.objects.create(status=Sale.Status.REFUNDED, customer_phone=NUMBER, refunds=17)
        OutboundMessage.objects.all().delete()
        receipt = "receipts/shop.sale.RefundReceipt"
        send_rendered_later(
            NUMBER, receipt, idempotency_key="receipt:shop.sale:1:r", source=sale, render_after_seconds=3
        )
        send_message(NUMBER, "Besok", send_after=timezone.now() + timedelta(days=1))
        assert [sent.text for sent in testing.deliver()] == ["Pengembalian r"]

    def test_failures_can_be_had(self):
        send_message(NUMBER, "Satu")
        testing.fail_next(BadRequestError("no", status_code=400))
        assert testing.deliver() == []
        assert OutboundMessage.objects.get().status == Status.FAILED

    def test_a_failure_that_is_not_described_is_one(self):
        for _ in range(2):
            send_message(NUMBER, "Satu")
            testing.fail_next()
            assert testing.deliver() == []
        assert set(OutboundMessage.objects.values_list("status", flat=True)) == {Status.FAILED}
        send_message(NUMBER, "Dua")
        assert [sent.text for sent in testing.deliver()] == ["Dua"]

    def test_a_failure_may_be_given_by_its_class(self):
        for error, status in (
            (BadRequestError, Status.FAILED),
            (ServerError, Status.UNKNOWN),
            (GatewayTimeoutError, Status.UNKNOWN),
            (NotConnectedError, Status.QUEUED),
            (RateLimitedError, Status.QUEUED),
            (UnauthorizedError, Status.QUEUED),
        ):
            with self.subTest(error.__name__):
                testing.clear()
                OutboundMessage.objects.all().delete()
                Lane.objects.all().delete()
                send_message(NUMBER, "Satu")
                testing.fail_next(error)
                assert testing.deliver() == []
                assert OutboundMessage.objects.get().status == status

    def test_what_no_gateway_raises_is_refused_where_it_is_asked_for(self):
        for wrong in (ValueError("no"), ConnectionError, "no", 3, None):
            with pytest.raises(TypeError, match="GatewayErrors of django_kpwa"):
                testing.fail_next(wrong)

    def test_what_is_to_be_tried_again_later_is_left_waiting(self):
        send_message(NUMBER, "Satu")
        testing.fail_next(NotConnectedError("no"))
        assert testing.deliver() == []
        assert OutboundMessage.objects.get().status == Status.QUEUED

    def test_a_license_that_a_killed_test_left_is_used_again(self):
        assert testing.create_license() == self.license
        assert License.objects.count() == 1

    def test_a_webhook_goes_through_the_site_and_moves_its_message(self):
        message = send_message(NUMBER, "Satu")
        [sent] = testing.deliver()
        event = testing.post_webhook({"id": sent.id, "status": "Delivered"})
        message.refresh_from_db()
        assert (message.status, event.message) == (Status.DELIVERED, message)
        assert event.status == EventStatus.PROCESSED

    def test_a_webhook_may_be_any_bytes_and_that_of_another_license(self):
        other = testing.create_license("Cabang")
        event = testing.post_webhook(b"\xff", other)
        assert (event.license, bytes(event.body), event.status) == (other, b"\xff", EventStatus.UNRECOGNISED)

    @override_settings(KPWA={"WEBHOOK_PASSWORD": "the-proxy-adds-this-one-0123456789"})
    def test_a_webhook_has_the_password_of_the_site(self):
        assert testing.post_webhook({"id": "3EB0", "status": "Read"}).times_received == 1

    @override_settings(ROOT_URLCONF="tests.integration.other_admin_urls")
    def test_a_site_without_our_urls_says_so(self):
        with pytest.raises(WebhookAddressError, match="has no address"):
            testing.post_webhook({"id": "3EB0", "status": "Read"})

    @override_settings(MIDDLEWARE=["tests.integration.test_testing.refuse"])
    def test_a_site_that_refuses_its_webhook_fails_the_test(self):
        with pytest.raises(AssertionError, match="with 403"):
            testing.post_webhook({"id": "3EB0", "status": "Read"})

    def test_a_logged_out_license_holds_its_messages(self):
        testing.unlink()
        send_message(NUMBER, "Satu")
        assert testing.deliver() == []
        assert OutboundMessage.objects.get().status == Status.QUEUED


@pytest.mark.skipif(not HAS_REDIS, reason="counts what is published; there is no wheel of Redis for this Python")
@pytest.mark.parametrize(
    ("command", "reaches_outside"),
    [
        pytest.param(DJANGO, "", id="django", marks=pytest.mark.slow),
        pytest.param(DJANGO, "yes", id="django, asked for", marks=pytest.mark.slow),
        pytest.param(PYTEST, "", id="pytest"),
    ],
)
def test_a_sites_own_tests_reach_nobody_unless_they_ask_for_it(command, reaches_outside, tmp_path, redis_url):
    environment = {
        **os.environ,
        # Otherwise its end would collect, and so remove, the measurements of this run's other processes.
        "PYTEST_ADDOPTS": "",
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": f"sqlite:///{tmp_path / 'site.sqlite3'}",
        "KPWA_TEST_SETTINGS": UNREACHABLE,
        "REDIS_URL": redis_url,
        "REACHES_OUTSIDE": reaches_outside,
    }
    with redis.Redis.from_url(redis_url) as client:
        client.delete("own-tests")
        ran = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert client.llen("own-tests") == (1 if reaches_outside else 0)
        client.delete("own-tests")
    said = ran.stdout + ran.stderr
    assert "Traceback" not in said


@pytest.mark.django_db(transaction=True)
def test_a_wake_up_for_a_license_that_does_not_exist_is_ignored_in_one_quiet_line(caplog):
    with caplog.at_level(logging.DEBUG, "django_kpwa"):
        assert drive(4711).attempts == 0
    [record] = caplog.records
    assert record.levelno == logging.INFO
    assert record.exc_info is None
