"""Signals: what receivers learn about messages and licenses, and when."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from django_kpwa import signals
from django_kpwa.dispatch import drive, sweep
from django_kpwa.gateway import locmem
from django_kpwa.models import OutboundMessage, Status
from django_kpwa.outbox import Message, send_message, send_messages

from .lanes import (
    NUMBER,
    set_lane,
    texts,
)

pytestmark = pytest.mark.django_db(transaction=True)


def test_receivers_hear_outside_transactions_and_a_raising_one_changes_nothing(license_, caplog):
    heard = []

    def hear(message, **_):
        heard.append((message.status, transaction.get_connection().in_atomic_block))
        assert not OutboundMessage.objects.filter(status=Status.SENDING).exists()
        raise RuntimeError("receiver")

    signals.message_sent.connect(hear)
    try:
        send_messages([Message(NUMBER, "a", license=license_), Message(NUMBER, "b", license=license_)])
        drive(license_.pk)
    finally:
        signals.message_sent.disconnect(hear)
    assert heard == [(Status.SENT, False)] * 2
    assert texts() == ["a", "b"]
    assert "receiver" in caplog.text


def test_a_change_of_the_link_that_a_send_brings_to_light_is_announced_once(license_):
    heard = []

    def hear(previous_session_status, session_status, **_):
        heard.append((previous_session_status.value, session_status.value))

    signals.license_status_changed.connect(hear)
    try:
        send_message(NUMBER, "a")
        drive(license_.pk)
        locmem.unlink()
        send_message(NUMBER, "b")
        drive(license_.pk)
        locmem.link()
        set_lane(license_, paused_until=timezone.now() - timedelta(seconds=1))
        drive(license_.pk)
    finally:
        signals.license_status_changed.disconnect(hear)
    assert heard == [("unknown", "connected"), ("connected", "qr"), ("qr", "connected")]
    assert texts() == ["a", "b"]


def test_an_expired_message_is_announced(license_):
    heard = []

    def hear(message, **_):
        heard.append(message.status)

    signals.message_expired.connect(hear)
    try:
        send_message(NUMBER, "a", expires_at=timezone.now() - timedelta(seconds=1))
        assert sweep().expired_messages == 1
    finally:
        signals.message_expired.disconnect(hear)
    assert heard == [Status.EXPIRED]
