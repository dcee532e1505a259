"""Compiled queries do the same as the ORM's queries, each time with that time's values."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_kpwa.models import DatabaseNow, Lane, License, OutboundMessage, SendAttempt, Status, in_seconds
from django_kpwa.outbox import send_message
from django_kpwa.store import compiled
from django_kpwa.store.compiled import Parameter, first_of, insert_row, update_where

pytestmark = pytest.mark.django_db

NUMBER = "081234567890"


@pytest.fixture
def lane(license_):
    return Lane.objects.create(license=license_)


def test_an_update_writes_the_values_of_each_time_to_the_rows_of_each_time(license_, lane):
    other = Lane.objects.create(license=License.objects.create(name="Cabang"))
    for number, seconds in ((1, 60), (2, 3600)):
        token, columns = uuid.uuid4(), {"failures": number, "last_error": f"it's %s \\ {number}", "linked_number": ""}
        now = {"lease_token": token, "lease_expires_at": in_seconds(seconds), "lease_taken_at": DatabaseNow()}
        assert update_where(connection, Lane, {"pk": lane.pk}, columns | now) == 1
        stored = Lane.objects.get(pk=lane.pk)
        assert {name: getattr(stored, name) for name in columns} == columns
        assert stored.lease_token == token
        assert (
            timedelta(seconds=seconds - 1)
            < stored.lease_expires_at - stored.lease_taken_at
            < timedelta(seconds=seconds + 1)
        )
        assert abs(stored.lease_taken_at - timezone.now()) < timedelta(minutes=1)
        # Conditions on several columns, one of which does not match the row.
        assert update_where(connection, Lane, {"pk": lane.pk, "lease_token": uuid.uuid4()}, {"failures": 9}) == 0
        assert update_where(connection, Lane, {"pk": lane.pk, "lease_token": token}, {"failures": number + 10}) == 1
        assert Lane.objects.get(pk=lane.pk).failures == number + 10
    other.refresh_from_db()
    assert (other.failures, other.lease_token) == (0, None)


def test_waits_of_any_length_share_one_statement(license_, lane):
    sizes = set()
    for seconds in (60, 61.5, 3600):
        update_where(connection, Lane, {"pk": lane.pk}, {"next_send_at": in_seconds(seconds)})
        sizes.add(compiled._compiled_update.cache_info().currsize)
    assert len(sizes) == 1


def test_an_expression_and_a_null_are_written_as_the_orm_writes_them(license_):
    message = send_message(NUMBER, "struk")
    for spent in (1, 2):
        where = {"pk": message.pk, "status": Status.QUEUED}
        columns = {"attempts_spent": F("attempts_spent") + 1, "expires_at": None, "in_doubt": False}
        assert update_where(connection, OutboundMessage, where, columns) == 1
        message.refresh_from_db()
        assert (message.attempts_spent, message.expires_at, message.status) == (spent, None, Status.QUEUED)


def _named():
    name = Parameter("name", License._meta.get_field("name"))
    return License.objects.filter(name=name).values("pk", "uuid", "name", "is_active", "created_at", "lane__failures")


def test_a_row_comes_back_by_its_names_and_as_django_has_it(license_, lane):
    other = License.objects.create(name="Cabang 'Dua' %s", is_active=False)
    for wanted, failures in ((license_, 0), (other, None)):
        found = first_of(connection, _named, {"name": wanted.name})
        wanted.refresh_from_db()
        assert found == {
            "pk": wanted.pk,
            "uuid": wanted.uuid,
            "name": wanted.name,
            "is_active": wanted.is_active,
            "created_at": wanted.created_at,
            "lane__failures": failures,
        }
    assert first_of(connection, _named, {"name": "there is none"}) is None


def test_an_inserted_row_is_the_one_that_the_orm_would_insert(license_):
    message = send_message(NUMBER, "struk")
    for number in (1, 2):
        given = {"message_id": message.pk, "number": number, "started_at": DatabaseNow(), "words": f"it's %s {number}"}
        row = SendAttempt.objects.get(pk=insert_row(connection, SendAttempt, given))
        by_the_orm = SendAttempt.objects.create(**given | {"number": number + 10})
        by_the_orm.refresh_from_db()
        own = {"id", "number", "started_at"}
        columns = [field.attname for field in SendAttempt._meta.concrete_fields if field.attname not in own]
        assert [getattr(row, name) for name in columns] == [getattr(by_the_orm, name) for name in columns]
        assert row.number == number
        assert abs(row.started_at - timezone.now()) < timedelta(minutes=1)


def test_each_inserted_row_has_its_own_time_from_now(license_):
    message = send_message(NUMBER, "struk")
    for number, seconds in ((1, 60), (2, 3600)):
        given = {"message_id": message.pk, "number": number, "started_at": in_seconds(seconds)}
        row = SendAttempt.objects.get(pk=insert_row(connection, SendAttempt, given))
        assert abs(row.started_at - timezone.now() - timedelta(seconds=seconds)) < timedelta(seconds=30)


def test_a_default_of_each_row_has_to_be_given():
    with pytest.raises(ValueError, match="uuid"):
        insert_row(connection, License, {"name": "Toko"})


def test_it_is_one_statement_with_its_values_apart(license_):
    with CaptureQueriesContext(connection) as queries:
        first_of(connection, _named, {"name": license_.name})
        update_where(connection, License, {"name": license_.name}, {"pace_min_seconds": 3})
    assert len(queries) == 2
