"""Limits for one webhook with a valid token, whatever it contains: a worker's time, memory and queries."""

from __future__ import annotations

import gzip
import json
import time
import tracemalloc
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_kpwa.dispatch import drive
from django_kpwa.models import EventKind, OutboundMessage, SeenId, SendAttempt, Status, WebhookEvent
from django_kpwa.outbox import send_message
from django_kpwa.retention import purge
from django_kpwa.webhooks import ParsedEvent, Parser, process_event
from django_kpwa.webhooks.arrivals import store_event
from django_kpwa.webhooks.processing import DEADLINE_SECONDS, LEASE_SECONDS

pytestmark = pytest.mark.django_db

NUMBER = "6281234567890"
MAX_SECONDS = 3.0
MAX_BYTES = 120_000_000
MAX_QUERIES = 25
HEAVY = {
    "one long text around many parts": {"from": NUMBER, "message": "x" * 250_000, "data": [{}] * 500},
    "one long text around parts in lists": {"from": NUMBER, "text": "x" * 200_000, "entry": [{"changes": [{}] * 20}] * 400},
    "many parts of a long text each": [{"from": NUMBER, "message": "x" * 2000, "id": f"C{n}"} for n in range(400)],
    "text that is JSON around many parts": {"payload": json.dumps({"a": "x" * 200_000}), "messages": [{"from": NUMBER}] * 500},
    "JSON in text in each part": {"messages": [{"data": json.dumps({"data": "{" + "[" * 400})}] * 500},
    "names within names": {"data": {name: {"message": {"body": {"key": {}}}} for name in ("message", "msg", "body", "key", "id", "info", "event", "update", "text", "value")}},
    "many ids": {"event": "message.ack", "payload": {"ids": [f"I{n}" for n in range(20_000)], "receipt_type": "read"}},
    "many values": {"message": [1] * 300_000, "from": NUMBER},
    "many small objects": {"messages": [{"data": [{}] * 100}] * 400},
    "a text of commas": {"from": NUMBER, "message": "," * 900_000},
    "many names around many parts": {"from": NUMBER, **{f"n{n}": n for n in range(60_000)}, "data": [{"id": "A", "ack": 2}] * 500},
    "many names within many parts": {"message": {f"{n}message": {} for n in range(30_000)}, "data": [{"id": "A", "ack": 2}] * 500},
    **{
        f"a long {name} of {character!r} around many parts": {name: character * 900_000, "messages": [{"id": "A", "ack": 2}] * 500}
        for name in ("from", "sender", "status", "ack", "id", "event", "type", "timestamp", "url", "isFromMe", "group")
        for character in ("8", "@", " ")
    },
    "a contact in a contact": {"from": NUMBER, "contact": json.loads('{"contact":' * 300 + "1" + "}" * 300)},
}  # fmt: skip


def store(license_, payload, **header):
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return WebhookEvent.objects.get(pk=store_event(license_.pk, body, "application/json", **header))


def cost_of(event):
    """CPU seconds of this process alone, peak bytes and queries of processing `event`."""
    tracemalloc.start()
    began = time.process_time()
    with CaptureQueriesContext(connection) as queries:
        assert process_event(event.pk)
    seconds = time.process_time() - began
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    event.refresh_from_db()
    return seconds, peak, len(queries)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", HEAVY)
def test_no_payload_costs_more_than_its_bytes(license_, name):
    event = store(license_, HEAVY[name])
    seconds, peak, queries = cost_of(event)
    # Counting memory makes processing several times slower.
    assert seconds < MAX_SECONDS * 3
    assert peak < MAX_BYTES
    assert queries <= MAX_QUERIES
    assert len(json.dumps(event.understood)) < 1_500_000
    assert event.tries == 1


@pytest.mark.parametrize("name", ["one long text around many parts", "many ids", "many values", "a text of commas"])
def test_what_is_too_much_is_kept_as_not_understood_with_the_reason(license_, name):
    event = store(license_, HEAVY[name])
    process_event(event.pk)
    event.refresh_from_db()
    assert (event.status, event.understood, event.next_try_at) == ("unrecognised", {}, None)
    assert event.error.startswith(("It contains more than", "Its texts have more than"))
    assert NUMBER not in event.error


def test_a_bomb_is_kept_as_it_came(license_):
    bomb = gzip.compress(b"{" + b" " * 80_000_000)
    event = store(license_, bomb, content_encoding="gzip")
    seconds, peak, _ = cost_of(event)
    assert (seconds < MAX_SECONDS, peak < 30_000_000) == (True, True)
    assert (event.status, bytes(event.body)) == ("unrecognised", bomb)
    assert "bytes long when decompressed" in event.error


def accepted_messages(license_, count, text="struk"):
    for _ in range(count):
        send_message(NUMBER, text, license=license_)
    drive(license_.pk)
    messages = OutboundMessage.objects.filter(status=Status.SENT)
    assert messages.count() == count
    return list(messages.order_by("pk"))


@pytest.mark.timeout(120)
def test_many_echoes_beside_many_messages_of_their_text_cost_a_fixed_number_of_queries(license_):
    accepted_messages(license_, 30)
    counts = []
    for number in (1, 10, 400):
        echoes = [{"isFromMe": True, "phone": NUMBER, "message": "struk", "n": n} for n in range(number)]
        seconds, _, queries = cost_of(store(license_, echoes))
        counts.append(queries)
        assert seconds < MAX_SECONDS
    assert max(counts) == min(counts) <= MAX_QUERIES
    ided = [{"isFromMe": True, "phone": NUMBER, "message": "struk", "id": f"W{n}"} for n in range(400)]
    assert cost_of(store(license_, ided))[2] <= MAX_QUERIES


@pytest.mark.timeout(120)
def test_states_of_many_messages_move_all_of_them_by_a_fixed_number_of_queries(license_):
    messages = accepted_messages(license_, 40)
    ids = list(SendAttempt.objects.order_by("pk").values_list("gateway_id", flat=True))
    counts = []
    for ack, few in ((2, ids[:4]), (2, ids[4:]), (3, ids)):
        event = store(license_, [{"id": gateway_id, "ack": ack} for gateway_id in few])
        counts.append(cost_of(event)[2])
        assert event.status == "processed"
    assert max(counts) <= MAX_QUERIES
    assert set(OutboundMessage.objects.values_list("status", flat=True)) == {Status.READ}
    assert not OutboundMessage.objects.filter(delivered_at=None).exists()
    assert len(messages) == 40


def test_proof_for_many_messages_in_doubt_is_recorded_as_for_one(license_):
    accepted_messages(license_, 5)
    attempts = SendAttempt.objects.order_by("pk")
    attempts.update(outcome="in_doubt")
    ids = list(attempts.values_list("gateway_id", flat=True))
    doubtful = {"status": Status.UNKNOWN, "reason": "timeout", "in_doubt": True, "sent_at": None, "proven_at": None}
    OutboundMessage.objects.update(**doubtful)
    store_and_process = store(license_, [{"id": gateway_id, "ack": 1 + n % 3} for n, gateway_id in enumerate(ids)])
    assert process_event(store_and_process.pk)
    statuses = list(OutboundMessage.objects.order_by("pk").values_list("status", flat=True))
    assert statuses == ["sent", "delivered", "read", "sent", "delivered"]
    assert set(attempts.values_list("outcome", flat=True)) == {"accepted"}
    assert not OutboundMessage.objects.filter(in_doubt=True).exists()
    assert not OutboundMessage.objects.filter(sent_at=None).exists()


class Talkative(Parser):
    """A site's own parser. The body gives the number of its parts and the length of their text."""

    def parse(self, body, content_type, *, linked_number):
        count, length = json.loads(body)
        return [ParsedEvent(EventKind.INCOMING, sender=NUMBER, text="x" * length)] * count


@pytest.mark.parametrize(("wanted", "is_read"), [((3, 10), True), ((501, 1), False), ((20, 60_000), False)])
def test_a_sites_own_parser_is_held_to_the_same_bounds(license_, settings, wanted, is_read):
    settings.KPWA = {**settings.KPWA, "WEBHOOK_PARSER": f"{__name__}.Talkative"}
    event = store(license_, list(wanted))
    process_event(event.pk)
    event.refresh_from_db()
    assert (event.status, bool(event.error)) == (("processed", False) if is_read else ("unrecognised", True))


def test_a_parser_that_takes_too_long_is_given_up_before_its_event_counts_as_lost(license_):
    event = store(license_, {})
    assert DEADLINE_SECONDS < LEASE_SECONDS
    times = iter([0, DEADLINE_SECONDS + 1])
    assert process_event(event.pk, clock=lambda: next(times))
    event.refresh_from_db()
    assert (event.status, event.next_try_at) == ("failed", None)
    assert "40 seconds" in event.error


class KnowsEncodings(Parser):
    def parse(self, body, content_type, *, linked_number, content_encoding):
        if content_encoding == "x-ours":
            return [ParsedEvent(EventKind.INCOMING, sender=NUMBER, text=body[::-1].decode())]
        return []


def test_a_sites_own_parser_is_given_the_header(license_, settings):
    settings.KPWA = {**settings.KPWA, "WEBHOOK_PARSER": f"{__name__}.KnowsEncodings"}
    event = store(license_, b"olah", content_encoding="x-ours")
    process_event(event.pk)
    event.refresh_from_db()
    assert event.understood["text"] == "halo"


def test_what_was_seen_is_purged_with_the_events(license_, settings):
    event = store(license_, {"id": "C1", "from": NUMBER, "message": "halo"})
    process_event(event.pk)
    assert SeenId.objects.count() == 1
    purge()
    assert SeenId.objects.count() == 1
    SeenId.objects.update(
        seen_at=timezone.now() - timedelta(days=settings.KPWA.get("RETENTION_DAYS", {}).get("events", 400) + 1)
    )
    purge()
    assert not SeenId.objects.exists()
