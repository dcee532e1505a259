"""Who was written to and who wrote, by license; and whose owner has asked the shop to stop.

WhatsApp restricts numbers that write to many people who have not written to them: such a recipient is *cold*, and one
who wrote lately is *warm*. A stop holds for every license of the site, and what a gateway says about a number never
makes one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..phone import mask
from .database import OutboxManager
from .license import License

FORGOTTEN = "forgotten:"
"""In place of a number that was forgotten, followed by its keyed digest (`encryption.keyed_digests()`)."""


class StopReason(models.TextChoices):
    """What the owner of a number wrote. These are reasons of messages as well, see `words.messages.CAUSES`."""

    STOPPED = "stopped", _("the customer wants no messages")
    WRONG_NUMBER = "wrong_number", _("the customer says that the number is wrong")


class Registration(models.TextChoices):
    """What the gateway said when it was asked whether a number has WhatsApp."""

    NOT_ASKED = "", _("not asked")
    YES = "yes", _("has WhatsApp")
    NO_ONCE = "no_once", _("no WhatsApp, said once")
    NO = "no", _("no WhatsApp")
    NOT_SAID = "not_said", _("could not be found out")
    """Also where a person sends in spite of a no."""


class Recipient(models.Model):
    """A number, by license: when it was written to and wrote, and whether its owner wants no messages."""

    # A stop outlives its license. No constraint, as for a message's license.
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
    # Of messages that the gateway accepted, or that may have been sent.
    first_sent_at = models.DateTimeField(_("first sent"), null=True)
    last_sent_at = models.DateTimeField(_("last sent"), null=True)
    last_inbound_at = models.DateTimeField(_("last wrote"), null=True)
    sent_since_inbound = models.PositiveIntegerField(_("sent since then"), default=0, db_default=0)
    # Asked before the first message alone, see `dispatch.first_contact`.
    registered = models.CharField(
        _("has WhatsApp"), max_length=8, choices=Registration.choices, blank=True, default="", db_default=""
    )
    checked_at = models.DateTimeField(_("asked"), null=True)
    # WhatsApp's name for somebody whose number it does not disclose (`…@lid`), learnt from a payload that has both.
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
