"""The shop's tests of its receipts, with the package's fixtures."""

from __future__ import annotations

import pytest
from django.db import transaction
from django.utils import timezone

from django_kpwa.exceptions import GatewayTimeoutError
from django_kpwa.models import License, OutboundMessage, Status
from django_kpwa.outbox import send_message
from django_kpwa.signals import message_read, message_received
from django_kpwa.testing import fail_next

from .models import Sale

EACH_WAY = pytest.mark.parametrize(
    "database", [pytest.param(None, marks=pytest.mark.django_db(transaction=commits)) for commits in (False, True)]
)


def sell():
    with transaction.atomic():
        return Sale.objects.create(number="N-1", customer_phone="0812 3456 7890", total=18000, paid_at=timezone.now())


@EACH_WAY
@pytest.mark.parametrize("_again", range(3))
def test_each_test_begins_with_nothing(database, _again, kpwa_outbox, kpwa_license, kpwa_deliver):
    assert kpwa_outbox == []
    assert [*License.objects.all()] == [kpwa_license]
    sell()
    [receipt] = kpwa_deliver()
    assert (receipt.to, receipt.text) == ("6281234567890", "Nota N-1: Rp 18.000")
    assert kpwa_outbox == [receipt]


@EACH_WAY
def test_a_license_is_made_where_there_is_none(database, kpwa_deliver):
    send_message("0812 3456 7890", "Halo")
    assert License.objects.count() == 0
    assert len(kpwa_deliver()) == 1


@EACH_WAY
def test_a_license_of_ones_own_is_the_only_one(database, kpwa_deliver):
    own = License(name="Cabang")
    own.set_api_key("a-key-of-my-own")
    own.save()
    sell()
    assert len(kpwa_deliver()) == 1
    assert [*License.objects.all()] == [own]


def test_failures_do_not_reach_the_next_test(kpwa_deliver):
    fail_next(GatewayTimeoutError, GatewayTimeoutError)
    sell()
    assert kpwa_deliver() == []
    assert OutboundMessage.objects.get().status == Status.UNKNOWN


def test_without_a_database_nothing_is_sent(kpwa_outbox):
    assert kpwa_outbox == []


@EACH_WAY
def test_a_receipt_is_read_and_answered(database, kpwa_deliver, kpwa_webhook):
    heard = []

    def note(sender, signal, **arguments):
        heard.append((signal, arguments["incoming"].text if "incoming" in arguments else arguments["message"].status))

    sell()
    [receipt] = kpwa_deliver()
    for signal in (message_read, message_received):
        signal.connect(note)
    try:
        event = kpwa_webhook({"id": receipt.id, "status": "Read", "phone": receipt.to, "isFromMe": True})
        assert event.message == OutboundMessage.objects.get(status=Status.READ)
        kpwa_webhook(
            {"id": "3EB0", "from": f"{receipt.to}@s.whatsapp.net", "message": "Terima kasih!", "isFromMe": False}
        )
    finally:
        for signal in (message_read, message_received):
            signal.disconnect(note)
    assert heard == [(message_read, Status.READ), (message_received, "Terima kasih!")]


@EACH_WAY
def test_an_event_that_comes_again_is_the_same_event(database, kpwa_webhook):
    payload = {"id": "3EB1", "from": "6281234567890@s.whatsapp.net", "message": "Halo", "isFromMe": False}
    first, second = kpwa_webhook(payload), kpwa_webhook(payload)
    assert (first.pk, second.times_received) == (second.pk, 2)


def test_a_site_that_refuses_its_webhook_hears_of_it(kpwa_webhook, settings):
    settings.KPWA = {**settings.KPWA, "WEBHOOK_PASSWORD": "of-the-proxy-" + 3 * "0123456789"}
    kpwa_webhook({"id": "3EB2", "status": "Read"})
    settings.MIDDLEWARE = ["shop.receipt_tests.refuse"]
    with pytest.raises(AssertionError, match="answered its webhook with 403"):
        kpwa_webhook({"id": "3EB3", "status": "Read"})


def refuse(get_response):
    from django.http import HttpResponseForbidden

    return lambda request: HttpResponseForbidden()
