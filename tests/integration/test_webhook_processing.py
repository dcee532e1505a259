"""What becomes of stored events besides moving messages: the site is notified once, whatever happens to the workers."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import OperationalError, connection, connections
from django.utils import timezone

from django_kpwa import signals
from django_kpwa.models import EventKind, EventStatus, Lane, SendAttempt, Status, WebhookEvent
from django_kpwa.store import store
from django_kpwa.webhooks import ParsedEvent, Parser, process_due_events, process_event, reprocess
from django_kpwa.webhooks.arrivals import store_event

from .webhook_events import NUMBER, age, event_of, fresh, listening, make_due, other_license, processed, sent_message

pytestmark = pytest.mark.django_db


# --- customers, sessions, and events that nobody understands


ENVELOPES = [{"event": "message"}, {"event": "message.any"}, {"event": "message", "retry": 2, "timestamp": 1764200000}]


def test_a_message_that_comes_in_another_envelope_is_told_once(license_):
    with listening() as heard:
        events = [
            processed(license_, {**envelope, "data": {"id": "C1", "from": NUMBER, "message": "ok"}})
            for envelope in ENVELOPES
        ]
        assert not any(process_event(event.pk) for event in events)
        assert reprocess(events[2])
    for event in events:
        event.refresh_from_db()
    assert "already delivered" in events[2].understood["notes"], "the note stays after reprocessing"
    assert [name for name, _ in heard].count("message_received") == 1
    assert [name for name, _ in heard].count("webhook_received") == 3
    assert {event.status for event in events} == {"processed"}
    assert "already delivered" in events[1].understood["notes"]
    assert [event.sender_number for event in events] == [NUMBER, "", ""]


@pytest.mark.parametrize(
    "other",
    [
        {"id": "C2", "from": NUMBER, "message": "ok"},
        {"id": "C1", "from": "6281299999999", "message": "ok"},
        {"id": "C1", "from": NUMBER, "message": "ok lagi"},
        {"id": "0", "from": NUMBER, "message": "ok"},
    ],
)
def test_another_message_is_told_whatever_its_gateway_calls_it(license_, other):
    """A gateway that gives one id to everything must not silence its customers."""
    with listening() as heard:
        processed(license_, {"id": "C1" if other["id"] != "0" else "0", "from": NUMBER, "message": "ok"})
        processed(license_, other | {"event": "message"})
    assert [name for name, _ in heard].count("message_received") == 2


def test_the_same_id_of_another_license_is_another_message(license_):
    with listening() as heard:
        for each in (license_, other_license()):
            processed(each, {"id": "C1", "from": NUMBER, "message": "ok"})
    assert [name for name, _ in heard].count("message_received") == 2


@pytest.mark.django_db(transaction=True)
def test_a_message_in_many_envelopes_at_once_is_told_once(license_):
    events = [
        event_of(license_, {"n": number, "data": {"id": "C1", "from": NUMBER, "message": "ok"}}) for number in range(8)
    ]

    def work(event):
        try:
            for _ in range(20):
                try:
                    return process_event(event.pk)
                except OperationalError:  # MySQL aborts some of many that claim one id at once
                    make_due(event)
        finally:
            connections.close_all()

    with listening() as heard, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, events)) == [True] * 8
    assert [name for name, _ in heard].count("message_received") == 1


def test_a_customers_message_whose_worker_was_lost_is_told_by_the_next(license_):
    event = event_of(license_, {"id": "C1", "from": NUMBER, "message": "halo"})
    heard = []

    def dies_once(sender, incoming, **arguments):
        heard.append(incoming.text)
        if len(heard) == 1:
            raise CutOff

    signals.message_received.connect(dies_once)
    try:
        with pytest.raises(CutOff):
            process_event(event.pk)
        processed(license_, {"event": "again", "data": {"id": "C1", "from": NUMBER, "message": "halo"}})
        make_due(event)
        assert process_event(event.pk)
    finally:
        signals.message_received.disconnect(dies_once)
    assert heard == ["halo", "halo"]


def test_what_became_of_a_customers_own_message_is_not_looked_for(license_):
    event = processed(
        license_, {"event": "message.ack", "payload": {"id": "C1", "fromMe": False, "from": NUMBER, "ack": 3}}
    )
    assert (event.kind, event.status, event.next_try_at) == ("state", "processed", None)


def test_a_customers_answer_is_told_once(license_):
    with listening() as heard:
        event = processed(license_, {"id": "C1", "from": NUMBER, "message": "terima kasih 🙏"})
        assert not process_event(event.pk)
        assert reprocess(event)
    assert [name for name, _ in heard] == ["webhook_received", "message_received"]
    incoming = heard[1][1]["incoming"]
    assert (incoming.sender, incoming.text, heard[1][1]["event"]) == (NUMBER, "terima kasih 🙏", event)
    assert (event.status, event.kind, event.understood["text"]) == ("processed", "incoming", "terima kasih 🙏")


def test_the_licenses_own_number_decides_who_the_sender_is(license_):
    Lane.objects.create(license=license_, linked_number="6281100000001")
    event = processed(license_, {"sender": "6281100000001", "phone": NUMBER, "message": "halo"})
    assert (event.kind, event.understood["sender"]) == ("incoming", NUMBER)
    event = processed(license_, {"from": "6281100000001", "to": NUMBER, "message": "halo", "id": "W9"})
    assert event.kind == "own"


def test_an_event_about_the_session_is_recorded_and_changes_nothing(license_):
    Lane.objects.create(license=license_, session_status="connected")
    with listening() as heard:
        event = processed(license_, {"device": "6281100000001", "status": "disconnected"})
    assert (event.kind, event.status, event.understood["session_status"]) == ("session", "processed", "disconnected")
    assert Lane.objects.get().session_status == "connected"
    assert [name for name, _ in heard] == ["webhook_received"]


@pytest.mark.parametrize("body", [b"", b"\x00\xff", b"[" * 100_000, b'{"a": 1}', b"%PDF-1.4"])
def test_what_nobody_understands_is_kept(license_, body):
    event = WebhookEvent.objects.get(pk=store_event(license_.pk, body, "application/x-\x00odd\ud800"))
    assert process_event(event.pk)
    event.refresh_from_db()
    assert (event.status, event.kind, event.next_try_at, bytes(event.body)) == ("unrecognised", "", None, body)


def test_what_databases_refuse_is_stored_in_a_form_they_take(license_):
    event = processed(license_, {"id": "a\x00b", "from": NUMBER, "message": "x\ud800y\x00z"})
    assert (event.gateway_id, event.understood["text"]) == ("a\ufffdb", "x\ufffdy\ufffdz")


def test_each_part_of_a_payload_is_acted_on(license_):
    first, first_id = sent_message(license_, "satu")
    second, second_id = sent_message(license_, "dua")
    with listening() as heard:
        event = processed(
            license_, [{"id": first_id, "ack": 2}, {"id": second_id, "ack": 3}, {"from": NUMBER, "message": "ok"}]
        )
    assert (fresh(first).status, fresh(second).status) == (Status.DELIVERED, Status.READ)
    assert [name for name, _ in heard] == ["message_delivered", "message_read", "webhook_received", "message_received"]
    assert [part["kind"] for part in event.understood["more"]] == ["state", "incoming"]


# --- parsers of the site


class HalfKnowing(Parser):
    """Understands the word in `KNOWS` alone. Tests change what it understands by setting it."""

    KNOWS = b"halo"

    def parse(self, body, content_type, *, linked_number):
        if body == b"raise":
            raise ValueError(f"cannot read {NUMBER}")
        if body == b"nonsense":
            return [{"kind": "incoming"}]
        if body == b"none":
            return None
        if body == b"recurse":
            return self.parse(body, content_type, linked_number=linked_number)
        return [ParsedEvent(EventKind.INCOMING, sender=NUMBER, text="halo")] if body == self.KNOWS else []


@pytest.fixture
def half_knowing(settings):
    settings.KPWA = {**settings.KPWA, "WEBHOOK_PARSER": f"{__name__}.HalfKnowing"}


@pytest.mark.parametrize("body", [b"raise", b"nonsense", b"none", b"recurse"])
def test_a_parser_that_fails_leaves_the_event_with_its_error(license_, half_knowing, body, settings, caplog):
    event = WebhookEvent.objects.get(pk=store_event(license_.pk, body, ""))
    assert process_event(event.pk)
    event.refresh_from_db()
    assert (event.status, event.next_try_at, event.processed_at) == ("failed", None, None)
    assert "Error" in event.error
    assert NUMBER not in event.error + caplog.text
    settings.KPWA = {**settings.KPWA, "WEBHOOK_PARSER": "django_kpwa.webhooks.parsers.DefaultParser"}
    assert reprocess(event)
    event.refresh_from_db()
    assert (event.status, event.error) == ("unrecognised", "")


@pytest.mark.parametrize("path", ["nothing.there", "django_kpwa.webhooks.parsers.ParsedEvent"])
def test_a_parser_that_is_none_is_shown_on_the_event(license_, settings, path):
    settings.KPWA = {**settings.KPWA, "WEBHOOK_PARSER": path}
    event = processed(license_, {"from": NUMBER, "message": "x"})
    assert event.status == "failed"
    assert path in event.error


def test_an_event_that_was_not_understood_is_told_anew_once_it_is(license_, half_knowing, monkeypatch):
    event = WebhookEvent.objects.get(pk=store_event(license_.pk, b"hai", ""))
    process_event(event.pk)
    monkeypatch.setattr(HalfKnowing, "KNOWS", b"hai")
    with listening() as heard:
        assert reprocess(event)
        assert reprocess(event)
    assert [name for name, _ in heard] == ["webhook_received", "message_received"]
    event.refresh_from_db()
    assert (event.status, event.kind) == ("processed", "incoming")


def test_reprocessing_finds_a_message_that_is_there_by_now(license_):
    event = processed(license_, {"id": "late", "status": "Read"})
    age(event, 120)
    message, _ = sent_message(license_)
    SendAttempt.objects.update(gateway_id="late")
    with listening() as heard:
        assert reprocess(event)
    assert fresh(message).status == Status.READ
    assert [name for name, _ in heard] == ["message_read"]


# --- workers


@pytest.mark.django_db(transaction=True)
def test_an_event_is_processed_by_one_of_many_workers(license_):
    event = event_of(license_, {"id": "C1", "from": NUMBER, "message": "halo"})

    def work(_):
        try:
            return process_event(event.pk)
        finally:
            connections.close_all()

    with listening() as heard, ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(work, range(16))) == [False] * 15 + [True]
    assert [name for name, _ in heard] == ["webhook_received", "message_received"]


@pytest.mark.skipif(connection.vendor == "postgresql", reason="it has a statement of its own, which no claim deadlocks")
@pytest.mark.django_db(transaction=True)
def test_a_record_that_mysql_ends_as_deadlocked_is_written_again_and_told(license_):
    event = event_of(license_, {"id": "C1", "from": NUMBER, "message": "halo"})
    ended = []

    def end_once(execute, sql, *arguments):
        if sql.startswith("UPDATE") and "processed_at" in sql.partition("WHERE")[0] and not ended:
            ended.append(sql)
            raise OperationalError(1213, "Deadlock found when trying to get lock; try restarting transaction")
        return execute(sql, *arguments)

    with listening() as heard, connection.execute_wrapper(end_once):
        assert process_event(event.pk)
    assert ended
    event.refresh_from_db()
    assert event.processed_at is not None
    assert [name for name, _ in heard] == ["webhook_received", "message_received"]


class Slow(Parser):
    """Returns so late that another worker has taken over and finished."""

    def parse(self, body, content_type, *, linked_number):
        event = WebhookEvent.objects.get()
        if event.tries == 1:
            make_due(event)
            assert process_event(event.pk)
        return [ParsedEvent(EventKind.INCOMING, sender=NUMBER, text=f"read by worker {event.tries}")]


def test_a_worker_that_was_too_slow_records_and_tells_nothing(license_, settings):
    settings.KPWA = {**settings.KPWA, "WEBHOOK_PARSER": f"{__name__}.Slow"}
    event = event_of(license_, {})
    with listening() as heard:
        assert not process_event(event.pk)
    event.refresh_from_db()
    assert event.understood["text"] == "read by worker 2"
    assert [name for name, _ in heard] == ["webhook_received", "message_received"]


class CutOff(BaseException):
    """A worker that dies. Nothing catches this exception."""


def test_a_worker_lost_in_the_middle_is_made_good_by_the_beat(license_, monkeypatch):
    message, gateway_id = sent_message(license_)
    event = event_of(license_, {"id": gateway_id, "status": "Read"})
    with monkeypatch.context() as patched:
        patched.setattr(type(store()), "record_event", cut_off)
        with pytest.raises(CutOff):
            process_event(event.pk)
    assert fresh(message).status == Status.READ
    assert not process_event(event.pk), "the lost worker keeps the event for a minute"
    make_due(event)
    with listening() as heard:
        assert process_due_events() == 1
    event.refresh_from_db()
    assert (event.status, event.tries) == ("processed", 2)
    assert [name for name, _ in heard] == ["webhook_received"]


def cut_off(*arguments, **columns):
    raise CutOff


def test_a_worker_lost_while_the_site_listens_tells_it_again(license_):
    event = event_of(license_, {"id": "C1", "from": NUMBER, "message": "halo"})
    heard = []

    def dies_once(sender, incoming, **arguments):
        heard.append(incoming.text)
        if len(heard) == 1:
            raise CutOff

    signals.message_received.connect(dies_once)
    try:
        with pytest.raises(CutOff):
            process_event(event.pk)
        event.refresh_from_db()
        assert (event.status, event.processed_at) == ("processed", None)
        assert event.next_try_at > timezone.now() + timedelta(minutes=10), "a slow receiver never runs twice at once"
        assert not reprocess(event)
        make_due(event)
        assert process_due_events() == 1
        assert process_due_events() == 0
    finally:
        signals.message_received.disconnect(dies_once)
    assert heard == ["halo", "halo"]


def test_an_event_that_keeps_killing_its_workers_is_given_up(license_, monkeypatch):
    event = event_of(license_, {"id": "C1", "from": NUMBER, "message": "halo"})
    with monkeypatch.context() as patched:
        patched.setattr("django_kpwa.webhooks.processing._parse", cut_off)
        for _ in range(10):
            make_due(event)
            with pytest.raises(CutOff):
                process_event(event.pk)
        make_due(event)
        assert process_event(event.pk)
    event.refresh_from_db()
    assert (event.status, event.next_try_at) == ("failed", None)
    assert "10 times" in event.error
    assert reprocess(event)
    event.refresh_from_db()
    assert event.status == "processed"


@pytest.mark.parametrize(
    "payload", [{"id": "nobody's", "status": "Read"}, {"id": "C1", "from": NUMBER, "message": "halo"}]
)
def test_an_event_that_was_processed_before_ends_after_ten_tries_too(license_, monkeypatch, payload):
    event = processed(license_, payload)
    before = event.status
    with monkeypatch.context() as patched:
        patched.setattr("django_kpwa.webhooks.processing._parse", cut_off)
        for _ in range(9):
            make_due(event)
            with pytest.raises(CutOff):
                process_event(event.pk)
        make_due(event)
        assert process_event(event.pk)
    event.refresh_from_db()
    assert (event.status, event.next_try_at) == (before, None)
    assert "10 times" in event.error
    assert reprocess(event)
    event.refresh_from_db()
    assert event.error == ""


def test_an_event_without_its_message_is_looked_for_ten_times_within_the_hour(license_):
    event = processed(license_, {"id": "nobody's", "status": "Read"})
    seconds = 0.0
    while event.next_try_at is not None:
        wait = (event.next_try_at - timezone.now()).total_seconds()
        seconds += wait
        WebhookEvent.objects.filter(pk=event.pk).update(received_at=timezone.now() - timedelta(seconds=seconds))
        make_due(event)
        assert process_event(event.pk)
        event.refresh_from_db()
    assert (event.status, event.tries, event.error) == ("unmatched", 10, "")
    assert 3300 < seconds < 3700


def test_a_receiver_that_raises_changes_nothing_else(license_, caplog):
    def breaks(sender, **arguments):
        raise RuntimeError("the site's own mistake")

    signals.message_received.connect(breaks)
    try:
        with listening() as heard:
            event = processed(license_, {"id": "C1", "from": NUMBER, "message": "halo"})
    finally:
        signals.message_received.disconnect(breaks)
    assert event.status == "processed"
    assert "message_received" in [name for name, _ in heard]
    assert "the site's own mistake" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_receivers_run_outside_any_transaction(license_):
    seen = []

    def look(sender, **arguments):
        seen.append(connections["default"].in_atomic_block)

    signals.webhook_received.connect(look)
    try:
        processed(license_, {"id": "C1", "from": NUMBER, "message": "halo"})
    finally:
        signals.webhook_received.disconnect(look)
    assert seen == [False]


def test_one_event_that_fails_does_not_hold_up_the_others(license_, monkeypatch, caplog):
    first = event_of(license_, {"id": "C0", "from": NUMBER, "message": "halo"})
    for number in (1, 2):
        event_of(license_, {"id": f"C{number}", "from": NUMBER, "message": "halo"})
    record = type(store()).record_event

    def record_others(self, event, *arguments, **columns):
        if event.pk == first.pk:
            raise OperationalError("the connection dropped")
        return record(self, event, *arguments, **columns)

    monkeypatch.setattr(type(store()), "record_event", record_others)
    assert process_due_events() == 2
    assert [event.status for event in WebhookEvent.objects.order_by("pk")] == ["pending", "processed", "processed"]
    assert "it will be retried" in caplog.text


def test_process_due_events_stops_when_told(license_):
    for number in range(3):
        event_of(license_, {"id": f"C{number}", "from": NUMBER, "message": "halo"})
    answers = iter([False, True])
    assert process_due_events(should_stop=lambda: next(answers)) == 1
    assert WebhookEvent.objects.filter(status=EventStatus.PENDING).count() == 2


def test_logs_hold_no_whole_number(license_, caplog, half_knowing):
    caplog.set_level(logging.DEBUG)
    for body in (b"halo", b"raise", b"hai"):
        process_event(store_event(license_.pk, body, ""))
    assert NUMBER not in caplog.text
