"""The numbers that a license wrote to or was written to by, and those whose owner asked the shop to stop.

WhatsApp restricts numbers that write to many people who have not written to them: such a recipient is *cold*, and one
who wrote lately is *warm*. A stop applies to every license of the site. An answer of the gateway about a number never
creates one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..phone import mask
from .database import OutboxManager
from .license import License

FORGOTTEN = "forgotten:"
"""Prefix that replaces a forgotten number, followed by its keyed digest (`encryption.keyed_digests()`)."""


class StopReason(models.TextChoices):
    """What the owner of a number wrote. Also values of a message's `reason`, see `words.messages.CAUSES`."""

    STOPPED = "stopped", _("the customer wants no messages")
    WRONG_NUMBER = "wrong_number", _("the customer says that the number is wrong")


class Registration(models.TextChoices):
    """The gateway's answer to whether a number has WhatsApp."""

    NOT_ASKED = "", _("not asked")
    YES = "yes", _("has WhatsApp")
    NO_ONCE = "no_once", _("no WhatsApp, said once")
    NO = "no", _("no WhatsApp")
    NOT_SAID = "not_said", _("could not be found out")
    """Also set when a person sends in spite of a negative answer."""


class Recipient(models.Model):
    """A number and a license: when messages were sent and received, and whether the owner wants no messages."""

    # NULL: a stop outlives its license. No database constraint, as for a message's license.
    license = models.ForeignKey(
        License,
        models.SET_NULL,
        null=True,
        related_name="recipients",
        verbose_name=_("license"),
        db_index=False,
        db_constraint=False,
    )
    # Digits with the country code, or `FORGOTTEN` and a digest.
    number = models.CharField(_("number"), max_length=80)
    # Counts messages that the gateway accepted, or that may have been sent.
    first_sent_at = models.DateTimeField(_("first sent"), null=True)
    last_sent_at = models.DateTimeField(_("last sent"), null=True)
    last_inbound_at = models.DateTimeField(_("last wrote"), null=True)
    sent_since_inbound = models.PositiveIntegerField(_("sent since then"), default=0, db_default=0)
    # Checked only before the first message, see `dispatch.first_contact`.
    registered = models.CharField(
        _("has WhatsApp"), max_length=8, choices=Registration.choices, blank=True, default="", db_default=""
    )
    checked_at = models.DateTimeField(_("asked"), null=True)
    # WhatsApp's name for somebody whose number it does not disclose (`…@lid`), taken from a payload that contains both.
    lid = models.CharField(_("hidden id"), max_length=64, blank=True)
    stopped_at = models.DateTimeField(_("stopped"), null=True)
    stop_reason = models.CharField(_("reason"), max_length=16, choices=StopReason.choices, blank=True)
    # When a stop or its end was last decided: an event that came before that changes nothing.
    decided_at = models.DateTimeField(_("decided"), null=True)
    # The message that confirms the stop, and is sent in spite of it; and when the last one was queued.
    answer_id = models.BigIntegerField(_("answer"), null=True)
    answered_at = models.DateTimeField(_("answered"), null=True)

    objects = OutboxManager()

    if TYPE_CHECKING:
        license_id: int | None

    class Meta:
        verbose_name = _("recipient")
        verbose_name_plural = _("recipients")
        default_permissions = ("view",)
        permissions = [
            ("lift_recipient", _("Can end a stop, because the customer asks for messages again")),
            ("forget_recipient", _("Can empty all that is held about a number")),
        ]
        constraints = [models.UniqueConstraint(fields=["number", "license"], name="kpwa_recipient_once")]
        indexes = [
            models.Index(fields=["stopped_at"], name="kpwa_recipient_stopped"),
            models.Index(fields=["lid"], name="kpwa_recipient_lid"),
        ]

    def __str__(self) -> str:
        return str(_("a forgotten number")) if self.is_forgotten else mask(self.number)

    @property
    def is_forgotten(self) -> bool:
        """True if only a digest of the number is kept."""
        return self.number.startswith(FORGOTTEN)
