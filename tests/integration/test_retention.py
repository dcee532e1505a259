"""Purging: what is old goes, what still matters stays."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_kpwa import retention, tasks
from django_kpwa.models import OutboundMessage, SendAttempt, Status, WebhookEvent, WebhookToken
from django_kpwa.outbox import send_message

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
