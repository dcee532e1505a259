"""The app's configuration: registers the checks, finds each app's `whatsapp.py` as the admin finds `admin.py`, and
masks what Django logs of webhooks.
"""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db import transaction
from django.db.models.signals import post_delete, post_save
from django.utils.translation import gettext_lazy as _

from .logs import mask_paths_in


def _give_unassigned(using: str, raw: bool = False, **_given: Any) -> None:
    from .outbox import give_unassigned

    if not raw:  # a fixture may name a table that is not filled yet
        transaction.on_commit(give_unassigned, using=using, robust=True)


class KpwaConfig(AppConfig):
    name = "django_kpwa"
    label = "django_kpwa"
    verbose_name = _("WhatsApp")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Its paths are secrets: see logs.py.
        mask_paths_in("django.server", "django.request")
        from . import checks  # noqa: F401 - registers the system checks
        from .models import License

        # However it is changed: what waits because it could not be told which license sends may go now.
        for changed in (post_save, post_delete):
            changed.connect(_give_unassigned, sender=License, dispatch_uid="django_kpwa.give_unassigned")
        from .receipts import autodiscover

        autodiscover()
