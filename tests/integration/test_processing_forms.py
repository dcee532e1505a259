"""Both forms of the statements that process an event have the same effect on the same random states."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from django_kpwa.models import EventKind, EventStatus, Lane, License, WebhookEvent, in_seconds
from django_kpwa.store.engine import PostgreSQLStore, Store

TIMES = ("next_try_at", "processed_at")
NOT_COMPARED = {"id", "uuid", "received_at", "last_received_at", "body", *TIMES}
NAMES = [field.attname for field in WebhookEvent._meta.concrete_fields if field.attname not in NOT_COMPARED]
CLAIMED = ("uuid", "license_id", "content_type", "received_at", "tries", "processed_at")

states = st.fixed_dictionaries(
    {
        "next_try_in": st.sampled_from([None, -600.0, -1.0, 600.0]),
        "tries": st.integers(0, 12),
        "is_processed": st.booleans(),
        "status": st.sampled_from(EventStatus),
    }
)
columns = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(EventStatus),
        "error": st.sampled_from(["", "it's a 'quoted' %s \\ word"]),
        "kind": st.sampled_from(EventKind),
        "gateway_id": st.sampled_from(["", "3EB0'%s"]),
        "sender_number": st.sampled_from(["", "6281234567890"]),
        "understood": st.sampled_from([{}, {"text": "halo %s 'x' \\ \u20ac", "more": [{"n": None}]}]),
        "message_id": st.none(),
    },
)


def stored_event(license_, state):
    event = WebhookEvent.objects.create(
        license=license_,
        body=b'\x00\xff{"id": "%s"}',
        content_type="application/json",
        digest="d",
        received_at=timezone.now(),
        last_received_at=timezone.now(),
        tries=state["tries"],
        status=state["status"],
    )
    rows = WebhookEvent.objects.filter(pk=event.pk)
    if state["next_try_in"] is not None:
        rows.update(next_try_at=in_seconds(state["next_try_in"]))
    if state["is_processed"]:
        rows.update(processed_at=in_seconds(-60))
    return rows.get()


def alike(one, other):
    """True if two times written a moment apart agree, or if both are None."""
    return one is other is None or (None not in (one, other) and abs(one - other) < timedelta(seconds=30))


class BothForms(TestCase):
    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(
        state=states,
        linked_number=st.sampled_from([None, "", "6281111111111"]),
        written=columns,
        next_try_in=st.none() | st.floats(0, 1000),
        is_processed=st.booleans(),
        is_held=st.booleans(),
    )
    def test_claim_and_record(self, state, linked_number, written, next_try_in, is_processed, is_held):
        if connection.vendor != "postgresql":
            pytest.skip("only PostgreSQL has a form of its own")
        license_ = License.objects.create(name="Toko")
        if linked_number is not None:
            Lane.objects.create(license=license_, linked_number=linked_number)
        found = []
        for store in (PostgreSQLStore("default"), Store("default")):
            savepoint = transaction.savepoint()
            event = stored_event(license_, state)
            claimed = store.claim_event(event.pk, 60.0)
            assert (claimed is not None) == (state["next_try_in"] is not None and state["next_try_in"] < 0)
            if claimed is not None:
                claimed_event, number = claimed
                assert number == (linked_number or "")
                assert bytes(claimed_event.body) == bytes(event.body)
                event.tries += 1
                for name in CLAIMED:
                    assert getattr(claimed_event, name) == getattr(event, name), name
            if not is_held:
                event.tries -= 1
            recorded = store.record_event(event, written, next_try_in=next_try_in, is_processed=is_processed)
            assert recorded is is_held
            kept = WebhookEvent.objects.get(pk=event.pk)
            found.append((kept, {name: getattr(kept, name) for name in NAMES}))
            transaction.savepoint_rollback(savepoint)
        (mine, values), (orms, others) = found
        assert values == others
        for name in TIMES:
            assert alike(getattr(mine, name), getattr(orms, name)), name
