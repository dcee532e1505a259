"""An alert: something of `health` that people are told of, when it begins, after an hour, and when it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.utils.translation import gettext_lazy as _

from .database import OutboxManager
from .license import License


class Telling(models.TextChoices):
    """What people are told of an alert."""

    OPENED = "opened"
    REMINDED = "reminded"
    CLOSED = "closed"


class Alert(models.Model):
    """One row from when a finding is first noticed until it has been gone for a minute; it is kept after that.

    A row without `opened_at` was noticed less than a minute ago; nobody was told of it.
    """

    # What it is about: one for each code and license. NULL once it is closed, so that the next time is another row: a
    # unique column may have many NULLs, but one empty text.
    key = models.CharField(max_length=64, null=True, unique=True)  # noqa: DJ001
    code = models.CharField(max_length=32)
    license = models.ForeignKey(License, models.CASCADE, null=True, related_name="alerts")
    since = models.DateTimeField()
    noticed_at = models.DateTimeField()
    opened_at = models.DateTimeField(null=True)
    reminded_at = models.DateTimeField(null=True)
    # Since when the finding is gone; NULL again if it comes back within a minute.
    gone_at = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True)
    # Counted when it was gone, up to `MAX_COUNTED`: messages that waited then, and that had expired meanwhile.
    waiting = models.PositiveIntegerField(null=True)
    expired = models.PositiveIntegerField(null=True)
    # What is still to be told, and when another process may tell it, because the one that wanted to has died or failed.
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
