"""A license: one linked WhatsApp account at the gateway, as a person configures it.

Workers never write this table; what they learn is stored in `Lane`. The API key is stored encrypted and never shown.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping
from datetime import date, tzinfo
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.validators import MinValueValidator, URLValidator
from django.db import models, router, transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ..conf import Settings, kpwa_settings
from ..encryption import Secret, clean_api_key, decrypt, encrypt
from ..exceptions import KeyForAnotherUrlError
from ..gateway import Gateway, addresses, load_gateway_class
from ..gateway.locmem import LocmemGateway
from ..logs import get_logger
from ..rehearsal import is_rehearsal
from .database import OutboxManager

if TYPE_CHECKING:
    from typing_extensions import Self

    from .lane import Lane


logger = get_logger("django_kpwa.licenses")

_ARCHIVED = ["is_active", "is_default", "archived_at", "updated_at"]


_NOT_ALLOWED = _(
    "This site does not allow this address. A developer can allow its host in KPWA['ALLOWED_GATEWAY_HOSTS']; "
    "the address must begin with https."
)


class LicenseQuerySet(models.QuerySet["License"]):
    def active(self) -> LicenseQuerySet:
        return self.filter(is_active=True)

    def kept(self) -> LicenseQuerySet:
        """Licenses that are not archived."""
        return self.filter(archived_at=None)


class License(models.Model):
    """One linked WhatsApp account at the gateway, with its API key."""

    uuid = models.UUIDField(_("public id"), default=uuid.uuid4, unique=True, editable=False)
    name = models.CharField(
        _("name"), max_length=100, unique=True, help_text=_("For people: the outlet or the number.")
    )
    api_key_ciphertext = models.TextField(_("API key, encrypted"), blank=True, editable=False)
    api_key_version = models.PositiveIntegerField(_("API key version"), default=0, editable=False)
    api_key_hint = models.CharField(_("API key ends in"), max_length=4, blank=True, editable=False)
    base_url = models.CharField(
        _("base URL"),
        max_length=500,
        blank=True,
        validators=[URLValidator(schemes=["http", "https"])],
        help_text=_("Leave empty for the gateway's two documented addresses. A sandbox has its own."),
    )
    pace_min_seconds = models.FloatField(
        _("shortest gap between messages (seconds)"), null=True, blank=True, validators=[MinValueValidator(0)]
    )
    pace_max_seconds = models.FloatField(
        _("longest gap between messages (seconds)"), null=True, blank=True, validators=[MinValueValidator(0)]
    )
    is_active = models.BooleanField(
        _("active"),
        default=True,
        help_text=_("Inactive: messages are accepted and held; nothing is sent."),
    )
    # None: not entered, and there is no limit on messages to new customers. Linking again does not change it.
    in_use_since = models.DateField(
        _("number in use with WhatsApp since"),
        null=True,
        blank=True,
        help_text=_("A number that is new to WhatsApp writes to few new customers a day at first."),
    )
    cold_limit = models.PositiveIntegerField(
        _("messages to new customers a day"),
        null=True,
        blank=True,
        help_text=_("Empty: as many as fit the age of the number. 0: no limit."),
    )
    # True for at most one license, which `save()` ensures. The default is also the database's (`db_default`), because
    # workers of the previous release, which run during an upgrade, do not name this column in an INSERT.
    is_default = models.BooleanField(
        _("default"),
        default=False,
        db_default=False,
        help_text=_("This license sends the messages that name no license."),
    )
    # `db_default` as for `is_default`.
    alert_email = models.EmailField(
        _("e-mail for alerts"),
        blank=True,
        default="",
        db_default="",
        help_text=_("Told when receipts stop going out, and when they go out again."),
    )
    archived_at = models.DateTimeField(_("archived"), null=True, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    objects = OutboxManager.from_queryset(LicenseQuerySet)()

    _has_new_key = False
    # The stored value of each attribute when this object was last read or saved.
    _stored: Mapping[str, Any] = MappingProxyType({})

    if TYPE_CHECKING:
        lane: Lane

    class Meta:
        verbose_name = _("license")
        verbose_name_plural = _("licenses")
        ordering = ["name"]
        permissions = [
            ("link_license", _("Can link WhatsApp to a license (see its QR code)")),
            ("operate_license", _("Can operate a license (check, restart, pause, webhook, confirm its number)")),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save the license. The first one becomes the default; making one the default takes that from all others.

        For an object that is stored already, only the fields that were changed on it are written: another process may
        have replaced its key, made it inactive or archived it since this object was read.
        """
        using = kwargs.get("using") or router.db_for_write(type(self), instance=self)
        if not args and not kwargs.get("force_insert") and "update_fields" not in kwargs and self._is_stored(using):
            kwargs["update_fields"] = self._changed_fields()
        licenses = License.objects.using(using)
        written = kwargs.get("update_fields")
        with transaction.atomic(using=using):
            if self._state.adding and not self.is_default:
                _settle_default(self, licenses.kept())
            before = None
            if not self._state.adding and (written is None or "base_url" in written):
                before = licenses.filter(pk=self.pk).values_list("base_url", flat=True).first()
            takes_key = self._has_new_key and (written is None or "api_key_version" in written)
            counts = takes_key and not self._state.adding
            if counts:
                # Counted by the database: two objects that were read before either was saved would both count to the
                # same version, and a lane paused for the first key would not notice the second.
                self.api_key_version = F("api_key_version") + 1
            super().save(*args, **kwargs)
            if counts:
                self.refresh_from_db(using=using, fields=["api_key_version"])
            self._has_new_key = self._has_new_key and not takes_key
            if self.is_default and (written is None or "is_default" in written):
                licenses.filter(is_default=True).exclude(pk=self.pk).update(is_default=False)
        self._note_stored(written)
        if before is not None and before != self.base_url:
            logger.warning(
                "The base URL of license %s was changed from %s to %s.",
                self.name,
                addresses.shown(before),
                addresses.shown(self.base_url),
            )

    @classmethod
    def from_db(cls, *args: Any, **kwargs: Any) -> Self:
        loaded = super().from_db(*args, **kwargs)
        loaded._note_stored()
        return loaded

    def refresh_from_db(self, *args: Any, **kwargs: Any) -> None:
        super().refresh_from_db(*args, **kwargs)
        self._note_stored(kwargs.get("fields", args[1] if len(args) > 1 else None))

    def _is_stored(self, using: str) -> bool:
        """True if this object was read from or saved to the database `using` under its present primary key."""
        return (
            self.pk is not None
            and not self._state.adding
            and (self._state.db, self._stored.get("id")) == (using, self.pk)
        )

    def _note_stored(self, names: Iterable[str] | None = None) -> None:
        """Remember the stored values of the fields called `names`; None: of all fields."""
        own, noted = vars(self), dict(self._stored)
        for field in self._meta.concrete_fields:
            if (names is None or field.name in names) and field.attname in own:
                noted[field.attname] = own[field.attname]
        self._stored = noted

    def _changed_fields(self) -> list[str]:
        own, missing = vars(self), object()
        changed = {
            field.name
            for field in self._meta.concrete_fields
            if field.attname in own and own[field.attname] != self._stored.get(field.attname, missing)
        }
        # A key is only valid for the base URL that it was given for, so both are written together.
        return sorted(changed | {"updated_at"} | ({"base_url"} if self._has_new_key else set()))

    def clean_fields(self, exclude: Collection[str] | None = None) -> None:
        super().clean_fields(exclude)
        if (
            self.base_url
            and "base_url" not in (exclude or ())
            and not addresses.is_allowed(self.base_url, kpwa_settings())
        ):
            # The same message for every reason: a user who probes addresses must not learn what exists behind them.
            raise ValidationError({"base_url": _NOT_ALLOWED})

    def clean(self) -> None:
        super().clean()
        low, high = self.pace_min_seconds, self.pace_max_seconds
        if (low is None) != (high is None):
            raise ValidationError(_("Give both the shortest and the longest gap, or neither."))
        if low is not None and high is not None and low > high:
            raise ValidationError(_("The shortest gap is longer than the longest."))
        if self.in_use_since is not None and self.in_use_since > timezone.localdate(timezone=self.time_zone):
            raise ValidationError({"in_use_since": _("This day is still to come.")})

    def has_history(self) -> bool:
        """True if it has messages or webhook events, so that it can be archived but not deleted."""
        return self.messages.exists() or self.webhook_events.exists()

    def archive(self) -> None:
        """Archive it: it no longer sends, is never chosen and is hidden from lists; its messages stay."""
        self.is_active, self.is_default, self.archived_at = False, False, timezone.now()
        self.save(update_fields=_ARCHIVED)

    def take_back(self) -> None:
        """Undo `archive()`. The license stays inactive until a person activates it."""
        self.archived_at = None
        self.save(update_fields=_ARCHIVED)

    def set_api_key(self, value: str) -> None:
        """Set the API key for the present `base_url`, and increment its version. The caller saves the license.

        If `base_url` is changed afterwards, in whatever way, the key is unreadable until it is set again.

        Raises `InvalidApiKeyError` for a key that cannot be sent in an HTTP header.
        """
        __traceback_hide__ = True
        key = clean_api_key(value)
        # Encrypted together with its base URL, so that changing only the URL does not send the key to the new host.
        self.api_key_ciphertext = encrypt(f"{key}\n{self.base_url}")
        self.api_key_version += 1
        self._has_new_key = True
        # Four characters of a short key would reveal too much of it.
        self.api_key_hint = key[-4:] if len(key) >= 16 else ""

    def get_api_key(self) -> Secret:
        """Return the API key.

        Raises `KeyUnreadableError` if none of the configured secret keys decrypts it, or if it was set for another base
        URL.
        """
        __traceback_hide__ = True
        # A key that was stored without a base URL was set for the configured `BASE_URLS`.
        key, _, base_url = decrypt(self.api_key_ciphertext).reveal().partition("\n")
        if base_url != self.base_url:
            raise KeyForAnotherUrlError("The API key was stored for another base URL. Enter the API key again.")
        return Secret(key)

    def get_gateway(self) -> Gateway:
        """Return a gateway of the configured class for this license; the caller closes it.

        Under a test runner, `LocmemGateway` replaces a gateway that would reach the real service, see
        `testing.reach_outside`.

        Raises `KeyUnreadableError`, or `ImproperlyConfigured` if the site does not allow the base URL.
        """
        conf = kpwa_settings()
        base_urls = (self.base_url,) if self.base_url else conf.BASE_URLS
        gateway_class = load_gateway_class()
        if gateway_class.leaves_the_process and is_rehearsal():
            gateway_class = LocmemGateway
        api_key = self.get_api_key()
        if self.base_url and gateway_class.leaves_the_process and not self._may_be_reached(conf):
            raise ImproperlyConfigured(
                f"This site does not allow the base URL of license {self.name}. Add its host to "
                "KPWA['ALLOWED_GATEWAY_HOSTS'], and use https."
            )
        return gateway_class(api_key, base_urls=base_urls)

    def _may_be_reached(self, conf: Settings) -> bool:
        # Forms reject loopback addresses unless DEBUG is on, but one set by the site's own code or tests is used.
        return addresses.is_allowed(self.base_url, conf) or addresses.is_loopback(self.base_url)

    @property
    def time_zone(self) -> tzinfo:
        """The time zone of the license's days and quiet hours: the site's `TIME_ZONE`."""
        return timezone.get_default_timezone()

    def cold_limit_on(self, day: date) -> int | None:
        """Return the maximum number of messages to new customers on `day`; None if there is no limit.

        A new customer is one who has not written to the license for `WARM_DAYS`.
        """
        if self.cold_limit is not None:
            return self.cold_limit or None
        if self.in_use_since is None:
            return None
        age = (day - self.in_use_since).days
        return next((limit for days, limit in kpwa_settings().COLD_RAMP if age < days), None)

    @property
    def pace_seconds(self) -> tuple[float, float]:
        """The shortest and longest gap between two messages, in seconds: the license's own, else `PACE_SECONDS`."""
        if self.pace_min_seconds is None or self.pace_max_seconds is None:
            low, high = kpwa_settings().PACE_SECONDS
            return low, high
        return self.pace_min_seconds, self.pace_max_seconds


def _settle_default(added: License, others: LicenseQuerySet) -> None:
    """Before `added` is inserted, make the first license the default: `added` itself, or the only other, if active.

    Otherwise a second license would leave no default, and messages that name no license would wait.
    """
    first_two = list(others.order_by("pk")[:2])
    if not first_two:
        added.is_default = True
    elif len(first_two) == 1 and first_two[0].is_active:
        others.filter(pk=first_two[0].pk).update(is_default=True)


class WebhookToken(models.Model):
    """The secret part of a license's webhook URL, stored as its SHA-256 digest.

    A new token takes over with its first event; the earlier ones expire a day after that.
    """

    license = models.ForeignKey(License, models.CASCADE, related_name="webhook_tokens", verbose_name=_("license"))
    digest = models.CharField(_("SHA-256 of the token"), max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(_("created"))
    registered_at = models.DateTimeField(_("registered with the gateway"), null=True)
    first_used_at = models.DateTimeField(_("first event"), null=True)
    expires_at = models.DateTimeField(_("expires"), null=True)

    objects = OutboxManager()

    class Meta:
        verbose_name = _("webhook token")
        verbose_name_plural = _("webhook tokens")
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.license_id}/{self.pk}"


class Dashboard(License):
    """The page that shows whether messages are being sent, and what to do if they are not.

    It has no table of its own. As a model it appears in the admin's index and in themes' menus, and has a permission.
    """

    class Meta:
        proxy = True
        verbose_name = _("dashboard")
        verbose_name_plural = _("dashboard")
        default_permissions = ("view",)
