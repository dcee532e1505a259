"""The hand-written INSERT of a checkout stores the same rows as the ORM, and the site's transaction survives."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from datetime import timezone as datetime_timezone

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from django_kpwa.exceptions import InvalidMessageError
from django_kpwa.models import DatabaseNow, License, OutboundMessage, RecipientType, idempotency_digest, in_seconds
from django_kpwa.outbox import Message, send_message, send_messages
from django_kpwa.store import store
from tests.shop.models import Sale
from tests.stores import INSERTS, stored_by

NUMBER = "0812 3456 7890"
UTC = datetime_timezone.utc
NOT_COMPARED = {"id", "uuid", "created_at", "due_at"}


def skip_unless_written_out():
    if not connection.features.can_return_rows_from_bulk_insert:
        pytest.skip("MySQL has no RETURNING")


def texts(**bounds):
    # Bytes that databases refuse are refused earlier.
    return st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), **bounds)


# SQLite keeps milliseconds where its own clock is used, and microseconds otherwise.
times = st.datetimes(datetime(2001, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
drawn_messages = st.lists(
    st.fixed_dictionaries(
        {
            "recipient_type": st.sampled_from(RecipientType),
            "recipient_typed": texts(max_size=20),
            "recipient": texts(min_size=1, max_size=20),
            "text": texts(max_size=200).map("x{}".format),  # blank text is refused earlier; to MariaDB, " " is ""
            "image_url": st.sampled_from(["", "https://shop.example/%20a.png"]),
            "renderer": st.sampled_from(["", "receipts/a.b"]),
            "idempotency_key": st.sampled_from(["", "", "a", "b", "c", "A"]),
            "priority": st.integers(0, 32_767),
            "due_at": st.none() | times,
            "expires_at": st.none() | times,
            "source_id": st.none() | texts(max_size=20),
        }
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda drawn: drawn["idempotency_key"] or id(drawn),
)


def rows_of(drawn, license_):
    content_type = ContentType.objects.get_for_model(Sale)
    rows = []
    for one in drawn:
        key, due_at, source_id = one["idempotency_key"], one["due_at"], one["source_id"]
        rows.append(
            OutboundMessage(
                **one
                | {
                    "license": license_,
                    "idempotency_digest": idempotency_digest(key) if key else None,
                    "created_at": DatabaseNow(),
                    "due_at": due_at or DatabaseNow(),
                    "source_content_type": None if source_id is None else content_type,
                    "source_id": source_id or "",
                }
            )
        )
    return rows


class BothForms(TestCase):
    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(known=st.sets(st.sampled_from("abcA")), drawn=drawn_messages)
    def test_the_written_out_insert_stores_what_the_orms_form_stores(self, known, drawn):
        skip_unless_written_out()
        license_ = License.objects.create(name="Toko")
        stored = []
        for form in INSERTS:
            savepoint = transaction.savepoint()
            for key in known:
                send_message(NUMBER, "known", license=license_, idempotency_key=key)
            rows = rows_of(drawn, license_)
            with stored_by(form):
                skipped = store().store_messages(rows)
            found = {row.uuid: row for row in OutboundMessage.objects.exclude(text="known", recipient="6281234567890")}
            for row, one in zip(rows, drawn, strict=True):
                assert (row.uuid in skipped) == (one["idempotency_key"] in known)
                if row.uuid not in skipped:
                    kept = found[row.uuid]
                    assert (row.pk, row.created_at, row.due_at) == (kept.pk, kept.created_at, kept.due_at)
                    # A message that is due at once is due a microsecond after the one before it.
                    assert timedelta(0) <= kept.due_at - (one["due_at"] or kept.created_at) < timedelta(milliseconds=1)
                    assert abs(kept.created_at - timezone.now()) < timedelta(minutes=1)
            names = [field.attname for field in OutboundMessage._meta.concrete_fields]
            stored.append(
                [
                    {name: getattr(found[row.uuid], name) for name in names if name not in NOT_COMPARED}
                    for row in rows
                    if row.uuid not in skipped
                ]
            )
            transaction.savepoint_rollback(savepoint)
        assert all(each == stored[0] for each in stored)


@pytest.mark.django_db
@pytest.mark.parametrize("names_a_license", [True, False])
def test_an_expiry_from_now_is_by_the_databases_clock_in_both_forms(license_, names_a_license):
    drawn = {
        "recipient": "6281234567890", "text": "struk", "idempotency_key": "", "due_at": None, "source_id": None,
    }  # fmt: skip
    for form in INSERTS:
        [row] = rows_of([drawn], license_ if names_a_license else None)
        row.expires_at = in_seconds(90)
        with stored_by(form):
            assert store().store_message(row)
        kept = OutboundMessage.objects.get(pk=row.pk)
        assert (row.expires_at, row.license_id) == (kept.expires_at, license_.pk)
        assert abs(kept.expires_at - kept.created_at - timedelta(seconds=90)) < timedelta(milliseconds=5)


@pytest.mark.django_db
@pytest.mark.parametrize("key", [None, "order-1"])
def test_a_message_in_a_transaction_is_one_statement(license_, key, settings):
    skip_unless_written_out()
    for default in ("", license_.name):
        settings.KPWA = settings.KPWA | {"DEFAULT_LICENSE": default}
        with CaptureQueriesContext(connection) as queries:
            message = send_message(NUMBER, "struk", idempotency_key=key and f"{key}{default}")
        assert len(queries) == 1, [query["sql"] for query in queries]
        assert message.license == license_


@pytest.mark.django_db
@pytest.mark.usefixtures("license_")
def test_a_message_that_takes_its_place_again_is_before_the_next_of_the_same_moment():
    first, second = send_messages([Message(to=NUMBER, text=text) for text in "ab"])
    OutboundMessage.objects.update(due_at=DatabaseNow())
    first.refresh_from_db()
    OutboundMessage.objects.filter(pk=first.pk).update(due_at=first.due_at)
    assert list(OutboundMessage.objects.order_by("due_at", "id")) == [first, second]


@pytest.mark.django_db
@pytest.mark.parametrize("default", ["", "Cabang"])
def test_a_license_that_is_gone_is_not_chosen_again(license_, default, settings):
    other = License.objects.create(name="Cabang")
    settings.KPWA = settings.KPWA | {"DEFAULT_LICENSE": "Cabang"}
    assert send_message(NUMBER, "struk").license == other
    OutboundMessage.objects.all().delete()
    other.delete()
    settings.KPWA = settings.KPWA | {"DEFAULT_LICENSE": default}
    assert send_message(NUMBER, "struk").license == (None if default else license_)


@pytest.mark.django_db
def test_a_known_key_among_many_is_returned_and_the_others_are_stored(license_):
    known = send_message(NUMBER, "known", idempotency_key="b")
    stored = send_messages(Message(NUMBER, key, license=license_, idempotency_key=key) for key in "abcb")
    assert [message.text for message in stored] == ["a", "known", "c", "known"]
    assert stored[1].pk == stored[3].pk == known.pk
    assert OutboundMessage.objects.count() == 3


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["x" * 300, "a\x00b", "a\ud800"], ids=["long", "nul", "surrogate"])
def test_a_source_whose_key_no_column_holds_is_refused_before_the_database_sees_it(license_, key):
    sale = Sale()
    sale.pk = key
    with pytest.raises(InvalidMessageError):
        send_message(NUMBER, "x", source=sale)
    assert not OutboundMessage.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("commits", [True, False], ids=["that commits", "that is rolled back"])
@pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
def test_a_checkout_that_meets_another_one_with_its_key_waits_for_it_and_lives_on(license_, commits, many):
    first_has_stored = threading.Event()
    seen = {}

    def store(name):
        if many:
            return send_messages([Message(NUMBER, name, idempotency_key="order-1"), Message(NUMBER, f"and {name}")])[0]
        return send_message(NUMBER, name, idempotency_key="order-1")

    def first():
        try:
            with transaction.atomic():
                seen["first"] = store("first").uuid
                first_has_stored.set()
                # By now, the other one waits at the index. If it does not, the test proves less but does not fail.
                threading.Event().wait(0.5)
                transaction.set_rollback(not commits)
        finally:
            connections.close_all()

    thread = threading.Thread(target=first)
    thread.start()
    assert first_has_stored.wait(20)
    with transaction.atomic():
        second = store("second")
        sale = Sale.objects.create()
    thread.join(20)
    assert Sale.objects.filter(pk=sale.pk).exists()
    assert OutboundMessage.objects.filter(idempotency_key="order-1").count() == 1
    assert second.text == ("first" if commits else "second")
    assert (second.uuid == seen["first"]) == commits
