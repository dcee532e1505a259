"""An alert: a finding of `health` that people are notified of when it begins, after an hour, and when it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.utils.translation import gettext_lazy as _

from .database import OutboxManager
from .license import License


class Telling(models.TextChoices):
    """The notifications that an alert sends."""

    OPENED = "opened"
    REMINDED = "reminded"
    CLOSED = "closed"


class Alert(models.Model):
    """One row from when a finding is first noticed until it has been gone for a minute; it is kept after that.

    A row without `opened_at` was noticed less than a minute ago, and nobody has been notified.
    """

    # Identifies the finding: one open alert for each code and license. NULL once it is closed, so that the next
    # occurrence gets a row of its own: a unique column may hold many NULLs, but only one empty text.
    key = models.CharField(max_length=64, null=True, unique=True)  # noqa: DJ001
    code = models.CharField(max_length=32)
    license = models.ForeignKey(License, models.CASCADE, null=True, related_name="alerts")
    since = models.DateTimeField()
    noticed_at = models.DateTimeField()
    opened_at = models.DateTimeField(null=True)
    reminded_at = models.DateTimeField(null=True)
    # Time at which the finding disappeared; NULL again if it comes back within a minute.
    gone_at = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True)
    # Counted when the finding disappeared, up to `MAX_COUNTED`: messages waiting then, and those expired meanwhile.
    waiting = models.PositiveIntegerField(null=True)
    expired = models.PositiveIntegerField(null=True)
    # The notification still to be sent, and when another process may send it because the first one died or failed.
    untold = models.CharField(max_length=16, blank=True, default="")
    told_again_at = models.DateTimeField(null=True)
    failures = models.PositiveSmallIntegerField(default=0)

    objects = OutboxManager()

    if TYPE_CHECKING:
        license_id: int | None

    class Meta:
        verbose_name = _("alert")
        verbose_name_plural = _("alerts")
        default_permissions = ()
        indexes = [models.Index(fields=["closed_at"], name="kpwa_alert_closed")]

    def __str__(self) -> str:
        return f"{self.code} of {self.license.name}" if self.license else self.code
