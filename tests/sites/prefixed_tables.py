"""The tests that tests/integration/test_table_prefix.py runs on a site whose tables have a prefix."""

from __future__ import annotations

from django.db import connection
from django.test import TransactionTestCase
from django.utils import timezone

from django_kpwa import retention, statistics, testing, webhooks
from django_kpwa.conf import kpwa_settings
from django_kpwa.dispatch import drive, sweep
from django_kpwa.exceptions import GatewayTimeoutError
from django_kpwa.gateway import locmem
from django_kpwa.license_actions import token_digest
from django_kpwa.models import Lane, License, OutboundMessage, Status, WebhookEvent, WebhookToken
from django_kpwa.outbox import Message, send_message, send_messages
from django_kpwa.store import store
from tests.shop.models import Sale
from tests.sites.table_prefix import PREFIX
from tests.stores import FORMS, stored_by

NUMBER = "0812 3456 7890"


class PrefixedTests(TransactionTestCase):
    def setUp(self):
        locmem.clear()
        self.license = testing.create_license()

    def test_only_tables_with_the_prefix_were_made(self):
        tables = connection.introspection.table_names()
        assert f"{PREFIX}django_kpwa_outboundmessage" in tables
        assert [table for table in tables if table.startswith("django_kpwa")] == []

    def test_sales_send_their_receipts_by_both_forms_of_every_statement(self):
        for form in FORMS:
            with self.subTest(form=form), stored_by(form):
                locmem.clear()
                Sale.objects.create(status=Sale.Status.PAID, customer_phone=NUMBER)
                send_message(NUMBER, "one", license=self.license, idempotency_key=f"one {form}")
                send_message(NUMBER, "one", idempotency_key=f"one {form}")
                send_messages([Message(NUMBER, f"{n}", idempotency_key=f"{n} {form}") for n in range(3)])
                store().end_waits_for_text(kpwa_settings().RENDER_DELAY_SECONDS)
                assert list(store().queued_license_ids()) == [[self.license.pk]]
                assert store().due_license_ids([self.license.pk]) == [self.license.pk]
                assert sweep().license_ids == (self.license.pk,)
                drive(self.license.pk)
                assert len(locmem.outbox) == 5
        assert set(OutboundMessage.objects.values_list("status", flat=True)) == {Status.SENT}

    def test_doubt_is_settled_by_a_webhook(self):
        locmem.fail_next(GatewayTimeoutError("late", status_code=504))
        message = send_message(NUMBER, "struk")
        drive(self.license.pk)
        message.refresh_from_db()
        assert message.status == Status.UNKNOWN
        token = "token-of-a-test"
        WebhookToken.objects.create(license=self.license, digest=token_digest(token), created_at=timezone.now())
        body = {
            "event": "message.sent",
            "data": {"id": "GW-1", "to": "6281234567890", "message": "struk", "fromMe": True},
        }
        for _ in range(2):
            answer = self.client.post(f"/kpwa/webhooks/{token}/", body, content_type="application/json")
            assert answer.status_code == 200, answer.content
            body["data"]["status"] = "sent"
        webhooks.process_due_events()
        message.refresh_from_db()
        assert (message.status, WebhookEvent.objects.count()) == (Status.SENT, 2)

    def test_statistics_and_purge(self):
        send_message(NUMBER, "struk")
        drive(self.license.pk)
        assert statistics.roll_up() == 1
        retention.purge()
        assert License.objects.count() == Lane.objects.count() == 1
