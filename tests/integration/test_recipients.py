"""What is kept about who was written to and who wrote, in both forms of a record, and when events come late."""

from __future__ import annotations

import pytest

from django_kpwa.dispatch import drive
from django_kpwa.exceptions import BadRequestError, GatewayTimeoutError, NotConnectedError
from django_kpwa.gateway import locmem
from django_kpwa.models import Recipient
from django_kpwa.outbox import send_group_message, send_message
from django_kpwa.store import store
from tests.integration.test_stops import NUMBER, OTHER, hear
from tests.integration.times import pass_time

pytestmark = pytest.mark.django_db(transaction=True)


def facts():
    return {
        row.number: (row.first_sent_at is not None, row.last_inbound_at is not None, row.sent_since_inbound)
        # The gateway may have been asked about other numbers.
        for row in Recipient.objects.exclude(first_sent_at=None, last_inbound_at=None)
    }


def send(license_, number=NUMBER, count=1):
    for _ in range(count):
        send_message(number, "struk", license=license_)
    drive(license_.pk)


def test_each_accepted_send_is_counted_until_its_recipient_writes(license_, form):
    send(license_, count=2)
    send(license_, OTHER)
    send_group_message("Kasir", "laporan", license=license_)
    drive(license_.pk)
    assert facts() == {NUMBER: (True, False, 2), OTHER: (True, False, 1)}
    first, last = Recipient.objects.values_list("first_sent_at", "last_sent_at").get(number=NUMBER)
    assert first < last
    hear(license_, "terima kasih")
    assert facts()[NUMBER] == (True, True, 0)
    send(license_)
    assert facts()[NUMBER] == (True, True, 1)
    assert Recipient.objects.get(number=NUMBER).first_sent_at == first


def test_who_writes_first_was_never_written_to(license_):
    hear(license_, "masih buka?")
    assert facts() == {NUMBER: (False, True, 0)}


def test_what_may_have_been_sent_counts_and_what_was_not_does_not(license_, form):
    for error in (NotConnectedError("no route"), BadRequestError("no"), GatewayTimeoutError("no answer")):
        locmem.fail_next(error)
        send(license_)
        assert bool(facts()) is isinstance(error, GatewayTimeoutError)


def test_an_older_event_that_comes_later_changes_nothing(license_):
    hear(license_, "halo")
    wrote = Recipient.objects.get().last_inbound_at
    pass_time(days=1)
    Recipient.objects.update(last_inbound_at=wrote)
    hear(license_, "halo lagi")
    newer = Recipient.objects.get().last_inbound_at
    assert newer > wrote
    store().note_inbound(license_.pk, NUMBER, wrote)
    assert Recipient.objects.get().last_inbound_at == newer
