"""A shop in the middle of its day: licenses, messages and events in every state that the app's pages can show."""

from __future__ import annotations

import json
from datetime import timedelta

from django.contrib.contenttypes.models import ContentType
from django.db.models import Model
from django.utils import timezone

from django_kpwa import outbox
from django_kpwa.gateway import SessionStatus
from django_kpwa.gateway.outcome import Cause, OutcomeKind
from django_kpwa.models import (
    EventKind,
    EventStatus,
    Heartbeat,
    HoldReason,
    HourlyStatistic,
    Lane,
    License,
    OutboundMessage,
    PauseReason,
    ReceiptFailure,
    SendAttempt,
    Status,
    WebhookEvent,
    body_digest,
)
from django_kpwa.receipts import registry
from tests.shop.models import Sale

NUMBER = "081234567890"
TEXT = "*Kopi Senja*\n```Kopi susu    2   36.000\nTotal           36.000```\nTerima _kasih_! https://toko.example/s/7"


class Shop:
    """`objects` maps each model's name to one object of each state. The first object has every button."""

    def __init__(self, name: str = "Toko Utama") -> None:
        self.license = _license(name, SessionStatus.CONNECTED, linked_number="628110000001")
        # bulk_create sends no signal, so that no receipt is queued.
        [self.sale] = Sale.objects.bulk_create([Sale(status=Sale.Status.PAID, customer_phone=NUMBER)])
        self.message = self._message(Status.UNKNOWN, reason=Cause.TIMEOUT)
        self.event = self._event(EventStatus.UNRECOGNISED, kind="")
        self.failure = ReceiptFailure.objects.create(
            receipt=registry.registrations(Sale)[0].label,
            source_content_type=ContentType.objects.get_for_model(Sale),
            source_id=str(self.sale.pk),
            error="KeyError: 'total'",
            occurred_at=timezone.now(),
        )
        self.objects: dict[str, list[Model]] = {
            "dashboard": [self.license],
            "license": [self.license],
            "outboundmessage": [self.message],
            "webhookevent": [self.event],
            "receiptfailure": [self.failure],
        }

    def values(self, model: str, obj: Model | None = None) -> dict[str, object]:
        """Return the parameters for URLs of this model, for `obj` or else for the model's first object."""
        obj = obj or self.objects.get(model, [self.license])[0]
        return {
            "object_id": obj.pk,
            "message_uuid": self.message.uuid,
            "failure_id": self.failure.pk,
            "token": "no-such-token",
            "secret": "no-such-secret",
            "label": registry.registrations()[0].label,
        }

    def fill(self) -> Shop:
        """Add the other states, for tests that open every page. Tests of permissions do not need them."""
        self.objects["license"] += [
            _license("Baru", None),
            _license("Belum dipindai", SessionStatus.QR, reason=PauseReason.LOGGED_OUT),
            _license("Kunci ditolak", SessionStatus.UNKNOWN, reason=PauseReason.UNAUTHORIZED),
            _license("Ponsel lain", SessionStatus.CONNECTED, reason=PauseReason.NUMBER_CHANGED),
            _license("Berhenti", SessionStatus.CONNECTED, reason=PauseReason.BY_PERSON),
            _license("Tidak aktif", SessionStatus.CONNECTED, is_active=False),
        ]
        self.objects["outboundmessage"] += [self._message(status) for status in Status if status != Status.UNKNOWN]
        reported = {"undelivered_at": timezone.now(), "undelivered_words": "reach-out time-lock, 463"}
        self.objects["outboundmessage"].append(self._message(Status.SENT, **reported))
        later = timezone.now() + timedelta(hours=9)
        self.objects["outboundmessage"] += [
            self._message(Status.QUEUED, reason=reason, due_at=later) for reason in HoldReason
        ]
        self.objects["webhookevent"] += [
            self._event(EventStatus.PROCESSED, kind=EventKind.INCOMING, message=self.message),
            self._event(EventStatus.FAILED, kind=EventKind.STATE, error="KeyError: 'state'"),
        ]
        hour = timezone.now().replace(minute=0, second=0, microsecond=0)
        for ago in (0, 1, 2, 5, 9, 26, 200):
            figures = {"sent": 40 + ago, "failed": ago % 3, "unknown": ago % 2, "delivered": 38 + ago, "read": 15}
            HourlyStatistic.objects.create(license=self.license, hour=hour - timedelta(hours=ago), **figures)
        Heartbeat.objects.create(name="sweep", seen_at=timezone.now() - timedelta(minutes=20))
        return self

    def _message(self, status: Status, **columns: object) -> OutboundMessage:
        sale = Sale.objects.create(status=Sale.Status.OPEN, customer_phone=NUMBER)
        message = outbox.send_message(NUMBER, TEXT, license=self.license, source=sale)
        now = timezone.now()
        arrived = {"sent_at": now} if status in (Status.SENT, Status.DELIVERED, Status.READ) else {}
        OutboundMessage.objects.filter(pk=message.pk).update(status=status, attempts_made=1, **arrived, **columns)
        SendAttempt.objects.create(
            message=message,
            number=1,
            started_at=now,
            finished_at=now,
            outcome=OutcomeKind.ACCEPTED if arrived else OutcomeKind.IN_DOUBT,
            cause=Cause.NONE if arrived else Cause.TIMEOUT,
            http_status=200 if arrived else 504,
            words="" if arrived else "Gateway Timeout",
        )
        message.refresh_from_db()
        return message

    def _event(self, status: EventStatus, **columns: object) -> WebhookEvent:
        body = json.dumps({"from": "6281234567890", "message": f"terima kasih ({status})"}).encode()
        understood = {"kind": "incoming", "sender": "6281234567890", "text": "terima kasih"} if columns["kind"] else {}
        return WebhookEvent.objects.create(
            license=self.license,
            body=body,
            digest=body_digest(self.license.pk, body),
            received_at=timezone.now(),
            last_received_at=timezone.now(),
            status=status,
            understood=understood,
            **columns,
        )


def _license(
    name: str, session: SessionStatus | None, reason: str = "", linked_number: str = "", is_active: bool = True
) -> License:
    license_ = License(name=name, is_active=is_active)
    license_.set_api_key(f"test-api-key-of-{name.replace(' ', '-')}")
    license_.save()
    if session is not None:
        Lane.objects.create(
            license=license_,
            session_status=session,
            session_seen_at=timezone.now(),
            linked_number=linked_number or "628110000002",
            confirmed_number=linked_number or "628110000003",
            pause_reason=reason,
            pause_words="The account is logged out" if reason else "",
            paused_at=timezone.now() if reason else None,
        )
    return license_
