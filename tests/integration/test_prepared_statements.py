"""PostgreSQL's prepared statements after a pooler, a reset or a migration has changed what the server knows."""

from __future__ import annotations

import json

import pytest
from django.db import connection, transaction
from django.utils import timezone

from django_kpwa.dispatch import drive
from django_kpwa.gateway import locmem
from django_kpwa.models import DatabaseNow, Lane, OutboundMessage, Recipient, Status, WebhookEvent
from django_kpwa.outbox import send_message
from django_kpwa.store.postgresql import events, prepared
from django_kpwa.webhooks import process_event
from django_kpwa.webhooks.arrivals import store_event

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="other databases have none"),
]


@pytest.fixture
def sends(license_):
    """Send one more message and return how many of our statements the server knows."""
    Lane.objects.update_or_create(license=license_, defaults={"session_status": "connected"})
    # The first message to a number has statements of its own.
    Recipient.objects.create(license=license_, number="6281234567890", first_sent_at=timezone.now())

    def send():
        message = send_message("081234567890", "x")
        before = len(locmem.outbox)
        drive(license_.pk)
        assert OutboundMessage.objects.get(pk=message.pk).status == Status.SENT
        assert len(locmem.outbox) == before + 1
        with connection.cursor() as cursor:
            cursor.execute("SELECT name FROM pg_prepared_statements WHERE name LIKE 'kpwa\\_%%'")
            return {name for (name,) in cursor.fetchall()}

    return send


def test_a_message_is_sent_by_statements_that_are_prepared_once_a_connection(sends):
    known = sends()
    assert known
    assert sends() == known


def test_a_server_connection_that_knows_none_of_them_sends_all_the_same(sends):
    known = sends()
    with connection.cursor() as cursor:
        cursor.execute("DEALLOCATE ALL")
    sends()
    assert sends() == known, "the statements are prepared again"


def test_a_server_connection_on_which_another_process_prepared_them_is_used_as_it_is(sends):
    known = sends()
    prepared._prepared.clear()
    assert sends() == known


def test_a_migration_that_changes_a_column_under_them_holds_nothing_up(sends):
    sends()
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE django_kpwa_lane ALTER COLUMN pause_reason TYPE varchar(40)")
    try:
        sends()
        sends()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE django_kpwa_lane ALTER COLUMN pause_reason TYPE varchar(16)")


def test_a_site_whose_driver_sends_values_apart_from_the_statement_sends_too(sends):
    options = connection.settings_dict["OPTIONS"]
    connection.close()
    options["server_side_binding"] = True
    try:
        assert sends() == set()
    finally:
        del options["server_side_binding"]
        connection.close()


def test_what_the_database_refuses_is_raised(license_):
    statement = prepared.Statement("SELECT 1 / %(number)s AS quotient", {"number": "integer"})
    assert statement.row("default", {"number": 1}) == {"quotient": 1}
    with pytest.raises(Exception, match="division by zero"):
        statement.row("default", {"number": 0})


def test_in_a_transaction_of_the_sites_none_is_prepared_and_what_the_server_forgot_does_not_end_it(license_):
    def reprocessed(event_id):
        WebhookEvent.objects.filter(pk=event_id).update(next_try_at=DatabaseNow())
        return process_event(event_id)

    event_id = store_event(license_.pk, b'{"id": "C1", "from": "6281234567890", "message": "halo"}', "application/json")
    assert reprocessed(event_id)
    with connection.cursor() as cursor:
        cursor.execute("DEALLOCATE ALL")
    with transaction.atomic():
        assert reprocessed(event_id)
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'kpwa\\_%%'")
            assert cursor.fetchone() == (0,)
    assert reprocessed(event_id)


def test_an_event_is_processed_by_statements_that_are_prepared_once_a_connection(license_, sends):
    for _ in range(3):
        sends()
    for gateway_id in license_.messages.values_list("attempts__gateway_id", flat=True):
        event_id = store_event(
            license_.pk, json.dumps({"id": gateway_id, "status": "delivered"}).encode(), "application/json"
        )
        assert process_event(event_id)
    assert set(license_.messages.values_list("status", flat=True)) == {Status.DELIVERED}
    names = [statement.name for statement in (events._CLAIM, events._FIND_ONE, events._DELIVER)]
    with connection.cursor() as cursor:
        # How many of the executions planned again is PostgreSQL's decision, which also depends on its statistics.
        cursor.execute("SELECT custom_plans + generic_plans FROM pg_prepared_statements WHERE name = ANY(%s)", [names])
        assert cursor.fetchall() == [(3,)] * 3
