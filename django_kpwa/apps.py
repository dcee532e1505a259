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


def _refuse_to_drop_what_waits(using: str, plan: list[tuple[Migration, bool]], apps: Apps, **_given: Any) -> None:
    """Refuse `migrate django_kpwa zero` while messages are unsettled: they would silently be dropped.

    This runs before the first table is changed, because a migration that refused halfway would leave tables that fit
    no version of the code.

    Raises `CommandError` if messages wait or are in doubt.
    """
    undone = {step.name for step, backwards in plan if backwards and step.app_label == KpwaConfig.label}
    if "0001_initial" not in undone:
        return
    messages = apps.get_model(KpwaConfig.label, "OutboundMessage").objects.using(using)
    undecided = models.Q(status="unknown", dismissed_at=None)
    count = messages.filter(models.Q(status__in=["queued", "sending"]) | undecided).count()
    if count:
        told = "1 message waits or is in doubt" if count == 1 else f"{count} messages wait or are in doubt"
        raise CommandError(
            f"{told}; dropping the tables would lose them. Send or cancel what waits, decide about what is in doubt "
            "(manage.py kpwa messages), then migrate again."
        )


class KpwaConfig(AppConfig):
    name = "django_kpwa"
    label = "django_kpwa"
    verbose_name = _("WhatsApp")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        pre_migrate.connect(_refuse_to_drop_what_waits, sender=self, dispatch_uid="django_kpwa.refuse_to_drop")
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
