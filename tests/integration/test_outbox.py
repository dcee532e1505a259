"""The public functions of the outbox: what they store, what they refuse, and what a decision changes."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from datetime import timezone as datetime_timezone

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from django_kpwa import outbox, signals
from django_kpwa.exceptions import (
    InvalidImageUrlError,
    InvalidMessageError,
    InvalidPhoneNumberError,
)
from django_kpwa.models import License, OutboundMessage, Priority, Status
from django_kpwa.outbox import Message, send_group_message, send_message, send_messages
from tests.shop.models import Sale, Seat, Ticket

pytestmark = pytest.mark.django_db


def set_status(message, status, **columns):
    OutboundMessage.objects.filter(pk=message.pk).update(status=status, **columns)


def test_a_message_keeps_what_was_typed_and_what_is_sent(license_):
    message = send_message("0812 3456-7890", "Terima kasih 🙏")
    assert (message.recipient_typed, message.recipient) == ("0812 3456-7890", "6281234567890")
    assert (message.status, message.license, message.text) == (Status.QUEUED, license_, "Terima kasih 🙏")
    assert message.created_at == message.due_at
    assert abs(timezone.now() - message.created_at) < timedelta(minutes=1)


def test_a_message_to_a_group_goes_to_its_name(license_):
    message = send_group_message("Dapur & Kasir", "Stok kopi habis")
    assert (message.recipient_type, message.recipient) == ("group", "Dapur & Kasir")


def test_a_message_points_to_its_source(license_):
    sale = Sale.objects.create()
    message = send_message("08123456789", "x", source=sale)
    assert list(OutboundMessage.objects.for_source(sale)) == [message]
    assert not OutboundMessage.objects.for_source(Sale.objects.create()).exists()


def test_a_known_key_returns_its_message_in_every_status_and_stores_nothing(license_):
    first = send_message("08123456789", "x", idempotency_key="order-1")
    for status in Status:
        set_status(first, status)
        assert send_message("08123456789", "x", idempotency_key="order-1").pk == first.pk
    assert OutboundMessage.objects.count() == 1


def test_keys_differ_by_case_on_every_database(license_):
    assert send_message("08123456789", "x", idempotency_key="Order-A") != send_message(
        "08123456789", "x", idempotency_key="order-a"
    )


def test_a_key_is_one_across_licenses(license_):
    other = License(name="Cabang")
    other.set_api_key("another-key-000001")
    other.save()
    first = send_message("08123456789", "x", license=license_, idempotency_key="k")
    assert send_message("08123456789", "x", license=other, idempotency_key="k").pk == first.pk


def test_another_text_under_a_known_key_is_logged_without_the_number(license_, caplog):
    send_message("08123456789", "x", idempotency_key="k")
    with caplog.at_level(logging.WARNING, "django_kpwa.outbox"):
        send_message("08123456789", "x", idempotency_key="k")
        assert not caplog.records
        send_message("08123456789", "y", idempotency_key="k")
    assert "another text" in caplog.text
    assert "8123456789" not in caplog.text


def test_a_clash_of_keys_leaves_the_sites_transaction_alive(license_):
    with transaction.atomic():
        send_message("08123456789", "x", idempotency_key="k")
        send_message("08123456789", "x", idempotency_key="k")
        sale = Sale.objects.create()
    assert Sale.objects.filter(pk=sale.pk).exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"to": "08123456789"}, "neither a visible text nor an image_url"),
        ({"to": "08123456789", "text": "  \n "}, "neither a visible text nor an image_url"),
        ({"to": "", "text": "x"}, "either a number"),
        ({"to": "08123456789", "text": "x" * 70_000}, "70,000 characters"),
        ({"to": "08123456789", "text": "a\x00b"}, "NUL"),
        ({"to": "08123456789", "text": "a\ud800b"}, "surrogate"),
        ({"to": "08123456789", "text": "x", "idempotency_key": "k" * 256}, "256 characters"),
        ({"to": "08123456789", "text": "x", "priority": -1}, "priority"),
        ({"to": "08123456789", "text": "x", "priority": True}, "priority"),
        ({"to": "08123456789", "text": "x", "send_after": datetime(2026, 1, 1)}, "aware datetime"),
        ({"to": "08123456789", "text": "x", "expires_at": "tomorrow"}, "aware datetime"),
        ({"to": "08123456789", "text": "x", "idempotency_key": ""}, "unrelated messages would share it"),
        ({"to": "08123456789", "text": "x", "idempotency_key": " "}, "unrelated messages would share it"),
        (
            {"to": "08123456789", "text": "x", "idempotency_key": "\t\n\u00a0\u3000"},
            "unrelated messages would share it",
        ),
        ({"to": "08123456789", "text": "x", "idempotency_key": "\u200b\ufeff"}, "unrelated messages would share it"),
        ({"to": "08123456789", "text": "x", "idempotency_key": 12}, "is a int; give a string"),
        ({"to": "08123456789", "text": "x", "idempotency_key": b"k"}, "is a bytes; give a string"),
        ({"to": "08123456789", "text": "x", "idempotency_key": False}, "is a bool; give a string"),
        ({"to": "08123456789", "text": "x", "source": Sale()}, "not been saved"),
        ({"to": "08123456789", "text": "x", "source": Sale(pk=1)}, "load it from the database"),
        ({"to": "08123456789", "text": "x", "source": Ticket()}, "not been saved"),
        ({"to": "08123456789", "text": "x", "source": Seat(row="A")}, "not been saved"),
        ({"to": "08123456789", "text": "x", "source": Seat(row="A", number=1)}, "not been saved"),
        ({"to": "08123456789", "text": "x", "source": 5}, "is a int; give a saved model instance"),
        ({"to": "08123456789", "text": "x", "license": License(name="new")}, "not been saved"),
        ({"to": "08123456789", "text": "x", "license": License(pk=1, name="by hand")}, "not been saved"),
    ],
)
def test_what_is_wrong_with_a_message_is_refused_with_the_reason_and_nothing_is_stored(license_, arguments, reason):
    with pytest.raises(InvalidMessageError, match=reason):
        send_message(**arguments)
    assert not OutboundMessage.objects.exists()


def test_many_messages_with_an_empty_key_are_refused_by_their_index(license_):
    with pytest.raises(InvalidMessageError, match="message 1: its idempotency_key"):
        send_messages([Message("08123456789", "a"), Message("08123456789", "b", idempotency_key="")])
    with pytest.raises(InvalidMessageError, match="message 0: its source has not been saved"):
        send_messages([Message("08123456789", "a", source=Ticket())])
    assert not OutboundMessage.objects.exists()


def test_a_saved_source_of_any_key_is_taken_also_when_its_row_is_gone_since(license_):
    ticket, seat = Ticket.objects.create(), Seat.objects.create(row="A", number=1)
    for source in (ticket, seat):
        message = send_message("08123456789", "x", source=source)
        assert list(OutboundMessage.objects.for_source(source)) == [message]
    Ticket.objects.all().delete()
    assert send_message("08123456789", "y", source=ticket).source_id == str(ticket.pk)


def test_what_cannot_be_a_number_is_refused_before_anything_is_stored(license_):
    with pytest.raises(InvalidPhoneNumberError):
        send_message("12", "x")
    assert not OutboundMessage.objects.exists()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://shop.example/a.png",
        "shop.example/a.png",
        "https://",
        "https://user:secret@shop.example/a.png",
        "https://shop.example/a b.png",
        "https://shop.example:port/a.png",
        "https://[::1/a.png",
        "javascript:alert(1)",
        "https://shop.example/" + "a" * 2000,
    ],
)
def test_an_image_url_that_the_gateway_could_not_or_should_not_fetch_is_refused(license_, url):
    with pytest.raises(InvalidImageUrlError) as refused:
        send_message("08123456789", "x", image_url=url)
    assert "secret" not in str(refused.value)
    assert not OutboundMessage.objects.exists()


def test_an_image_alone_is_a_message(license_):
    assert send_message("08123456789", image_url="https://shop.example/struk.png").image_url


def test_many_messages_are_returned_in_their_order_and_repeated_keys_once(license_):
    known = send_message("08123456789", "known", idempotency_key="k0")
    stored = send_messages(
        [
            Message("08123456789", "known", idempotency_key="k0"),
            Message("08123456781", "a", idempotency_key="k1"),
            Message("08123456782", "b"),
            Message("08123456781", "a", idempotency_key="k1"),
            Message(group="Dapur", text="c"),
        ]
    )
    assert [message.text for message in stored] == ["known", "a", "b", "a", "c"]
    assert stored[0].pk == known.pk
    assert stored[1].pk == stored[3].pk
    assert OutboundMessage.objects.count() == 4


def test_one_wrong_message_of_many_stores_none_and_is_named_by_its_index(license_):
    with pytest.raises(InvalidPhoneNumberError) as refused:
        send_messages([Message("08123456789", "a"), Message("08123456789", "b"), Message("nope", "c")])
    assert refused.value.index == 2
    assert "message 2" in str(refused.value)
    assert not OutboundMessage.objects.exists()


def test_many_messages_cost_a_few_statements(license_, django_assert_max_num_queries):
    # SQLite allows 999 values per statement, so a thousand rows take about forty statements there.
    with django_assert_max_num_queries(52 if connection.vendor == "sqlite" else 12):
        send_messages(Message(f"0812345{n:05}", "x", idempotency_key=f"k{n}", license=license_) for n in range(1000))
    assert OutboundMessage.objects.count() == 1000


def test_a_waiting_message_can_be_cancelled_and_one_that_is_sending_cannot(license_):
    message = send_message("08123456789", "x")
    assert outbox.cancel(message)
    assert message.status == Status.CANCELLED
    for status in set(Status) - {Status.QUEUED}:
        set_status(message, status)
        assert not outbox.cancel(message)
        assert message.status == status


def test_a_resend_of_a_message_in_doubt_that_is_cancelled_is_in_doubt_again(license_):
    message = send_message("08123456789", "x")
    set_status(message, Status.QUEUED, in_doubt=True)
    assert outbox.cancel(message)
    assert message.status == Status.UNKNOWN


def test_a_resend_clears_expiry_due_time_and_spent_attempts(license_):
    past = timezone.now() - timedelta(days=3)
    message = send_message("08123456789", "x", expires_at=past)
    for status in (Status.FAILED, Status.UNKNOWN, Status.EXPIRED, Status.CANCELLED):
        set_status(message, status, due_at=past, attempts_spent=6, settled_at=past, dismissed_at=past, reason="timeout")
        assert outbox.resend(message)
        assert message.status == Status.QUEUED
        assert (message.expires_at, message.attempts_spent, message.reason) == (None, 0, "")
        assert (message.settled_at, message.dismissed_at) == (None, None)
        assert message.due_at > past
    for status in (Status.QUEUED, Status.SENDING, Status.SENT, Status.DELIVERED, Status.READ):
        set_status(message, status)
        assert not outbox.resend(message)
        assert message.status == status


def test_only_a_message_in_doubt_can_be_marked_sent_or_dismissed(license_):
    message = send_message("08123456789", "x")
    for status in set(Status) - {Status.UNKNOWN}:
        set_status(message, status)
        assert not outbox.mark_sent(message)
        assert not outbox.dismiss(message)
    set_status(message, Status.UNKNOWN, in_doubt=True)
    assert outbox.dismiss(message)
    assert message.status == Status.UNKNOWN
    assert not OutboundMessage.objects.undecided().exists()
    assert outbox.mark_sent(message)
    assert (message.status, message.in_doubt) == (Status.SENT, False)
    assert message.sent_at is not None


def test_the_database_itself_refuses_a_doubtful_message_that_ends_failed(license_):
    message = send_message("08123456789", "x")
    with pytest.raises(IntegrityError), transaction.atomic():
        set_status(message, Status.FAILED, in_doubt=True)


@pytest.mark.django_db(transaction=True)
def test_decisions_are_announced_after_the_commit_and_not_after_a_rollback(license_):
    heard = []

    def hear(message, **_):
        heard.append(message.status)

    signals.message_cancelled.connect(hear)
    try:
        message = send_message("08123456789", "x")
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            outbox.cancel(message)
            raise ZeroDivisionError
        assert heard == []
        with transaction.atomic():
            outbox.cancel(message)
            assert heard == []
        assert heard == [Status.CANCELLED]
    finally:
        signals.message_cancelled.disconnect(hear)


def test_the_fields_of_a_message_are_the_arguments_of_send_message(license_):
    later = datetime(2030, 1, 1, tzinfo=datetime_timezone.utc)
    message = send_message("08123456789", "x", priority=Priority.URGENT, send_after=later, expires_at=later)
    assert (message.priority, message.due_at, message.expires_at) == (10, later, later)


def test_a_copy_to_another_number_says_the_same_and_a_second_click_sends_nothing_more(license_):
    sale = Sale.objects.create()
    message = send_message(
        "08123456789", "struk", image_url="https://shop.example/a.png", source=sale, idempotency_key="receipt-1"
    )
    copy = outbox.send_to_another_number(message, "0857 1111 2222")
    again = outbox.send_to_another_number(message, "+62 857-1111-2222")
    assert again.pk == copy.pk != message.pk
    assert (copy.recipient, copy.recipient_typed) == ("6285711112222", "0857 1111 2222")
    assert (copy.text, copy.image_url, copy.license) == ("struk", "https://shop.example/a.png", license_)
    assert (copy.status, copy.expires_at) == (Status.QUEUED, None)
    assert list(OutboundMessage.objects.for_source(sale).order_by("pk")) == [message, copy]
    assert outbox.send_to_another_number(message, "0857 1111 3333").pk not in (copy.pk, message.pk)


def test_a_copy_of_a_message_to_a_group_goes_to_the_number(license_):
    copy = outbox.send_to_another_number(send_group_message("Dapur", "halo"), "0857 1111 2222")
    assert (copy.recipient_type, copy.recipient, copy.text) == ("number", "6285711112222", "halo")


def test_a_copy_to_what_is_no_number_is_refused(license_):
    message = send_message("08123456789", "struk")
    with pytest.raises(InvalidPhoneNumberError):
        outbox.send_to_another_number(message, "0857")
    assert OutboundMessage.objects.count() == 1
