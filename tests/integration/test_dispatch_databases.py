"""Databases that fail, and a COMMIT whose answer never comes."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from django_kpwa import personal_data, statistics
from django_kpwa.dispatch import drive, failpoints, sweep
from django_kpwa.health import look
from django_kpwa.models import License, OutboundMessage, Recipient, Status
from django_kpwa.outbox import Message, send_message, send_messages
from django_kpwa.store import store
from django_kpwa.store.results import Claim

from .lanes import (
    NUMBER,
    fresh,
    lane_of,
    set_lane,
    take,
    texts,
)

pytestmark = pytest.mark.django_db(transaction=True)


def drop_the_connection():
    """End this thread's session from the server's side. SQLite has no server, so this closes its file instead."""
    if connection.vendor == "sqlite":
        connection.connection.close()
        return
    session = connection.connection
    number = session.thread_id() if connection.vendor == "mysql" else session.info.backend_pid
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute("KILL %s" if connection.vendor == "mysql" else "SELECT pg_terminate_backend(%s)", [number])
    other.close()


def test_an_outcome_is_recorded_over_a_fresh_connection_where_the_old_one_is_gone(license_, hooks):
    send_messages([Message(NUMBER, "a", license=license_), Message(NUMBER, "b", license=license_)])
    hooks.after_send = lambda text: drop_the_connection() if text == "a" else None
    drive(license_.pk)
    assert texts() == ["a", "b"]
    assert set(OutboundMessage.objects.values_list("status", "attempts_made")) == {(Status.SENT, 1)}


def test_a_commit_that_went_through_unanswered_sends_nothing_twice_and_loses_nothing(license_, monkeypatch):
    send_messages([Message(NUMBER, text, license=license_) for text in "abc"])
    record = type(store()).record
    unanswered = []

    def record_without_an_answer(*arguments, **options):
        recorded = record(*arguments, **options)
        if not unanswered:
            unanswered.append(recorded)
            raise OperationalError("the server closed the connection unexpectedly")
        return recorded

    monkeypatch.setattr(type(store()), "record", record_without_an_answer)
    drive(license_.pk)
    assert isinstance(unanswered[0].step.next, Claim)
    assert texts() == ["a", "b", "c"]
    assert set(OutboundMessage.objects.values_list("status", "attempts_spent")) == {(Status.SENT, 1)}


def test_an_outcome_that_cannot_be_recorded_ends_in_doubt_with_the_lease(license_, monkeypatch, settings, caplog):
    settings.KPWA = {**settings.KPWA, "CALL_DEADLINE_SECONDS": 0.001}
    message = send_message(NUMBER, "x")

    def fail(*_, **__):
        raise OperationalError("disk full")

    monkeypatch.setattr(type(store()), "record", fail)
    with pytest.raises(OperationalError):
        drive(license_.pk)
    assert "could not be recorded" in caplog.text
    assert fresh(message).status == Status.SENDING
    assert take(license_) is None
    set_lane(license_, lease_expires_at=timezone.now() - timedelta(seconds=1))
    assert sweep().abandoned_lanes == 1
    assert (fresh(message).status, fresh(message).reason) == (Status.UNKNOWN, "worker_lost")


def test_a_failure_between_a_claim_and_its_call_gives_message_and_lane_back(license_, monkeypatch):
    message = send_message(NUMBER, "x")

    def fail(*_):
        raise OperationalError("gone")

    monkeypatch.setattr(failpoints, "after_claim", fail)
    with pytest.raises(OperationalError):
        drive(license_.pk)
    assert (fresh(message).status, fresh(message).attempts_spent) == (Status.QUEUED, 0)
    assert lane_of(license_).lease_token is None


@pytest.mark.mariadb
@pytest.mark.parametrize("model", [Recipient, License])
def test_tables_of_different_collations_are_never_compared(license_, model, collation_of):
    """A table that was created by an older MariaDB, or converted, has another collation than the app's newer tables.

    MariaDB then refuses to compare a column of one with a column of the other ("Illegal mix of collations").
    """
    collation_of(model, "utf8mb4_unicode_ci")
    License.objects.update(in_use_since=timezone.now(), cold_limit=5)
    messages = send_messages([Message(NUMBER, text, license=license_) for text in "ab"])
    sweep()
    assert drive(license_.pk).attempts == 2
    statistics.roll_up()
    look()
    assert [fresh(message).status for message in messages] == [Status.SENT, Status.SENT]
    assert personal_data.forget("6281234567890").messages == 2


@pytest.fixture
def collation_of():
    """Set the collation of a model's table, for this test only."""
    before = {}

    def convert(table, collation):
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table} CONVERT TO CHARACTER SET utf8mb4 COLLATE {collation}")

    def set_collation(model, collation):
        table = model._meta.db_table
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT table_collation FROM information_schema.tables"
                " WHERE table_schema = DATABASE() AND table_name = %s",
                [table],
            )
            (before[table],) = cursor.fetchone()
        convert(table, collation)

    yield set_collation
    for table, collation in before.items():
        convert(table, collation)
