"""The app's configuration: registers the checks, finds each app's `whatsapp.py` as the admin finds `admin.py`, and
masks what Django logs of webhooks.
"""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.apps.registry import Apps
from django.core.management.base import CommandError
from django.db import models, transaction
from django.db.migrations import Migration
from django.db.models.signals import post_delete, post_save, pre_migrate
from django.utils.translation import gettext_lazy as _

from .logs import mask_paths_in


def _give_unassigned(using: str, raw: bool = False, **_given: Any) -> None:
    from .outbox import give_unassigned

    if not raw:  # a fixture may name a table that is not filled yet
        transaction.on_commit(give_unassigned, using=using, robust=True)


def _refuse_to_drop_what_waits(using: str, plan: list[tuple[Migration, bool]], apps: Apps, **_given: Any) -> None:
    """`migrate django_kpwa zero` would lose messages that are not settled, without a word.

    It is asked before the first table changes: a migration that refuses in the middle of the way back leaves tables
    that fit no code.

    Raises:
        CommandError: Messages wait or are in doubt.
    """
    if not any(
        backwards and (step.app_label, step.name) == (KpwaConfig.label, "0001_initial") for step, backwards in plan
    ):
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
        pre_migrate.connect(
            _refuse_to_drop_what_waits, sender=self, dispatch_uid="django_kpwa.refuse_to_drop_what_waits"
        )
        # Its paths are secrets: see logs.py.
        mask_paths_in("django.server", "django.request")
        from . import checks  # noqa: F401 - registers the system checks
        from .models import License

        # However it is changed: what waits because it could not be told which license sends may go now.
        for changed in (post_save, post_delete):
            changed.connect(_give_unassigned, sender=License, dispatch_uid="django_kpwa.give_unassigned")
        from .receipts import autodiscover

        autodiscover()
