"""The number and the license of a receipt are determined again, from current data, when its text is rendered."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from django_kpwa import outbox, receipts, testing
from django_kpwa.admin.message_timeline import timeline_of
from django_kpwa.dispatch import drive
from django_kpwa.exceptions import NotConnectedError
from django_kpwa.gateway import locmem
from django_kpwa.models import DatabaseNow, Lane, License, OutboundMessage, ReceiptFailure, Status, idempotency_digest
from tests.shop.models import Sale

pytestmark = pytest.mark.django_db(transaction=True)

FIRST, SECOND, THIRD = "0812 3456 7890", "0813 9876 5432", "0819 1111 2222"


class Struk(receipts.Receipt):
    """A receipt of an outlet. The field `refunds` holds the key of the outlet in `outlets`."""

    event = "struk"
    max_age = None
    outlets: dict[int, object] = {}

    def should_send(self, sale):
        return sale.status == Sale.Status.OPEN

    def get_phone_number(self, sale):
        return sale.customer_phone

    def get_license(self, sale):
        return self.outlets.get(sale.refunds)

    def render(self, sale, **context):
        return f"Struk {sale.refunds} dari {context['license'].name}"


@pytest.fixture(autouse=True)
def registered(license_):
    Struk.outlets = {}
    receipts.register(Sale)(Struk)
    yield
    receipts.unregister(Struk)


@pytest.fixture
def branch():
    return testing.create_license("Cabang")


def sold(phone=FIRST, refunds=0):
    return Sale.objects.create(customer_phone=phone, refunds=refunds)


def drive_now(license_):
    OutboundMessage.objects.filter(status=Status.QUEUED).update(due_at=DatabaseNow())
    drive(license_.pk)


def sent():
    return [(message.to, message.text) for message in locmem.outbox]


def words_of_timeline(message):
    return " ".join(filter(None, (moment.cause for moment in timeline_of(message))))


@pytest.mark.parametrize("saves", ["save", "update"])
def test_a_number_that_is_corrected_before_the_send_is_the_one_it_goes_to(license_, saves):
    sale = sold()
    if saves == "save":
        sale.customer_phone = SECOND
        sale.save()
    else:
        Sale.objects.update(customer_phone=SECOND)
    drive_now(license_)
    assert [to for to, _ in sent()] == ["6281398765432"]
    message = OutboundMessage.objects.get()
    assert (message.recipient, message.recipient_typed, message.status) == ("6281398765432", SECOND, Status.SENT)
    assert not ReceiptFailure.objects.exists()


def test_the_change_is_on_the_timeline_with_its_numbers_masked(license_):
    sold()
    Sale.objects.update(customer_phone=SECOND)
    drive_now(license_)
    words = words_of_timeline(OutboundMessage.objects.get())
    assert words == "The number was 62812•••••890, and is now 62813•••••432."


def test_the_same_number_in_another_spelling_is_no_change(license_):
    sold()
    Sale.objects.update(customer_phone="+62 812-3456-7890")
    drive_now(license_)
    message = OutboundMessage.objects.get()
    assert (message.recipient, message.changed_at, len(sent())) == ("6281234567890", None, 1)


@pytest.mark.parametrize("number", ["", "-", "0", " "])
def test_a_number_that_is_removed_before_the_send_cancels_it_with_the_reason(license_, number):
    sold()
    Sale.objects.update(customer_phone=number)
    drive_now(license_)
    message = OutboundMessage.objects.get()
    assert (message.status, message.reason, sent()) == (Status.CANCELLED, "withdrawn", [])
    assert message.reason_words == "The customer's number had been removed when its turn came."


def test_a_number_that_is_none_now_fails_with_the_reason_and_is_kept_as_a_failure(license_):
    sale = sold()
    Sale.objects.update(customer_phone="0812")
    drive_now(license_)
    message = OutboundMessage.objects.get()
    assert (message.status, message.reason, sent()) == (Status.FAILED, "render_error", [])
    assert "InvalidPhoneNumberError" in message.reason_words
    assert ReceiptFailure.objects.get().source_id == str(sale.pk)


def test_a_number_corrected_while_whatsapp_was_logged_out_counts_though_the_text_had_been_written(license_):
    sale = sold()
    locmem.fail_next(NotConnectedError("connection refused"))
    drive_now(license_)
    message = OutboundMessage.objects.get()
    assert (message.status, message.attempts_made, message.text != "") == (Status.QUEUED, 1, True)
    sale.customer_phone = SECOND
    sale.save()
    # Hours later.
    OutboundMessage.objects.update(rendered_at=timezone.now() - timedelta(hours=3))
    Lane.objects.update(next_send_at=None)
    drive_now(license_)
    assert [to for to, _ in sent()] == ["6281398765432"]
    assert OutboundMessage.objects.get().status == Status.SENT


def test_a_text_that_was_written_a_moment_ago_is_not_written_again_before_it_goes(license_, monkeypatch):
    written = []
    monkeypatch.setattr(Struk, "render", lambda self, sale, **context: written.append(sale.pk) or "Struk")
    sold()
    locmem.fail_next(NotConnectedError("connection refused"))
    drive_now(license_)
    Lane.objects.update(next_send_at=None)
    drive_now(license_)
    assert (len(written), len(sent())) == (1, 1)


def test_one_whose_attempt_is_in_doubt_keeps_its_text_and_number(license_):
    sold()
    drive_now(license_)
    OutboundMessage.objects.update(
        status=Status.UNKNOWN, in_doubt=True, rendered_at=timezone.now() - timedelta(hours=3)
    )
    Sale.objects.update(customer_phone=SECOND)
    outbox.resend(OutboundMessage.objects.get())
    Lane.objects.update(next_send_at=None)
    drive_now(license_)
    assert [to for to, _ in sent()] == ["6281234567890", "6281234567890"]


def test_a_copy_goes_to_the_number_that_a_person_chose_for_it(license_):
    sold()
    copy = outbox.send_to_another_number(OutboundMessage.objects.get(), THIRD)
    assert copy.idempotency_digest != idempotency_digest(copy.idempotency_key)
    Sale.objects.update(customer_phone=SECOND)
    drive_now(license_)
    Lane.objects.update(next_send_at=None)
    drive_now(license_)
    assert sorted(to for to, _ in sent()) == ["6281398765432", "6281911112222"]


@pytest.mark.parametrize("by_name", [True, False])
def test_a_sale_that_moved_to_another_outlet_is_sent_by_that_ones_license_alone(license_, branch, by_name):
    Struk.outlets = {1: license_, 2: branch.name if by_name else branch}
    sold(refunds=1)
    Sale.objects.update(refunds=2)
    drive_now(license_)
    message = OutboundMessage.objects.get()
    assert (message.license, message.status, sent()) == (branch, Status.QUEUED, [])
    drive(branch.pk)
    assert [text for _, text in sent()] == ["Struk 2 dari Cabang"]
    words = words_of_timeline(OutboundMessage.objects.get())
    assert words == "It was to be sent by Toko Utama, and is now sent by Cabang."


def test_number_and_outlet_may_both_have_changed(license_, branch):
    Struk.outlets = {1: license_, 2: branch}
    sold(refunds=1)
    Sale.objects.update(refunds=2, customer_phone=SECOND)
    drive_now(license_)
    drive(branch.pk)
    assert sent() == [("6281398765432", "Struk 2 dari Cabang")]
    words = words_of_timeline(OutboundMessage.objects.get())
    assert "Cabang" in words
    assert "62813•••••432" in words


def test_what_names_no_license_any_more_goes_by_the_default_one(license_, branch):
    License.objects.filter(pk=license_.pk).update(is_default=True)
    Struk.outlets = {1: branch}
    sold(refunds=1)
    Sale.objects.update(refunds=0)
    drive_now(branch)
    drive(license_.pk)
    assert [text for _, text in sent()] == [f"Struk 0 dari {license_.name}"]


def test_where_the_default_cannot_be_told_it_stays_with_the_license_that_it_has(license_, branch):
    License.objects.update(is_default=False)
    Struk.outlets = {1: branch}
    sold(refunds=1)
    Sale.objects.update(refunds=0)
    drive_now(branch)
    assert [text for _, text in sent()] == ["Struk 0 dari Cabang"]


def test_a_license_that_no_longer_has_that_name_leaves_it_waiting_with_the_reason(license_, branch):
    Struk.outlets = {1: "Cabang"}
    sold(refunds=1)
    License.objects.filter(pk=branch.pk).update(name="Cabang Lama")
    drive_now(branch)
    message = OutboundMessage.objects.get()
    assert (message.status, message.reason, sent()) == (Status.QUEUED, "render_error", [])
    assert "There is no license called 'Cabang'" in message.reason_words
    assert ReceiptFailure.objects.count() == 1
    Struk.outlets = {1: "Cabang Lama"}
    drive_now(branch)
    assert len(sent()) == 1


def test_what_a_frozen_worker_read_before_another_began_anew_is_not_written(license_, monkeypatch):
    """A worker reads the old number and stands still past its lease. Meanwhile another begins the rendering again."""
    from django_kpwa.dispatch import render

    sold()

    def thaw_late(message):
        rendered = real(message)
        Sale.objects.update(customer_phone=SECOND)
        OutboundMessage.objects.update(renderings_begun=message.renderings_begun + 1)
        return rendered

    real = render.render_receipt
    monkeypatch.setattr(render, "render_receipt", thaw_late)
    drive_now(license_)
    assert OutboundMessage.objects.get().rendered_at is None
    monkeypatch.setattr(render, "render_receipt", real)
    drive_now(license_)
    assert [to for to, _ in sent()] == ["6281398765432"]


@pytest.mark.parametrize("back", [FIRST, SECOND])
def test_a_number_that_is_typed_again_after_its_removal_gets_the_receipt(license_, back):
    sale = sold()
    sale.customer_phone = ""
    sale.save()
    drive_now(license_)
    assert OutboundMessage.objects.get().status == Status.CANCELLED
    sale.customer_phone = back
    sale.save()
    message = OutboundMessage.objects.get()
    assert (message.status, message.reason, message.settled_at) == (Status.QUEUED, "", None)
    drive_now(license_)
    assert [to for to, _ in sent()] == [{FIRST: "6281234567890", SECOND: "6281398765432"}[back]]
    sale.save()
    assert OutboundMessage.objects.count() == 1
    assert not ReceiptFailure.objects.exists()


def test_so_does_a_sale_that_was_voided_by_mistake_and_one_that_a_person_cancelled_does_not(license_):
    sale = sold()
    sale.status = Sale.Status.VOID
    sale.save()
    drive_now(license_)
    sale.status = Sale.Status.OPEN
    sale.save()
    message = OutboundMessage.objects.get()
    assert message.status == Status.QUEUED
    assert outbox.cancel(message)
    sale.save()
    drive_now(license_)
    assert (OutboundMessage.objects.get().status, sent()) == (Status.CANCELLED, [])
