"""Purging removes what is old and keeps what still matters."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_kpwa import retention, tasks
from django_kpwa.models import OutboundMessage, Recipient, SendAttempt, Status, WebhookEvent, WebhookToken
from django_kpwa.outbox import send_message
from django_kpwa.senders import senders
from django_kpwa.webhooks import process_event, reprocess
from django_kpwa.webhooks.arrivals import store_event
from tests.cli import kpwa

pytestmark = pytest.mark.django_db

LONG_AGO = timezone.now() - timedelta(days=1000)


def message(status, **columns):
    row = send_message("081234567890", "x")
    OutboundMessage.objects.filter(pk=row.pk).update(status=status, settled_at=LONG_AGO, **columns)
    SendAttempt.objects.create(message=row, number=1, started_at=LONG_AGO)
    return row.pk


def event(license_, at, **columns):
    return WebhookEvent.objects.create(license=license_, body=b"{}", received_at=at, last_received_at=at, **columns)


def test_old_messages_go_with_their_attempts_and_undecided_ones_stay(license_):
    gone = {message(status) for status in (Status.SENT, Status.READ, Status.FAILED, Status.EXPIRED, Status.CANCELLED)}
    gone.add(message(Status.UNKNOWN, dismissed_at=LONG_AGO))
    kept = {message(status) for status in (Status.QUEUED, Status.SENDING, Status.UNKNOWN)}
    recent = send_message("081234567890", "x").pk
    assert retention.purge().messages == len(gone)
    assert set(OutboundMessage.objects.values_list("pk", flat=True)) == kept | {recent}
    assert set(SendAttempt.objects.values_list("message_id", flat=True)) == kept


def test_an_event_outlives_the_message_it_moved(license_):
    old = message(Status.SENT)
    recent = event(license_, timezone.now(), message_id=old)
    event(license_, LONG_AGO)
    purged = retention.purge()
    assert (purged.messages, purged.events) == (1, 1)
    recent.refresh_from_db()
    assert recent.message_id is None


def test_with_the_last_that_is_about_a_number_goes_what_is_kept_of_it_but_a_stop(license_):
    old, stopped, recent, wrote = ("6281234567890", "6281234567891", "6281234567892", "6281234567893")
    for number in (old, stopped, recent, wrote):
        row = send_message(number, "x")
        OutboundMessage.objects.filter(pk=row.pk).update(status=Status.SENT, settled_at=LONG_AGO)
        Recipient.objects.create(license=license_, number=number, last_sent_at=LONG_AGO)
    Recipient.objects.filter(number=stopped).update(stopped_at=LONG_AGO)
    event(license_, timezone.now(), sender_number=wrote)
    send_message(recent, "y")
    assert retention.purge().messages == 4
    assert set(Recipient.objects.values_list("number", flat=True)) == {stopped, recent, wrote}
    WebhookEvent.objects.update(received_at=LONG_AGO)
    assert retention.purge().events == 1
    assert set(Recipient.objects.values_list("number", flat=True)) == {stopped, recent}


def test_expired_tokens_go_and_living_ones_stay(license_):
    now = timezone.now()
    WebhookToken.objects.create(license=license_, digest="a" * 64, created_at=LONG_AGO, expires_at=LONG_AGO)
    WebhookToken.objects.create(license=license_, digest="b" * 64, created_at=LONG_AGO)
    WebhookToken.objects.create(license=license_, digest="c" * 64, created_at=LONG_AGO, expires_at=now)
    retention.purge()
    assert set(WebhookToken.objects.values_list("digest", flat=True)) == {"b" * 64, "c" * 64}


def test_what_is_kept_is_the_sites_to_say_and_batches_are_small(license_, settings):
    for _ in range(5):
        message(Status.SENT)
    settings.KPWA = {**settings.KPWA, "RETENTION_DAYS": {"messages": 2000}}
    assert retention.purge().messages == 0
    settings.KPWA = {**settings.KPWA, "RETENTION_DAYS": {"messages": 10}}
    assert retention.purge(batch_size=2).messages == 5


def test_a_purge_that_is_told_to_stop_stops(license_):
    message(Status.SENT)
    assert retention.purge(should_stop=lambda: True).messages == 0


def test_a_purge_rests_between_its_batches_and_never_looks_back_at_what_it_keeps(license_, monkeypatch):
    rests = []
    monkeypatch.setattr(retention.time, "sleep", rests.append)
    kept = [message(Status.UNKNOWN) for _ in range(3)]
    settled = [message(Status.SENT) for _ in range(6)]
    for number, pk in enumerate(settled):
        OutboundMessage.objects.filter(pk=pk).update(settled_at=LONG_AGO + timedelta(minutes=number))
    with CaptureQueriesContext(connection) as captured:
        assert retention.purge(batch_size=2).messages == 6
    assert rests
    assert all(0 <= rest <= 1 for rest in rests)
    assert sorted(OutboundMessage.objects.values_list("pk", flat=True)) == kept
    looks = [query["sql"] for query in captured if "ORDER BY" in query["sql"] and "outboundmessage" in query["sql"]]
    assert not any(">=" in look for look in looks[:1])
    assert all(">=" in look for look in looks[1:])


def test_old_events_go_before_the_messages_they_moved_and_are_not_changed_first(license_):
    old = message(Status.SENT)
    event(license_, LONG_AGO, message_id=old)
    with CaptureQueriesContext(connection) as captured:
        purged = retention.purge()
    assert (purged.messages, purged.events) == (1, 1)
    deletes = [plain(query["sql"]) for query in captured if "DELETE FROM" in query["sql"]]
    tables = [name for sql in deletes for name in ("webhookevent", "outboundmessage") if f"FROM {name} " in sql]
    assert tables == ["webhookevent", "outboundmessage"]


def plain(sql):
    return sql.replace('"', "").replace("`", "").replace("django_kpwa_", "")


def test_the_task_leaves_what_it_has_no_time_for_to_the_next(license_):
    message(Status.SENT)
    tasks.purge(seconds=0.0)
    assert OutboundMessage.objects.count() == 1
    tasks.purge()
    assert OutboundMessage.objects.count() == 0


STRANGER, CUSTOMER = "6285700000001", "6281234567890"


def heard(license_, sender=STRANGER, days=8.0, text="Buka jam berapa?", **more):
    """A processed event of a customer's message, received that many days ago."""
    payload = {"event": "message", "id": f"in-{uuid.uuid4()}", "from": sender, "text": text, "fromMe": False, **more}
    event_id = store_event(license_.pk, json.dumps(payload).encode(), "application/json")
    assert process_event(event_id)
    WebhookEvent.objects.filter(pk=event_id).update(received_at=timezone.now() - timedelta(days=days))
    return WebhookEvent.objects.get(pk=event_id)


def bodies(*events):
    return [bool(WebhookEvent.objects.get(pk=each.pk).body) for each in events]


def test_bodies_of_strangers_are_dropped_and_what_was_understood_stays(license_):
    old, recent = heard(license_), heard(license_, days=6)
    purged = retention.purge()
    assert (purged.bodies, purged.events, bodies(old, recent)) == (1, 0, [False, True])
    now = WebhookEvent.objects.get(pk=old.pk)
    for name in ("kind", "status", "received_at", "sender_number", "understood"):
        assert getattr(now, name) == getattr(old, name)
    assert now.understood["text"] == "Buka jam berapa?"
    assert not reprocess(now)
    assert retention.purge().bodies == 0


def test_what_customers_write_and_what_nobody_understood_keeps_its_body(license_):
    lid = "123456789012345@lid"
    send_message(CUSTOMER, "x")
    kept = [
        heard(license_, CUSTOMER),
        heard(license_, lid, senderPn=f"{CUSTOMER}@s.whatsapp.net"),
        heard(license_, lid),
        event(license_, timezone.now() - timedelta(days=8)),
    ]
    met = heard(license_, "6285700000002")
    OutboundMessage.objects.filter(recipient="6285700000002").delete()
    Recipient.objects.update_or_create(
        number="6285700000002", license=license_, defaults={"last_sent_at": timezone.now()}
    )
    dropped = [
        heard(license_, "999999999999999@lid"),
        heard(license_, "120363040000000000@g.us", participant=f"{STRANGER}@s.whatsapp.net"),
    ]
    assert retention.purge().bodies == 2
    assert bodies(*kept, met, *dropped) == [True] * 5 + [False] * 2


def test_how_long_strangers_bodies_are_kept_is_the_sites_to_say(license_, settings):
    old = heard(license_)
    settings.KPWA = {**settings.KPWA, "RETENTION_DAYS": {"strangers": 30}}
    assert retention.purge().bodies == 0
    settings.KPWA = {**settings.KPWA, "RETENTION_DAYS": {"strangers": 1}}
    assert (retention.purge().bodies, bodies(old)) == (1, [False])


def test_each_event_is_looked_at_once_in_small_batches_and_by_the_index(license_):
    at = timezone.now() - timedelta(days=10)
    first = [heard(license_) for _ in range(7)]
    WebhookEvent.objects.update(received_at=at)  # all at the same time
    later = [heard(license_, days=9) for _ in range(4)]
    stops = iter([False, False, True])
    assert retention.purge(should_stop=lambda: next(stops, True), batch_size=2).bodies == 4
    assert retention.purge(batch_size=2).bodies == 7
    assert bodies(*first, *later) == [False] * 11
    later_still = heard(license_, days=8)
    with CaptureQueriesContext(connection) as queries:
        assert retention.purge(batch_size=2).bodies == 1
    looked = [query["sql"] for query in queries if "ORDER BY" in query["sql"] and "'incoming'" in query["sql"]]
    assert 0 < len(looked) <= 4
    assert bodies(later_still) == [False]


def test_a_purge_tells_of_the_bodies_and_monitoring_of_no_such_service(license_):
    heard(license_)
    code, told = kpwa("purge")
    assert (code, "bodies of 1 webhook events" in told) == (0, True)
    assert "strangers" not in senders().seen
