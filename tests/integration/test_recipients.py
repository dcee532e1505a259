"""Who was written to and who wrote: what is kept of it, in both forms of a record, and for what was there before."""

from __future__ import annotations

from importlib import import_module

import pytest
from django.apps import apps
from django.db import connection
from django.utils import timezone

from django_kpwa.dispatch import drive
from django_kpwa.exceptions import BadRequestError, GatewayTimeoutError, NotConnectedError
from django_kpwa.gateway import locmem
from django_kpwa.models import OutboundMessage, Recipient, in_seconds
from django_kpwa.outbox import send_group_message, send_message
from django_kpwa.store import store
from tests.integration.test_stops import NUMBER, OTHER, hear
from tests.integration.times import pass_time

pytestmark = pytest.mark.django_db(transaction=True)


def facts():
    return {
        row.number: (row.first_sent_at is not None, row.last_inbound_at is not None, row.sent_since_inbound)
        # The gateway may have been asked about others.
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


def test_an_existing_site_is_filled_and_filled_again(license_):
    migration = import_module("django_kpwa.migrations.0007_who_was_written_to")
    send(license_, count=3)
    send(license_, OTHER)
    pass_time(days=2)
    hear(license_, "terima kasih")
    send(license_)
    hear(license_, "masih buka?", sender="6281300000001")
    before = sorted(Recipient.objects.values_list("number", "last_inbound_at", "sent_since_inbound"))
    assert len(before) == 3
    Recipient.objects.all().delete()
    with connection.schema_editor(atomic=False) as editor:
        for _ in range(2):
            migration.fill(apps, editor)
            after = sorted(Recipient.objects.values_list("number", "last_inbound_at", "sent_since_inbound"))
            assert after == before
    first, last = Recipient.objects.values_list("first_sent_at", "last_sent_at").get(number=NUMBER)
    assert (timezone.now() - first).days == 2
    assert (timezone.now() - last).days == 0


def test_it_is_filled_in_batches(license_, monkeypatch):
    migration = import_module("django_kpwa.migrations.0007_who_was_written_to")
    monkeypatch.setattr(migration, "BATCH", 2)
    numbers = [f"628123456780{number}" for number in range(5)]
    for number in numbers:
        send(license_, number)
    Recipient.objects.all().delete()
    OutboundMessage.objects.filter(recipient=numbers[0]).update(sent_at=in_seconds(-60))
    with connection.schema_editor(atomic=False) as editor:
        migration.fill(apps, editor)
    assert sorted(Recipient.objects.values_list("number", flat=True)) == numbers
