"""One try to send a message, numbered when the message is claimed and completed when its outcome is known."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..gateway.outcome import Cause, OutcomeKind
from .database import OutboxManager
from .message import OutboundMessage


class SendAttempt(models.Model):
    message = models.ForeignKey(
        OutboundMessage, models.CASCADE, related_name="attempts", verbose_name=_("message"), db_index=False
    )
    number = models.PositiveIntegerField(_("number"))
    started_at = models.DateTimeField(_("started"))
    finished_at = models.DateTimeField(_("finished"), null=True)
    outcome = models.CharField(_("outcome"), max_length=16, choices=OutcomeKind.choices, default=OutcomeKind.RUNNING)
    cause = models.CharField(_("cause"), max_length=32, choices=Cause.choices, blank=True)
    http_status = models.PositiveSmallIntegerField(_("HTTP status"), null=True)
    code = models.CharField(_("the gateway's code"), max_length=64, blank=True)
    words = models.TextField(_("the gateway's words"), blank=True)
    gateway_id = models.CharField(_("the gateway's id"), max_length=255, blank=True)
    read_as = models.CharField(_("recipient as the gateway read it"), max_length=64, blank=True)
    gateway_created_at = models.CharField(_("the gateway's time, as it wrote it"), max_length=64, blank=True)

    objects = OutboxManager()

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        default_permissions = ()
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["message", "number"], name="kpwa_attempt_once")]
        # Not `db_index`, which creates a second index on PostgreSQL, for LIKE.
        indexes = [models.Index(fields=["gateway_id"], name="kpwa_attempt_gateway_id")]

    def __str__(self) -> str:
        return f"{self.number}: {self.get_outcome_display()}"
