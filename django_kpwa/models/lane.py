"""A lane: the operational state of one license. The word is used in the code only, never on a page.

It is written only by UPDATEs of named columns in `store`, never by `.save()`: a driver, the beat, a person and a
webhook may write different columns of one row at the same time. A missing row is inserted by the process that finds it
missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from ..gateway import SessionStatus
from .database import DatabaseNow, OutboxManager
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
"""Pauses that only a person ends; no status check ends them and no other pause replaces them."""

ENDED_BY_STATUS = (PauseReason.LOGGED_OUT, PauseReason.FAILING, PauseReason.KEY_UNREADABLE)
"""Pauses that end when the gateway reports any status, except that the license needs a scan."""


class LaneQuerySet(models.QuerySet["Lane"]):
    def free(self) -> LaneQuerySet:
        """Lanes that nobody drives: without a lease, or with an expired one."""
        return self.filter(Q(lease_token=None) | Q(lease_expires_at__lte=DatabaseNow()))

    def abandoned(self) -> LaneQuerySet:
        """Lanes whose lease expired without being given back: their worker was lost."""
        return self.filter(lease_token__isnull=False, lease_expires_at__lte=DatabaseNow())

    def startable(self) -> LaneQuerySet:
        """Lanes of active licenses that are not paused, or whose pause may be over: it has expired, or the refused API
        key was replaced."""
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
    # The gateway's own word where the status is unknown, for example `yellowCard`; masked.
    session_word = models.CharField(
        _("in the gateway's words"), max_length=64, blank=True, default="", db_default="", editable=False
    )
    session_seen_at = models.DateTimeField(_("last seen"), null=True)
    # In digits, from the answer to the newest accepted message: the gateway's status does not contain the number.
    linked_number = models.CharField(_("linked number"), max_length=32, blank=True)
    # The number that is meant to send: the first one that was linked, until a person confirms another.
    confirmed_number = models.CharField(_("confirmed number"), max_length=32, blank=True)
    # WhatsApp restricts the number: messages to customers who have not written to it lately wait until this time, and
    # the first one sent after it is a trial. NULL: no restriction. The step counts, from 1, how often a restriction was
    # found in a row; when a trial ends the restriction, the step is kept until that message has certainly arrived.
    restricted_until = models.DateTimeField(_("restricted until"), null=True)
    restricted_at = models.DateTimeField(_("restricted since"), null=True)
    restriction_step = models.PositiveSmallIntegerField(_("restrictions in a row"), default=0, db_default=0)
    restriction_words = models.CharField(
        _("why it is restricted, in the gateway's words"), max_length=500, blank=True, default="", db_default=""
    )
    # Messages sent since the first failed one to a new customer: their ids, or 0 for a message to a known customer, see
    # `store.restriction`. Empty if nothing indicates a restriction.
    cold_trail = models.CharField(_("sent to new customers"), max_length=500, blank=True, default="", db_default="")
    pause_reason = models.CharField(_("paused because"), max_length=16, choices=PauseReason.choices, blank=True)
    pause_words = models.TextField(_("in the gateway's words"), blank=True)
    paused_at = models.DateTimeField(_("paused since"), null=True)
    # NULL in a paused lane: paused until something lifts the pause (a new key, a person).
    paused_until = models.DateTimeField(_("next check"), null=True)
    paused_key_version = models.PositiveIntegerField(_("key version that was refused"), null=True)
    probes = models.PositiveSmallIntegerField(_("status checks since the pause began"), default=0)
    failures = models.PositiveSmallIntegerField(_("failures in a row"), default=0)
    # The last failure of a send or a status check. A success does not clear it; its time shows whether it is current.
    last_error = models.TextField(_("last error"), blank=True)
    last_error_at = models.DateTimeField(_("last error at"), null=True)
    lease_token = models.UUIDField(_("lease"), null=True)
    lease_expires_at = models.DateTimeField(_("lease expires"), null=True)
    # Kept when the lease is given back: no worker has taken a wake-up that was published after this time.
    lease_taken_at = models.DateTimeField(_("lease taken"), null=True)
    # Messages to new customers on this day, in the license's time zone. Each is counted before it is sent.
    cold_day = models.DateField(_("day of the count"), null=True)
    cold_sent = models.PositiveIntegerField(_("messages to new customers"), default=0, db_default=0)
    # Checks whether a number has WhatsApp, on this day and in this hour. Each is counted before the gateway is called.
    check_day = models.DateField(_("day of the count of checks"), null=True)
    checked_today = models.PositiveIntegerField(_("numbers checked on that day"), default=0, db_default=0)
    check_hour = models.DateTimeField(_("hour of the count of checks"), null=True)
    checked_in_hour = models.PositiveIntegerField(_("numbers checked in that hour"), default=0, db_default=0)
    # Messages of this month to people who have not written since, and when they were counted (`statistics`).
    unanswered = models.PositiveIntegerField(_("messages of the month without an answer"), default=0, db_default=0)
    unanswered_at = models.DateTimeField(_("without an answer, counted"), null=True)
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
        shown = self.get_pause_reason_display() if self.pause_reason else self.get_session_status_display()
        return f"{self.license_id}: {shown}"

    @property
    def has_changed_number(self) -> bool:
        """True if the linked phone is not the confirmed one."""
        return bool(self.confirmed_number) and self.linked_number != self.confirmed_number

    @property
    def has_new_key(self) -> bool:
        """True if the lane is paused for a refused API key that was replaced since; the new one is tried next."""
        refused = self.paused_key_version
        return self.pause_reason == PauseReason.UNAUTHORIZED and refused not in (None, self.license.api_key_version)
