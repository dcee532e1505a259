"""A lane: the operational state of one license. A word of the code, never of the screen.

Written by UPDATEs of named columns in `store` alone, never `.save()`d: a driver, the beat, a person and a webhook
write different columns of one row at the same time. A missing row is inserted by whoever finds it missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from ..gateway import SessionStatus
from .clock import DatabaseNow
from .database import OutboxManager
from .license import License


class PauseReason(models.TextChoices):
    NONE = "", _("not paused")
    LOGGED_OUT = "logged_out", _("WhatsApp is logged out")
    UNAUTHORIZED = "unauthorized", _("the API key was refused")
    FAILING = "failing", _("the gateway keeps failing")
    RATE_LIMITED = "rate_limited", _("the gateway asked to wait")
    KEY_UNREADABLE = "key_unreadable", _("the stored API key cannot be read")
    BY_PERSON = "by_person", _("paused by a person")
    NUMBER_CHANGED = "number_changed", _("another phone is linked")


HELD_BY_PEOPLE = (PauseReason.BY_PERSON, PauseReason.NUMBER_CHANGED)
"""Pauses that a person ends: no status check, and no other pause, takes their place."""

ENDED_BY_STATUS = (PauseReason.LOGGED_OUT, PauseReason.FAILING, PauseReason.KEY_UNREADABLE)
"""Pauses that are disproved by any status which the gateway tells, except that the license needs a scan."""


class LaneQuerySet(models.QuerySet["Lane"]):
    def free(self) -> LaneQuerySet:
        """Lanes that nobody drives: no lease, or one that has run out."""
        return self.filter(Q(lease_token=None) | Q(lease_expires_at__lte=DatabaseNow()))

    def abandoned(self) -> LaneQuerySet:
        """Lanes whose lease ran out without being given back: a worker was lost."""
        return self.filter(lease_token__isnull=False, lease_expires_at__lte=DatabaseNow())

    def startable(self) -> LaneQuerySet:
        """Lanes that are not paused, or whose pause may be over: its time has come, or there is a new key."""
        return self.filter(license__is_active=True).filter(
            Q(pause_reason=PauseReason.NONE)
            | Q(paused_until__lte=DatabaseNow())
            | Q(pause_reason=PauseReason.UNAUTHORIZED) & ~Q(paused_key_version=F("license__api_key_version"))
        )


class Lane(models.Model):
    license = models.OneToOneField(
        License, models.CASCADE, primary_key=True, related_name="lane", verbose_name=_("license")
    )
    session_status = models.CharField(
        _("WhatsApp"),
        max_length=16,
        choices=[
            (SessionStatus.UNKNOWN.value, _("unknown")),
            (SessionStatus.QR.value, _("needs a scan")),
            (SessionStatus.CONNECTED.value, _("connected")),
        ],
        default=SessionStatus.UNKNOWN.value,
    )
    session_seen_at = models.DateTimeField(_("last seen"), null=True)
    # As the newest accepted message said, in digits; the status does not tell it.
    linked_number = models.CharField(_("linked number"), max_length=32, blank=True)
    # The one that sends: the first that was linked, then whichever a person confirmed.
    confirmed_number = models.CharField(_("confirmed number"), max_length=32, blank=True)
    pause_reason = models.CharField(_("paused because"), max_length=16, choices=PauseReason.choices, blank=True)
    pause_words = models.TextField(_("in the gateway's words"), blank=True)
    paused_at = models.DateTimeField(_("paused since"), null=True)
    # Empty with a reason: until something lifts it (a new key, a person).
    paused_until = models.DateTimeField(_("looked at again"), null=True)
    paused_key_version = models.PositiveIntegerField(_("key version that was refused"), null=True)
    probes = models.PositiveSmallIntegerField(_("status checks since the pause began"), default=0)
    failures = models.PositiveSmallIntegerField(_("failures in a row"), default=0)
    # What went wrong last, while sending or asking for the status. A success leaves it: the time tells.
    last_error = models.TextField(_("last error"), blank=True)
    last_error_at = models.DateTimeField(_("last error at"), null=True)
    lease_token = models.UUIDField(_("lease"), null=True)
    lease_expires_at = models.DateTimeField(_("lease expires"), null=True)
    # Kept when the lease is given back: a wake-up that was published since has not been taken yet.
    lease_taken_at = models.DateTimeField(_("lease taken"), null=True)
    next_send_at = models.DateTimeField(_("next send"), null=True)

    objects = OutboxManager.from_queryset(LaneQuerySet)()

    if TYPE_CHECKING:
        license_id: int

    class Meta:
        verbose_name = _("sending state")
        verbose_name_plural = _("sending states")
        default_permissions = ()
        indexes = [models.Index(fields=["lease_expires_at"], name="kpwa_lane_lease_expires")]

    def __str__(self) -> str:
        return f"{self.license_id}: {self.pause_reason or self.session_status}"

    @property
    def has_changed_number(self) -> bool:
        """Whether another phone is linked than the one that was confirmed."""
        return bool(self.confirmed_number) and self.linked_number != self.confirmed_number

    @property
    def has_new_key(self) -> bool:
        """True if the lane is paused for an API key that has been replaced since: the new one is tried by itself."""
        refused = self.paused_key_version
        return self.pause_reason == PauseReason.UNAUTHORIZED and refused not in (None, self.license.api_key_version)
