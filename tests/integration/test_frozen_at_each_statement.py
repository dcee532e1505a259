"""A worker is frozen before each of its statements in turn, and every call of the site still goes through."""

from __future__ import annotations

import json
import threading
import time
import uuid
from datetime import timedelta
from functools import partial

import pytest
from django.db import connection, connections, transaction
from django.utils import timezone

from django_kpwa import outbox, tasks
from django_kpwa.dispatch import drive, sweep
from django_kpwa.models import Lane, OutboundMessage, Status
from django_kpwa.outbox import Message, send_message, send_messages
from django_kpwa.webhooks.arrivals import store_event
from tests.shop.models import Sale

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(
        connection.vendor == "sqlite", reason="SQLite has one writer, and others wait for it, as the docs say"
    ),
]

NUMBER = "0812 3456 7890"
MAX_SECONDS = 4.0
"""Our own limit for a lock is one or two seconds. The databases' own limits would be 50 s, or none."""


class FrozenWorker:
    """Runs `work` in a thread that stops before its statement number `at`, counted from 0, until it is thawed."""

    def __init__(self, work, at):
        self._work, self._left = work, at
        self._frozen, self._thaw, self.is_frozen = threading.Event(), threading.Event(), False
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        assert self._frozen.wait(30), "the worker neither reached its statement nor ended"
        return self

    def __exit__(self, *_):
        self._thaw.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _run(self):
        try:
            with connection.execute_wrapper(self._stand_still):
                self._work()
        finally:
            self._frozen.set()
            connections.close_all()

    def _stand_still(self, execute, *statement):
        if self._left == 0:
            self.is_frozen = True
            self._frozen.set()
            self._thaw.wait(60)
        self._left -= 1
        return execute(*statement)


def in_doubt(license_):
    message = send_message(NUMBER, "in doubt", license=license_)
    OutboundMessage.objects.filter(pk=message.pk).update(status=Status.UNKNOWN, attempts_made=1, in_doubt=True)
    return message


def front_door(license_, at):
    """Return each call that a site makes, by its name. Its decisions concern other messages than the worker's."""
    later = [send_message(NUMBER, "later", license=license_, priority=50) for _ in range(3)]
    doubtful = [in_doubt(license_) for _ in range(3)]
    return {
        "send_message": lambda: send_message(NUMBER, "a"),
        "its license": lambda: send_message(NUMBER, "b", license=license_),
        "with a key": lambda: send_message(NUMBER, "c", idempotency_key=f"order-{at}"),
        "send_group_message": lambda: outbox.send_group_message("Kasir", "d"),
        "send_messages": lambda: send_messages(Message(NUMBER, key, idempotency_key=f"{key}-{at}") for key in "cab"),
        "a sale": lambda: Sale.objects.create(status=Sale.Status.PAID, customer_phone=NUMBER),
        "to another number": lambda: outbox.send_to_another_number(later[0], "0813 9999 0000"),
        "cancel": lambda: outbox.cancel(later[1]),
        "mark_sent": lambda: outbox.mark_sent(doubtful[0]),
        "resend": lambda: outbox.resend(doubtful[1]),
        "dismiss": lambda: outbox.dismiss(doubtful[2]),
    }


def drive_one(license_):
    send_message(NUMBER, "first", license=license_, priority=1)
    return lambda: drive(license_.pk)


def sweep_a_lost_worker(license_):
    lost = send_message(NUMBER, "lost", license=license_)
    long_ago = timezone.now() - timedelta(minutes=5)
    OutboundMessage.objects.filter(pk=lost.pk).update(status=Status.SENDING, attempts_made=1)
    lost.attempts.create(number=1, started_at=long_ago)
    Lane.objects.update(lease_token=uuid.uuid4(), lease_expires_at=long_ago)
    return sweep


def purge_old_ones(license_):
    old = send_message(NUMBER, "old", license=license_, idempotency_key=str(uuid.uuid4()))
    OutboundMessage.objects.filter(pk=old.pk).update(
        status=Status.SENT, settled_at=timezone.now() - timedelta(days=900)
    )
    return tasks.purge


def process_a_webhook(license_):
    message = in_doubt(license_)
    message.attempts.create(number=1, started_at=timezone.now(), outcome="in_doubt", gateway_id=f"GW-{message.pk}")
    body = json.dumps({"id": f"GW-{message.pk}", "status": "Delivered"}).encode()
    return partial(tasks.process_webhook, store_event(license_.pk, body, "application/json"))


WORK = {
    "drive": drive_one, "sweep": sweep_a_lost_worker, "purge": purge_old_ones, "webhook": process_a_webhook
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("work", WORK)
def test_no_call_of_a_site_waits_for_a_worker_that_is_frozen_at_any_statement(license_, work, form):
    Lane.objects.create(license=license_)
    at = 0
    while True:
        calls = front_door(license_, at)
        with FrozenWorker(WORK[work](license_), at) as worker:
            if not worker.is_frozen:
                break
            for name, call in calls.items():
                began_at = time.monotonic()
                with transaction.atomic():
                    call()
                assert time.monotonic() - began_at < MAX_SECONDS, f"{name} took too long beside a {work} frozen at {at}"
        # Clean up, so that the next turn starts without this turn's messages and lease.
        OutboundMessage.objects.update(status=Status.CANCELLED, in_doubt=False)
        Lane.objects.update(lease_token=None, lease_expires_at=None)
        at += 1
    assert at >= 3
