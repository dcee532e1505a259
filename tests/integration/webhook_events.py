"""Stored webhook events, and the messages that they are about."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import timedelta

from django.utils import timezone

from django_kpwa import signals
from django_kpwa.dispatch import drive
from django_kpwa.exceptions import GatewayTimeoutError
from django_kpwa.models import License, OutboundMessage, Status, WebhookEvent
from django_kpwa.outbox import send_message
from django_kpwa.webhooks import process_event
from django_kpwa.webhooks.arrivals import store_event

NUMBER = "6281234567890"
ALL_SIGNALS = [
    "webhook_received", "message_received", "message_sent", "message_delivered", "message_read",
    "message_failed", "message_unknown", "message_undelivered", "license_status_changed",
]  # fmt: skip


@contextmanager
def listening():
    """Collect the signals that are sent, in order: the name and the arguments of each."""
    heard = []
    receivers = []
    for name in ALL_SIGNALS:

        def receiver(sender, signal, name=name, **arguments):
            heard.append((name, arguments))

        getattr(signals, name).connect(receiver, weak=False)
        receivers.append((getattr(signals, name), receiver))
    try:
        yield heard
    finally:
        for signal, receiver in receivers:
            signal.disconnect(receiver)


def event_of(license_, payload):
    event_id = store_event(license_.pk, json.dumps(payload).encode(), "application/json")
    return WebhookEvent.objects.get(pk=event_id)


def processed(license_, payload):
    event = event_of(license_, payload)
    assert process_event(event.pk)
    event.refresh_from_db()
    return event


def fresh(message):
    return OutboundMessage.objects.get(pk=message.pk)


def sent_message(license_, text="struk"):
    message = send_message(NUMBER, text, license=license_)
    drive(license_.pk)
    message = fresh(message)
    assert message.status == Status.SENT
    return message, message.attempts.get().gateway_id


def in_doubt_message(license_, hooks, text="struk", send=send_message, to=NUMBER):
    def time_out(_):
        raise GatewayTimeoutError("no answer in time")

    hooks.after_send = time_out
    message = send(to, text, license=license_)
    drive(license_.pk)
    hooks.after_send = None
    message = fresh(message)
    assert message.status == Status.UNKNOWN
    return message


def age(event, minutes):
    WebhookEvent.objects.filter(pk=event.pk).update(received_at=timezone.now() - timedelta(minutes=minutes))


def make_due(event):
    WebhookEvent.objects.filter(pk=event.pk).update(next_try_at=timezone.now() - timedelta(seconds=1))


def other_license():
    row = License(name="Toko Kedua")
    row.set_api_key("test-api-key-0002")
    row.save()
    return row
