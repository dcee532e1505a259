"""The app's configuration: registers the checks, finds each app's `whatsapp.py` as the admin finds `admin.py`, and
masks what Django logs of webhooks.
"""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

from .logs import mask_paths_in


class KpwaConfig(AppConfig):
    name = "django_kpwa"
    label = "django_kpwa"
    verbose_name = _("WhatsApp")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Its paths are secrets: see logs.py.
        mask_paths_in("django.server", "django.request")
        from . import checks  # noqa: F401 - registers the system checks
        from .receipts import autodiscover

        autodiscover()
