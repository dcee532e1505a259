"""Deployment checks of whether somebody is notified when receipts stop going out."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured

from .. import announce
from ..conf import kpwa_settings
from .configuration import make_warning
from .registration import register


@register(deploy=True)
def check_alerts(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """W084, W085: nobody is notified when receipts stop going out."""
    try:
        conf = kpwa_settings()
    except ImproperlyConfigured:
        return []
    if not (conf.ALERT_EMAILS or conf.ALERT_URLS or announce.alerts_have_listeners()):
        return [
            make_warning(
                "W084",
                "Nobody is notified when receipts stop going out: only a log line and the dashboard show it.",
                "For example: 'ALERT_EMAILS': ['owner@shop.example'] in KPWA; see docs/monitoring.md.",
            )
        ]
    if conf.ALERT_EMAILS and _mail_backend().rpartition(".")[0] in _GOES_NOWHERE:
        return [
            make_warning(
                "W085",
                f"KPWA['ALERT_EMAILS'] is set, but the site's mail reaches nobody: it goes to {_mail_backend()!r}.",
                "Set an e-mail backend that sends: EMAIL_BACKEND, or since Django 6.1 MAILERS['default'].",
            )
        ]
    return []


_GOES_NOWHERE = {f"django.core.mail.backends.{name}" for name in ("console", "dummy", "filebased", "locmem")} | {""}


def _mail_backend() -> str:
    """Return the dotted path of the site's e-mail backend; empty if there is none."""
    mailers = getattr(settings, "MAILERS", None)
    if mailers:
        return str(mailers.get("default", {}).get("BACKEND", ""))
    return str(getattr(settings, "EMAIL_BACKEND", ""))
