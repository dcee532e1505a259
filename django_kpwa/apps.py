"""The app's configuration: registers the checks, imports each app's `whatsapp.py` as the admin imports `admin.py`, and
masks webhook paths in Django's logs.
"""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.apps.registry import Apps
from django.core.management.base import CommandError
from django.db import models, transaction
from django.db.migrations import Migration
from django.db.models.signals import post_delete, post_save, pre_migrate
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _

from .logs import mask_paths_in


def _give_unassigned(using: str, raw: bool = False, **_given: Any) -> None:
    from .outbox import give_unassigned

    if not raw:  # a fixture may name a table that is not filled yet
        transaction.on_commit(give_unassigned, using=using, robust=True)


def _refuse_to_lose_messages(using: str, plan: list[tuple[Migration, bool]], apps: Apps, **_given: Any) -> None:
    """Refuse to migrate backwards if that would lose messages: `zero` would silently drop unsettled ones, and the
    tables of `0001` cannot store messages without a license.

    This runs before the first table is changed, because a migration that refused halfway would leave tables that fit
    no version of the code.

    Raises `CommandError` if messages are unsettled, or have no license.
    """
    undone = {step.name for step, backwards in plan if backwards and step.app_label == KpwaConfig.label}
    if "0001_initial" in undone:
        _refuse_to_drop_what_waits(apps, using)
    elif "0002_what_trials_found" in undone:
        _refuse_what_has_no_license(apps, using)


def _refuse_to_drop_what_waits(apps: Apps, using: str) -> None:
    messages = apps.get_model(KpwaConfig.label, "OutboundMessage").objects.using(using)
    undecided = models.Q(status="unknown", dismissed_at=None)
    count = messages.filter(models.Q(status__in=["queued", "sending"]) | undecided).count()
    if count:
        told = "1 message waits or is in doubt" if count == 1 else f"{count} messages wait or are in doubt"
        raise CommandError(
            f"{told}; dropping the tables would lose them. Send or cancel what waits, decide about what is in doubt "
            "(manage.py kpwa messages), then migrate again."
        )


def _refuse_what_has_no_license(apps: Apps, using: str) -> None:
    """Before 0002, every message has an existing license. The migration gives settled messages one; for the others a
    person has to choose."""
    licenses = apps.get_model(KpwaConfig.label, "License").objects.using(using)
    messages = apps.get_model(KpwaConfig.label, "OutboundMessage").objects.using(using)
    without = messages.filter(~models.Exists(licenses.filter(pk=models.OuterRef("license_id")))).order_by("pk")
    if licenses.exists():
        without = without.filter(status__in=["queued", "sending", "unknown"])
    if count := without.count():
        ids = " ".join(map(str, without.values_list("pk", flat=True)[:_MOST_IDS]))
        told = "1 message has" if count == 1 else f"{count} messages have"
        raise CommandError(
            f"{told} no license, which the earlier tables do not allow: "
            f"{ids}{' …' if count > _MOST_IDS else ''}. Add a license, choose a default one and run manage.py "
            "kpwa dispatch, or cancel them (manage.py kpwa messages cancel); then migrate again."
        )


_MOST_IDS = 10


class KpwaConfig(AppConfig):
    name = "django_kpwa"
    label = "django_kpwa"
    verbose_name = _("WhatsApp")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        pre_migrate.connect(_refuse_to_lose_messages, sender=self, dispatch_uid="django_kpwa.refuse_to_lose_messages")
        # The paths of webhooks are secrets, see `logs`.
        mask_paths_in("django.server", "django.request")
        from .checks import register_with_django
        from .models import License

        register_with_django()

        # After any change of a license, it may be possible to choose one for messages that wait for a license.
        for changed in (post_save, post_delete):
            changed.connect(_give_unassigned, sender=License, dispatch_uid="django_kpwa.give_unassigned")
        # As the admin imports `admin`; a site without any of these modules does not import `receipts` for them.
        autodiscover_modules("whatsapp")
