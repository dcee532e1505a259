"""A schema per tenant, as in django-tenants: tenants use the same ids, and some schemas have no tables."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager

import pytest
from django.apps import apps
from django.db import connection, connections
from django.utils import timezone

from django_kpwa import tasks, wake
from django_kpwa.alerts import compare
from django_kpwa.dispatch import drive
from django_kpwa.license_actions import token_digest
from django_kpwa.models import Alert, DatabaseNow, Heartbeat, Lane, License, OutboundMessage, Status, WebhookToken
from django_kpwa.outbox import send_message
from django_kpwa.store import heartbeats as noting
from django_kpwa.store.heartbeats import note_alive
from django_kpwa.webhooks.authentication import flood
from tests.integration.test_wake import published, use_broker  # noqa: F401 - fixtures

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="the others have no schemas"),
]

NUMBER = "081234567890"
TENANTS = ("satu", "dua")


@contextmanager
def schema(name):
    """Switch tenants like django-tenants: set the tenant on the connection, which then finds tables in its schema."""
    connection.schema_name = name
    with connection.cursor() as cursor:
        cursor.execute(f"SET search_path = {name}")
    try:
        yield
    finally:
        connection.schema_name = "public"
        with connection.cursor() as cursor:
            cursor.execute("SET search_path = public")


@pytest.fixture
def tenants():
    """Two schemas with our tables and a license with the same id, and one schema without tables."""
    models = [*apps.get_app_config("django_kpwa").get_models(), *apps.get_app_config("contenttypes").get_models()]
    with connection.cursor() as cursor:
        for name in (*TENANTS, "empty"):
            cursor.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE; CREATE SCHEMA {name}")
            for table in {model._meta.db_table for model in models} if name != "empty" else ():
                cursor.execute(f"CREATE TABLE {name}.{table} (LIKE public.{table} INCLUDING ALL)")
    for name in TENANTS:
        with schema(name):
            license_ = License(pk=7, name=name)
            license_.set_api_key("test-api-key-0001")
            license_.save(force_insert=True)
    yield
    with connection.cursor() as cursor:
        for name in (*TENANTS, "empty"):
            cursor.execute(f"DROP SCHEMA {name} CASCADE")
    del connection.schema_name


def test_one_tenants_wake_ups_swallow_no_others(tenants, published):  # noqa: F811
    for name in TENANTS:
        with schema(name):
            send_message(NUMBER, "struk")
            send_message(NUMBER, "struk")
            assert len(published()) == 1, name


def test_one_tenants_webhooks_swallow_no_others(tenants, published):  # noqa: F811
    for name in TENANTS:
        with schema(name):
            assert [wake.publish_webhook(number) for number in range(3)] == [True, True, False], name


def test_each_tenant_is_told_of_its_own(tenants, monkeypatch):
    def set_schema(connection, name):
        connection.schema_name = name
        with connection.cursor() as cursor:
            cursor.execute(f"SET search_path = {name}")

    monkeypatch.setattr(type(connections["default"]), "set_schema", set_schema, raising=False)
    for name in (*TENANTS, "empty"):
        thread = threading.Thread(target=compare._check_in_thread, args=(name,))
        if name == "satu":
            with schema(name):
                Lane.objects.create(license_id=7, pause_reason="logged_out", paused_at=timezone.now())
        thread.start()
        thread.join()
    for name, count in zip(TENANTS, (1, 0), strict=True):
        with schema(name):
            assert Alert.objects.filter(code="license_stopped").count() == count
            assert Heartbeat.objects.filter(name="alerts").exists()


def test_prepared_statements_send_each_tenants_messages(tenants):
    for name in (*TENANTS, *TENANTS):
        with schema(name):
            message = send_message(NUMBER, name)
            drive(7)
            message.refresh_from_db()
            assert (message.status, OutboundMessage.objects.exclude(text=name).count()) == (Status.SENT, 0)


def test_each_tenants_signs_of_life_are_noted(tenants):
    noting._noted_at.clear()
    for name in TENANTS:
        with schema(name):
            note_alive("worker")
            assert Heartbeat.objects.filter(name="worker").exists(), name
    noting._noted_at.clear()


def test_a_flood_at_one_tenant_refuses_no_right_token_of_another(tenants):
    digest = token_digest("right")
    for _ in range(flood.lookups_per_second + 1):
        flood.note_wrong()
    with schema("satu"):
        assert flood.refuses(digest)
    with schema("dua"):
        WebhookToken.objects.create(license_id=7, digest=digest, created_at=DatabaseNow())
        assert not flood.refuses(digest)


@pytest.mark.parametrize(
    "task", [tasks.dispatch_due, tasks.process_due_webhooks, tasks.roll_up_statistics, tasks.purge]
)
def test_beat_in_a_schema_without_tables_ends_with_one_quiet_line(tenants, task, caplog):
    noting._noted_at.clear()
    with schema("empty"), caplog.at_level(logging.INFO):
        task()
    noting._noted_at.clear()
    [record] = [record for record in caplog.records if record.name.startswith("django_kpwa")]
    assert (record.levelno, record.exc_info) == (logging.INFO, None)
    assert "no tables of django_kpwa in schema empty" in record.message
