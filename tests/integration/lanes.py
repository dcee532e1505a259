"""Helpers for tests that drive lanes: they read messages and lanes, and change them."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from django_kpwa.gateway import locmem
from django_kpwa.models import Lane, OutboundMessage
from django_kpwa.store import store
from django_kpwa.store.results import Claim
from tests.stores import take_lane

NUMBER = "081234567890"


def lane_of(license_):
    return Lane.objects.get(pk=license_.pk)


def set_lane(license_, **columns):
    Lane.objects.filter(pk=license_.pk).update(**columns)


def fresh(message):
    return OutboundMessage.objects.get(pk=message.pk)


def texts():
    return [sent.text for sent in locmem.outbox]


def make_due(message):
    OutboundMessage.objects.filter(pk=message.pk).update(due_at=timezone.now() - timedelta(minutes=1))


def take(license_, seconds=60.0):
    return take_lane(license_.pk, seconds)[0]


def claim_as_a_worker_that_dies(license_):
    lease = take(license_)
    claim = store().claim_next(lease, 60).next
    assert isinstance(claim, Claim)
    set_lane(license_, lease_expires_at=timezone.now() - timedelta(seconds=1))
    return lease, claim


def drive_once_connected(license_):
    """Mark the lane as connected, so that the next drive begins with a send."""
    Lane.objects.update_or_create(license=license_, defaults={"session_status": "connected"})
