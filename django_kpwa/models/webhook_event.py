"""A webhook event: the raw bytes that the gateway posted, and what was parsed from them later."""

from __future__ import annotations

import hashlib
import uuid

from django.db import models
from django.utils.translation import gettext_lazy as _

from .database import DatabaseNow, OutboxManager
from .license import License
from .message import OutboundMessage


class EventStatus(models.TextChoices):
    """The result of processing an event."""

    PENDING = "pending", _("waiting")
    PROCESSED = "processed", _("processed")
    UNMATCHED = "unmatched", _("no matching message yet")
    UNRECOGNISED = "unrecognised", _("not understood")
    FAILED = "failed", _("could not be processed")


NOT_UNDERSTOOD = (EventStatus.UNRECOGNISED, EventStatus.FAILED, EventStatus.UNMATCHED)
"""Statuses of an event that changed nothing, the most informative first."""


class EventKind(models.TextChoices):
    """What an event is about."""

    UNKNOWN = "", _("not understood")
    INCOMING = "incoming", _("a message from a customer")
    OWN = "own", _("a copy of a message from the shop")
    STATE = "state", _("the status of a message")
    SESSION = "session", _("the status of WhatsApp")


def body_digest(license_id: int, body: bytes) -> str:
    """The SHA-256 digest by which a repeat of the same body for the same license is recognised."""
    return hashlib.sha256(b"%d:" % license_id + body).hexdigest()


class WebhookEventQuerySet(models.QuerySet["WebhookEvent"]):
    def to_process(self) -> WebhookEventQuerySet:
        """Events whose next try is due."""
        return self.filter(next_try_at__lte=DatabaseNow())


class WebhookEvent(models.Model):
    """A webhook body as the gateway posted it, and what was parsed from it."""

    uuid = models.UUIDField(_("public id"), default=uuid.uuid4, unique=True, editable=False)
    license = models.ForeignKey(
        License, models.CASCADE, related_name="webhook_events", verbose_name=_("license"), db_index=False
    )
    body = models.BinaryField(_("body, as received"))
    content_type = models.CharField(_("content type"), max_length=255, blank=True)
    # Needed to decompress the body, and by a site's own parser.
    content_encoding = models.CharField(_("content encoding"), max_length=64, blank=True, default="", db_default="")
    # Set to NULL when a body with neither an id nor a time arrives again much later, so that both are stored: the
    # second may be another customer's "ok".
    digest = models.CharField(_("digest of the body"), max_length=64, null=True, editable=False)  # noqa: DJ001 - unique
    received_at = models.DateTimeField(_("received"))
    last_received_at = models.DateTimeField(_("last received"))
    times_received = models.PositiveIntegerField(_("times received"), default=1)
    status = models.CharField(_("status"), max_length=16, choices=EventStatus.choices, default=EventStatus.PENDING)
    next_try_at = models.DateTimeField(_("next try"), null=True)
    tries = models.PositiveSmallIntegerField(_("tries"), default=0)
    processed_at = models.DateTimeField(_("processed"), null=True)
    kind = models.CharField(_("kind"), max_length=16, choices=EventKind.choices, blank=True)
    # What the parser read, as JSON; the keys are the fields of `webhooks.parsers.ParsedEvent`.
    understood = models.JSONField(_("understood"), default=dict, blank=True)
    # The sender of an incoming message, as an indexed column: a message's page shows the customer's answers.
    sender_number = models.CharField(_("the customer's number"), max_length=64, blank=True, editable=False)
    gateway_id = models.CharField(_("the gateway's id"), max_length=255, blank=True)
    message = models.ForeignKey(
        OutboundMessage,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="webhook_events",
        verbose_name=_("message"),
    )
    error = models.TextField(_("error"), blank=True)

    objects = OutboxManager.from_queryset(WebhookEventQuerySet)()

    class Meta:
        verbose_name = _("webhook event")
        verbose_name_plural = _("webhook events")
        default_permissions = ("view",)
        permissions = [("reprocess_webhookevent", _("Can reprocess webhook events"))]
        # Every event writes all of these. `unique` and `db_index` would create a second index on PostgreSQL, for LIKE.
        indexes = [
            models.Index(fields=["gateway_id"], name="kpwa_event_gateway_id"),
            models.Index(fields=["next_try_at"], name="kpwa_event_next_try"),
            models.Index(fields=["status", "received_at"], name="kpwa_event_status"),
            models.Index(fields=["received_at"], name="kpwa_event_received"),
            models.Index(fields=["sender_number", "received_at"], name="kpwa_event_sender"),
            # For the admin's list under a filter, newest first: without it, finding a rare kind in a long table would
            # be a scan.
            models.Index(fields=["kind", "received_at"], name="kpwa_event_kind"),
            models.Index(fields=["license", "received_at"], name="kpwa_event_license"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["digest"], name="kpwa_event_once"),
            models.CheckConstraint(condition=models.Q(status__in=EventStatus.values), name="kpwa_event_status_known"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} · {self.get_status_display()}"


class SeenId(models.Model):
    """A gateway's message id that was acted on, and by which event, so that a repeat is recognised in another body.

    Not part of `WebhookEvent`, because one event may report several messages. No foreign keys, because their checks
    would lock, and wait for, other rows.
    """

    # SHA-256 of the license, the use and the id (`store.events.seen_digest()`): ids may be long, and MySQL would ignore
    # their case.
    digest = models.CharField(max_length=64, unique=True)
    event_id = models.BigIntegerField()
    message_id = models.BigIntegerField(null=True)
    seen_at = models.DateTimeField()

    objects = OutboxManager()

    class Meta:
        default_permissions = ()
        indexes = [
            models.Index(fields=["seen_at"], name="kpwa_seen_at"),
            models.Index(fields=["message_id"], name="kpwa_seen_message"),
        ]

    def __str__(self) -> str:
        return self.digest
