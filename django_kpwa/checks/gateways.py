"""Checks that messages go to the real service, and that API keys go only to addresses that should get them.

Checks for live sites run only with `check --deploy`, because what they report is normal in development.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured

from ..conf import kpwa_settings
from ..gateway import addresses, load_gateway_class
from ..models import License
from .configuration import is_http, make_warning
from .database import has_licenses, is_asked
from .registration import register


@register(deploy=True)
def check_real_gateway_when_live(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """W081, W082, W083: settings of a live site with which receipts reach nobody, or are sent unencrypted."""
    if settings.DEBUG:
        return []
    if what := _pretends():
        return [
            make_warning(
                "W081",
                f"KPWA['GATEWAY'] is not the real one, and DEBUG is off: messages are {what}. Every receipt "
                "counts as sent, but no customer gets one.",
                "Remove 'GATEWAY' from KPWA on a live site, e.g. set it only under `if DEBUG:`.",
            )
        ]
    try:
        base_urls = kpwa_settings().BASE_URLS if is_http() else ()
    except ImproperlyConfigured:
        return []
    found = []
    if any(map(addresses.is_loopback, base_urls)):
        found.append(
            make_warning(
                "W082",
                "KPWA['BASE_URLS'] names this machine, and DEBUG is off: a sandbox accepts every receipt, "
                "which counts as sent, but no customer gets one.",
                "Remove 'BASE_URLS' from KPWA on a live site. If a tunnel to the real gateway ends here, "
                "silence this check.",
            )
        )
    if any(map(addresses.is_in_the_clear, base_urls)):
        found.append(
            make_warning(
                "W083",
                "KPWA['BASE_URLS'] has an address without https: the API key, customers' numbers and texts are sent "
                "unencrypted.",
                "Use https://, or remove 'BASE_URLS' from KPWA.",
            )
        )
    return found


@register(database=True, deploy=True)
def check_licenses_when_live(app_configs: Any, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """W082: licenses whose own base URL is this machine (a sandbox), on a live site."""
    if settings.DEBUG or not is_asked(databases) or not is_http() or not has_licenses():
        return []
    names = [license_.name for license_ in _with_own_url() if addresses.is_loopback(license_.base_url)]
    if not names:
        return []
    return [
        make_warning(
            "W082",
            f"The base URL of these licenses is this machine, and DEBUG is off: {', '.join(names)}. A sandbox "
            "accepts their receipts, which count as sent, but no customer gets one.",
            "Clear the base URL on the license's page, and enter its API key again. If a tunnel to the real "
            "gateway ends here, silence this check.",
        )
    ]


@register(database=True)
def check_base_urls(app_configs: Any, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """W080: licenses with a base URL that the site does not allow, so nothing is sent to it."""
    if not is_asked(databases) or not is_http() or not has_licenses():
        return []
    try:
        conf = kpwa_settings()
    except ImproperlyConfigured:
        return []
    names = [
        license_.name
        for license_ in _with_own_url()
        if not addresses.is_allowed(license_.base_url, conf) and not addresses.is_loopback(license_.base_url)
    ]
    if not names:
        return []
    return [
        make_warning(
            "W080",
            f"This site does not allow the base URL of these licenses: {', '.join(names)}. Their messages wait.",
            "Add its host to KPWA['ALLOWED_GATEWAY_HOSTS'] and use https, or clear it on the license's page.",
        )
    ]


def _pretends() -> str:
    try:
        return load_gateway_class().pretends
    except ImproperlyConfigured:
        return ""


def _with_own_url() -> list[License]:
    return list(License.objects.active().exclude(base_url="").order_by("name"))
