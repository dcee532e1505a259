"""One try to send a message, numbered when the message is claimed and completed when its outcome is known."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..gateway.outcome import Cause, OutcomeKind
from .message import OutboundMessage


class AttemptOutcome(models.TextChoices):
    RUNNING = "running", _("running")
    ACCEPTED = OutcomeKind.ACCEPTED.value, _("accepted")
    NOT_SENT = OutcomeKind.NOT_SENT.value, _("not sent")
    RATE_LIMITED = OutcomeKind.RATE_LIMITED.value, _("asked to wait")
    REFUSED = OutcomeKind.REFUSED.value, _("refused")
    LICENSE_REFUSED = OutcomeKind.LICENSE_REFUSED.value, _("API key refused")
    IN_DOUBT = OutcomeKind.IN_DOUBT.value, _("in doubt")


class AttemptCause(models.TextChoices):
    NONE = Cause.NONE.value, _("none")
    NOT_CONNECTED = Cause.NOT_CONNECTED.value, _("no connection to the gateway")
    RATE_LIMITED = Cause.RATE_LIMITED.value, _("the gateway asked to wait")
    REFUSED = Cause.REFUSED.value, _("the gateway refused the message")
    UNAUTHORIZED = Cause.UNAUTHORIZED.value, _("the gateway refused the API key")
    TURNED_AWAY = Cause.TURNED_AWAY.value, _("turned away before WhatsApp")
    SERVER_ERROR = Cause.SERVER_ERROR.value, _("the gateway failed")
    TIMEOUT = Cause.TIMEOUT.value, _("no answer in time")
    CONNECTION_LOST = Cause.CONNECTION_LOST.value, _("the connection broke")
    BAD_ANSWER = Cause.BAD_ANSWER.value, _("an answer nobody understands")
    WORKER_LOST = Cause.WORKER_LOST.value, _("the worker was lost in the middle")
    LOGGED_OUT = Cause.LOGGED_OUT.value, _("WhatsApp was logged out")


class SendAttempt(models.Model):
    message = models.ForeignKey(
        OutboundMessage, models.CASCADE, related_name="attempts", verbose_name=_("message"), db_index=False
    )
    number = models.PositiveIntegerField(_("number"))
    started_at = models.DateTimeField(_("started"))
    finished_at = models.DateTimeField(_("finished"), null=True)
    outcome = models.CharField(
        _("outcome"), max_length=16, choices=AttemptOutcome.choices, default=AttemptOutcome.RUNNING
    )
    cause = models.CharField(_("cause"), max_length=32, choices=AttemptCause.choices, blank=True)
    http_status = models.PositiveSmallIntegerField(_("HTTP status"), null=True)
    code = models.CharField(_("the gateway's code"), max_length=64, blank=True)
    words = models.TextField(_("the gateway's words"), blank=True)
    gateway_id = models.CharField(_("the gateway's id"), max_length=255, blank=True)
    read_as = models.CharField(_("recipient as the gateway read it"), max_length=64, blank=True)
    gateway_created_at = models.CharField(_("the gateway's time, as it wrote it"), max_length=64, blank=True)

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        default_permissions = ()
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["message", "number"], name="kpwa_attempt_once")]
        # Not `db_index`, which makes a second one on PostgreSQL, for LIKE.
        indexes = [models.Index(fields=["gateway_id"], name="kpwa_attempt_gateway_id")]

    def __str__(self) -> str:
        return f"{self.number}: {self.get_outcome_display()}"
