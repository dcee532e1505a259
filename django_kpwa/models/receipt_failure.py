"""A receipt class raised an exception while an object was being saved: the save went on, and this records the failure.

There is one row for each receipt and object, however often it fails; the first save that succeeds deletes it.
"""

from __future__ import annotations

from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.utils.translation import gettext_lazy as _

from .database import OutboxManager
from .source import MAX_DATABASE_LENGTH, MAX_REFERENCE_LENGTH, ExactCharField, name_by_key


class FailureCause(models.TextChoices):
    """The reason why no receipt was queued for an object."""

    NUMBER = "number", _("the phone number is not one")
    LICENSE = "license", _("there is no license of that name")
    UNCLEAR = "unclear", _("an earlier receipt has its place")
    RAISED = "raised", _("the receipt class failed")


class ReceiptFailure(models.Model):
    """A receipt that was not queued for an object, and the reason."""

    receipt = models.CharField(_("receipt class"), max_length=200)
    source_content_type = models.ForeignKey(
        ContentType, models.CASCADE, related_name="+", verbose_name=_("source type")
    )
    source_id = ExactCharField(_("source id"), max_length=255)
    source_database = ExactCharField(
        _("source database"), max_length=MAX_DATABASE_LENGTH, blank=True, default="", db_default=""
    )
    # `db_default` as below. Empty: the row is from a release before this column.
    cause = models.CharField(
        _("cause"), max_length=16, choices=FailureCause.choices, blank=True, default="", db_default=""
    )
    # The latest error and its time.
    error = models.CharField(_("error"), max_length=1000)
    occurred_at = models.DateTimeField(_("occurred"))
    # As `OutboundMessage.source_reference`.
    source_reference = models.CharField(
        _("reference"), max_length=MAX_REFERENCE_LENGTH, blank=True, default="", db_default=""
    )
    # `db_default`, because an INSERT of the previous release does not name the column.
    times = models.PositiveIntegerField(_("times"), default=1, db_default=1)

    objects = OutboxManager()

    class Meta:
        verbose_name = _("receipt failure")
        verbose_name_plural = _("receipt failures")
        default_permissions = ("view",)
        indexes = [
            models.Index(fields=["occurred_at"], name="kpwa_failure_occurred"),
            models.Index(fields=["receipt", "occurred_at"], name="kpwa_failure_receipt"),
            models.Index(fields=["source_content_type", "source_id"], name="kpwa_failure_source"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["receipt", "source_content_type", "source_id", "source_database"], name="kpwa_failure_once"
            ),
        ]

    def __str__(self) -> str:
        type_ = ContentType.objects.get_for_id(self.source_content_type_id)
        return self.source_reference or name_by_key(type_.name, self.source_id)


class RegisteredReceipt(ReceiptFailure):
    """The page of the receipt classes that the site has registered; like the dashboard, it has no table of its own."""

    class Meta:
        proxy = True
        verbose_name = _("receipt")
        verbose_name_plural = _("receipts")
        default_permissions = ("view",)
