"""The last regular search for missing receipts: one row for each receipt class that names its candidates."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .database import OutboxManager


class ReceiptLook(models.Model):
    receipt = models.CharField(_("receipt"), max_length=200, primary_key=True)
    # The process that sets this searches; the others skip the class for an hour.
    begun_at = models.DateTimeField(_("begun"))
    # The fields below describe the last completed search. `day`: the local day on which the whole previous day was
    # searched.
    day = models.DateField(_("day"), null=True)
    since = models.DateTimeField(_("since"), null=True)
    until = models.DateTimeField(_("until"), null=True)
    counts = models.JSONField(_("counts"), default=dict)
    never_queued = models.PositiveIntegerField(_("never queued"), default=0)
    unclear = models.PositiveIntegerField(_("unclear"), default=0)
    error = models.CharField(_("error"), max_length=1000, blank=True)
    is_complete = models.BooleanField(_("complete"), default=True)

    objects = OutboxManager()

    class Meta:
        verbose_name = _("look for missing receipts")
        verbose_name_plural = _("looks for missing receipts")
        default_permissions = ()

    def __str__(self) -> str:
        return self.receipt

    @property
    def has_gap(self) -> bool:
        """True if receipts are missing, or if the search could not tell."""
        return bool(self.never_queued or self.unclear or self.error)
