"""A message of the outbox, the attempts to send it, and the part of it that is kept once it is purged.

`status` is changed only by the conditional UPDATEs in `store`, never by `.save()`.
"""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING

from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..gateway.outcome import Cause, OutcomeKind
from ..phone import mask
from .database import DatabaseNow, OutboxManager
from .license import License
from .source import MAX_DATABASE_LENGTH, MAX_REFERENCE_LENGTH, ExactCharField, about, database_of, source_id_of


class Status(models.TextChoices):
    """The state of a message."""

    QUEUED = "queued", _("waiting")
    """It waits to be sent."""
    SENDING = "sending", _("sending")
    """A worker is sending it."""
    SENT = "sent", _("sent")
    """The gateway accepted it."""
    DELIVERED = "delivered", _("delivered")
    """It is on the recipient's phone."""
    READ = "read", _("read")
    """The recipient has opened it."""
    FAILED = "failed", _("failed")
    """It was not sent: it was refused, its text could not be rendered, or no attempts were left."""
    UNKNOWN = "unknown", _("in doubt")
    """It may have been sent, and waits for a person's decision."""
    CANCELLED = "cancelled", _("cancelled")
    """It was withdrawn before it was sent."""
    EXPIRED = "expired", _("expired")
    """It was not sent before its `expires_at`."""


ARRIVED = (Status.SENT, Status.DELIVERED, Status.READ)
"""Statuses of a message that the gateway accepted, in the order in which webhooks advance it."""

UNSETTLED = (Status.QUEUED, Status.SENDING)
"""Statuses of a message that is still to be sent, or is being sent."""

RESENDABLE = (Status.FAILED, Status.UNKNOWN, Status.EXPIRED, Status.CANCELLED)
"""Statuses from which a message may be sent again; a `sent` one may be as well if it was reported as not delivered."""


RENDER_ERROR, WITHDRAWN, NOT_REGISTERED = "render_error", "withdrawn", "not_registered"
"""Values of `reason` besides the causes of attempts (`gateway.outcome.Cause`): the text could not be rendered; the
message was withdrawn; the gateway reported twice, before anything was sent, that the number has no WhatsApp."""


NUMBER_FORGOTTEN = "forgotten"
"""The `reason` of a message that waited when the data about its number were emptied (`personal_data.forget()`)."""
FORGOTTEN_TEXT = "(forgotten)"
"""Replaces the text of a message that was emptied, because a message must have a text, an image or a renderer."""


class HoldReason(models.TextChoices):
    """Values of `reason` of a queued message that was put off: it must not go out before `due_at`.

    The labels are short, because they are part of a mark: two lines of a list.
    """

    QUIET_HOURS = "quiet_hours", _("quiet hours")
    """It waits for the morning."""
    COLD_LIMIT = "cold_limit", _("limit for new customers")
    """The license has reached its daily limit of new customers."""
    RESTRICTED = "restricted", _("number restricted")
    """WhatsApp restricts the number. Also the cause of an attempt that WhatsApp turned down; the message then waits
    like the others."""
    CHECKING = "checking", _("may have no WhatsApp")
    """The gateway reports that the number has no WhatsApp; it is asked once more."""


NOT_HURRIED = (HoldReason.COLD_LIMIT, HoldReason.RESTRICTED, HoldReason.CHECKING)
"""Reasons that *Send now* does not overrule: the message would not arrive. They end when the customer writes."""


class RecipientType(models.TextChoices):
    NUMBER = "number", _("number")
    GROUP = "group", _("group")


class Priority(models.IntegerChoices):
    """The order of sending: lower values are sent first.

    After an outage, the value of each message that waited is raised by one, so that newer messages are sent before it.
    If you use values of your own, keep gaps: a raised value must not equal another one.
    """

    URGENT = 10, _("urgent")
    NORMAL = 50, _("normal")
    BULK = 90, _("bulk")


LIVE = (Priority.URGENT, Priority.NORMAL)
"""Priorities of messages that a customer is waiting for: neither bulk nor the backlog after an outage."""


def idempotency_digest(key: str) -> str:
    """The SHA-256 digest of an idempotency key, which is the unique column.

    The key itself cannot be unique: MariaDB's collations would treat `Order-A` and `order-a` as equal.
    """
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class OutboundMessageQuerySet(models.QuerySet["OutboundMessage"]):
    """The additional queries of `OutboundMessage.objects`."""

    def due(self) -> OutboundMessageQuerySet:
        """Queued messages whose `due_at` has come. Their license may still be paused, or have to wait for its pace."""
        return self.filter(status=Status.QUEUED, due_at__lte=DatabaseNow())

    def overdue(self) -> OutboundMessageQuerySet:
        """Queued messages whose `expires_at` has passed."""
        return self.filter(status=Status.QUEUED, expires_at__lte=DatabaseNow())

    def undecided(self) -> OutboundMessageQuerySet:
        """Messages in doubt that wait for a person's decision."""
        return self.filter(status=Status.UNKNOWN, dismissed_at=None)

    def undelivered(self) -> OutboundMessageQuerySet:
        """Accepted messages that the gateway reported as not delivered, without a later `delivered` or `read`."""
        return self.filter(undelivered_at__isnull=False, status=Status.SENT)

    def resendable(self) -> OutboundMessageQuerySet:
        """Messages that did not arrive or may not have, and so may be sent again."""
        open_again = Q(status__in=RESENDABLE) | Q(status=Status.SENT, undelivered_at__isnull=False)
        return self.filter(open_again).exclude(recipient="")

    def put_off(self) -> OutboundMessageQuerySet:
        """Queued messages that policy has put off until their `due_at`."""
        return self.filter(status=Status.QUEUED, reason__in=HoldReason.values, due_at__gt=DatabaseNow())

    def for_source(self, source: models.Model) -> OutboundMessageQuerySet:
        """Messages about `source`, a saved instance, including those stored under another proxy of its model."""
        return self.filter(about(type(source), database_of(source), [source_id_of(source)]))


class OutboundMessage(models.Model):
    """A message of the outbox, to one number or group, and what became of it."""

    uuid = models.UUIDField(_("public id"), default=uuid.uuid4, unique=True, editable=False)
    # NULL: no license could be chosen (`store.choosing`). Such a message waits, because claims are by license.
    # Without a foreign key constraint in the database, whose check would lock the license's row in every checkout.
    # Django itself applies PROTECT, and the code that stores a message checks that its license exists.
    license = models.ForeignKey(
        License,
        models.PROTECT,
        null=True,
        related_name="messages",
        verbose_name=_("license"),
        db_index=False,
        db_constraint=False,
    )
    recipient_type = models.CharField(
        _("recipient type"), max_length=8, choices=RecipientType.choices, default=RecipientType.NUMBER
    )
    recipient_typed = models.CharField(_("recipient as typed"), max_length=255)
    recipient = models.CharField(
        _("recipient"), max_length=255, help_text=_("Digits with the country code, or a group.")
    )
    text = models.TextField(_("text"), blank=True)
    image_url = models.CharField(_("image URL"), max_length=2000, blank=True)
    # `receipts/LABEL` names the receipt that renders the text before the first claim; empty: the text was given.
    renderer = models.CharField(_("rendered by"), max_length=200, blank=True)
    rendered_at = models.DateTimeField(_("rendered"), null=True)
    # Set if the recipient or the license, determined again when the text is written, has changed since queueing.
    changed_at = models.DateTimeField(_("changed"), null=True)
    changed_words = models.CharField(_("what was changed"), max_length=500, blank=True, default="", db_default="")
    # Counted before each rendering begins, so that one that never ends, or kills its process, is not repeated for ever.
    # `db_default`, because an INSERT of the previous release does not name the column.
    renderings_begun = models.PositiveSmallIntegerField(
        _("times writing its text was started"), default=0, db_default=0
    )
    idempotency_key = models.CharField(_("idempotency key"), max_length=255, blank=True)
    idempotency_digest = models.CharField(_("SHA-256 of the idempotency key"), max_length=64, null=True, editable=False)  # noqa: DJ001 - unique
    priority = models.PositiveSmallIntegerField(_("priority"), default=Priority.NORMAL)
    created_at = models.DateTimeField(_("queued"))
    due_at = models.DateTimeField(_("due"))
    # When it was first to be sent: `due_at` moves with each retry. NULL: at once, so at `created_at`.
    first_due_at = models.DateTimeField(_("first due"), null=True)
    expires_at = models.DateTimeField(_("expires"), null=True)
    source_content_type = models.ForeignKey(
        ContentType, models.SET_NULL, null=True, related_name="+", verbose_name=_("source type"), db_index=False
    )
    source_id = ExactCharField(_("source id"), max_length=255, blank=True)
    # The database's alias; empty for the default database. `db_default` as above.
    source_database = ExactCharField(
        _("source database"), max_length=MAX_DATABASE_LENGTH, blank=True, default="", db_default=""
    )
    # Distinguishes the source from another row that had the same primary key, see `receipts.identity`.
    source_fingerprint = models.CharField(
        _("source fingerprint"), max_length=64, blank=True, default="", db_default="", editable=False
    )
    # The name that people use for the source, such as an invoice number (`Receipt.get_reference()`). `db_default` as
    # above.
    source_reference = models.CharField(
        _("reference"), max_length=MAX_REFERENCE_LENGTH, blank=True, default="", db_default=""
    )
    status = models.CharField(_("status"), max_length=16, choices=Status.choices, default=Status.QUEUED)
    reason = models.CharField(_("reason"), max_length=32, blank=True)
    reason_words = models.TextField(_("reason in words"), blank=True)
    attempts_made = models.PositiveIntegerField(_("attempts"), default=0)
    attempts_spent = models.PositiveIntegerField(_("attempts that count"), default=0)
    in_doubt = models.BooleanField(_("has an attempt in doubt"), default=False)
    # When proof of an accepted attempt arrived; it takes effect when an attempt that is running then is recorded.
    proven_at = models.DateTimeField(_("proven"), null=True)
    # The last day, in the license's time zone, on which it was counted as a message to a new customer
    # (`Lane.cold_sent`).
    cold_on = models.DateField(_("counted as one to a new customer"), null=True)
    settled_at = models.DateTimeField(_("settled"), null=True)
    sent_at = models.DateTimeField(_("sent"), null=True)
    delivered_at = models.DateTimeField(_("delivered"), null=True)
    read_at = models.DateTimeField(_("read"), null=True)
    # When the gateway reported an accepted message as not delivered, and the gateway's words. Not a status,
    # because a "delivered" may follow, which empties both. `db_default` as above.
    undelivered_at = models.DateTimeField(_("reported as not delivered"), null=True)
    undelivered_words = models.CharField(
        _("why it was not delivered, in the gateway's words"), max_length=500, blank=True, default="", db_default=""
    )
    dismissed_at = models.DateTimeField(_("dismissed"), null=True)
    # The primary key of the copy for another number that arrived, else of the newest one. No foreign key: one to this
    # table would be looked up without an index whenever messages are purged.
    copied_to_id = models.BigIntegerField(_("copy for another number"), null=True)

    lacks_tick = False
    """True if it is `sent` and long undelivered, although others were delivered; set by `ticks.mark_lacking()`."""

    is_stopped = False
    """True if the owner of its number wants no messages; set by `outbox.mark_stopped()` where it is needed."""

    is_written_late = False
    """True while its text is written long after it was queued; set by `dispatch.render`."""

    was_purged = False
    """True if the row was purged, and this object was made from its `KeptKey`."""

    objects = OutboxManager.from_queryset(OutboundMessageQuerySet)()

    if TYPE_CHECKING:
        license_id: int | None
        source_content_type_id: int | None
        attempts: models.Manager[SendAttempt]

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        default_permissions = ("add", "view")
        permissions = [("decide_outboundmessage", _("Can decide about messages (send again, it arrived, cancel)"))]
        # But for the last, no partial indexes: MariaDB drops their condition. On PostgreSQL, storing, claiming and
        # recording a message each write all of these indexes, so each one has to be worth its cost. (`unique` on the
        # digest would create a second index there, for LIKE. The license needs no index of its own: two of these
        # contain it.)
        indexes = [
            # For claims, and for all queries over waiting messages (`store.backlog`).
            models.Index(fields=["status", "license", "priority", "due_at", "id"], name="kpwa_message_claim"),
            models.Index(fields=["status", "expires_at"], name="kpwa_message_expiry"),
            models.Index(fields=["settled_at"], name="kpwa_message_settled"),
            models.Index(fields=["created_at"], name="kpwa_message_created"),
            models.Index(fields=["source_content_type", "source_id"], name="kpwa_message_source"),
            models.Index(fields=["recipient", "created_at"], name="kpwa_message_recipient"),
            # The next three are for the admin's list under a filter, newest first: without them, finding a rare status
            # in a long table would be a scan.
            models.Index(fields=["status", "created_at"], name="kpwa_message_status"),
            models.Index(fields=["license", "created_at"], name="kpwa_message_license"),
            models.Index(fields=["recipient_type", "created_at"], name="kpwa_message_kind"),
            # Few messages have one, and storing the others must not write an index entry. MariaDB has no partial
            # indexes: Django creates it there without the condition, and warns of that (`models.W037`).
            models.Index(
                fields=["undelivered_at"],
                name="kpwa_message_undelivered",
                condition=Q(undelivered_at__isnull=False),
            ),
        ]
        constraints = [
            models.UniqueConstraint(fields=["idempotency_digest"], name="kpwa_message_once"),
            models.CheckConstraint(condition=Q(status__in=Status.values), name="kpwa_message_status_known"),
            models.CheckConstraint(
                condition=~Q(text="") | ~Q(image_url="") | ~Q(renderer=""), name="kpwa_message_says_something"
            ),
            models.CheckConstraint(
                condition=Q(in_doubt=False) | ~Q(status__in=["failed", "expired", "cancelled"]),
                name="kpwa_message_doubt_stays_visible",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_status_display()} · {self.masked_recipient}"

    @property
    def masked_recipient(self) -> str:
        """The recipient as logs may show it: a number with its middle hidden, or a group's name."""
        if self.is_forgotten:
            return gettext("a forgotten number")
        return mask(self.recipient) if self.recipient_type == RecipientType.NUMBER else self.recipient

    @property
    def is_forgotten(self) -> bool:
        """True if its number and its text were emptied (`personal_data.forget()`)."""
        return not self.recipient and self.status not in UNSETTLED and not self.was_purged

    @property
    def needs_somebody(self) -> bool:
        """True if it failed or was reported as not delivered, or is in doubt and was not dismissed."""
        if self.is_forgotten:
            return False
        is_in_doubt = self.status == Status.UNKNOWN and self.dismissed_at is None
        return self.status == Status.FAILED or self.is_undelivered or is_in_doubt

    @property
    def is_undelivered(self) -> bool:
        """True if the gateway accepted it and reported later that it was not delivered."""
        return self.status == Status.SENT and self.undelivered_at is not None

    @property
    def has_arrived(self) -> bool:
        """True if the gateway accepted it and has not reported since that it was not delivered."""
        return self.status in ARRIVED and not self.is_undelivered

    @property
    def may_have_arrived(self) -> bool:
        """True if sending it again may bring the customer a second copy."""
        return self.status == Status.UNKNOWN or self.is_undelivered

    @property
    def can_be_resent(self) -> bool:
        """True if it did not arrive, or may not have, and its recipient is still known."""
        return not self.is_forgotten and (self.status in RESENDABLE or self.is_undelivered)

    @property
    def can_be_sent_now(self) -> bool:
        """True if it was put off for a reason that a person may overrule.

        A limit is changed on the license instead, and a message that WhatsApp would reject is not tried.
        """
        return self.is_put_off and self.reason not in NOT_HURRIED

    @property
    def is_put_off(self) -> bool:
        """True if policy has put it off until `due_at`, for the `HoldReason` in `reason`."""
        return self.status == Status.QUEUED and self.reason in HoldReason.values and self.due_at > timezone.now()

    @property
    def needs_rendering(self) -> bool:
        """True if its text was not written yet."""
        return bool(self.renderer) and self.rendered_at is None


class SendAttempt(models.Model):
    """One attempt to send a message, numbered when the message is claimed and completed when its outcome is known."""

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
    gateway_created_at = models.CharField(_("the gateway's time, as received"), max_length=64, blank=True)

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


NOT_KEPT = "copy:"
"""Prefix of the keys that only guard against a double click, and are not kept."""


class KeptKey(models.Model):
    """The part of a purged message that is kept, without number and text.

    Rows are never deleted: otherwise saving an old sale again would send its receipt a second time.
    """

    digest = models.CharField(max_length=64)
    message_id = models.BigIntegerField()
    created_at = models.DateTimeField()
    status = models.CharField(max_length=16)
    source_fingerprint = models.CharField(max_length=64, blank=True)

    objects = OutboxManager()

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["digest"], name="kpwa_kept_once")]

    def __str__(self) -> str:
        return self.digest

    def as_message(self) -> OutboundMessage:
        """Return an unsaved message (`was_purged`) with the fields that were kept."""
        message = OutboundMessage(
            pk=self.message_id,
            idempotency_digest=self.digest,
            created_at=self.created_at,
            status=self.status,
            source_fingerprint=self.source_fingerprint,
        )
        message.was_purged = True
        message._state.adding, message._state.db = False, self._state.db
        return message
