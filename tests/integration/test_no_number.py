"""A value that says "there is no number" quietly causes no receipt. A number object is asked for its number."""

from __future__ import annotations

import logging

import pytest

from django_kpwa import receipts
from django_kpwa.exceptions import InvalidPhoneNumberError
from django_kpwa.models import OutboundMessage, ReceiptFailure
from django_kpwa.outbox import send_message
from tests.shop.models import Sale
from tests.unit.test_phone_spellings import FieldNumber

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("license_")]


@pytest.fixture
def sold_to():
    """Save a sale whose receipt class returns the given value as its phone number."""

    class Answer(receipts.Receipt):
        event = "answer"

        def should_send(self, sale):
            return True

        def get_phone_number(self, sale):
            return sale.answer

        def get_occurred_at(self, sale):
            return sale.sold_at

        def render(self, sale, **context):
            return "Struk"

    def save(answer):
        sale = Sale(status=Sale.Status.OPEN)
        sale.answer = answer
        sale.save()

    receipts.register(Sale)(Answer)
    yield save
    receipts.unregister(Answer)


@pytest.mark.parametrize("answer", ["-", "0", ".", "000", "n/a", "+62", "\u200b", None, 0, float("nan")], ids=repr)
def test_no_number_is_no_receipt_no_failure_and_no_error_in_the_log(sold_to, answer, caplog):
    sold_to(answer)
    assert not OutboundMessage.objects.exists()
    assert not ReceiptFailure.objects.exists()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("answer", [6281234567890.0, "6281234567890.0", "081234567890 / 081398765432", "0812"])
def test_what_cannot_be_read_is_kept_as_a_failure(sold_to, answer):
    sold_to(answer)
    assert not OutboundMessage.objects.exists()
    assert "InvalidPhoneNumberError" in ReceiptFailure.objects.get().error


@pytest.mark.parametrize("answer", [FieldNumber("0812 3456 7890"), 81234567890])
def test_a_number_object_and_a_column_of_whole_numbers_get_their_receipt(sold_to, answer):
    sold_to(answer)
    assert OutboundMessage.objects.get().recipient == "6281234567890"


def test_a_number_object_is_sent_to_by_its_own_e164():
    message = send_message(FieldNumber("0812 3456 7890"), "Halo")
    assert (message.recipient, message.recipient_typed) == ("6281234567890", "+6281234567890")


@pytest.mark.parametrize("to", ["-", "0", ".", "000", "+62"])
def test_no_number_cannot_be_sent_to(to):
    with pytest.raises(InvalidPhoneNumberError):
        send_message(to, "Halo")
    assert not OutboundMessage.objects.exists()
