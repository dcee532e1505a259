"""The app in the Django admin. It is on the default site by itself; a site of one's own calls `register(site)`."""

from __future__ import annotations

from django.contrib import admin

from ..models import License, OutboundMessage, ReceiptFailure, WebhookEvent
from .license import LicenseAdmin
from .message import MessageAdmin
from .receipt_failure import ReceiptFailureAdmin
from .webhook_event import WebhookEventAdmin

__all__ = ["LicenseAdmin", "MessageAdmin", "ReceiptFailureAdmin", "WebhookEventAdmin", "register"]


def register(site: admin.AdminSite) -> None:
    """Put the app's models on `site`. Those that it has already are left as they are."""
    if not site.is_registered(License):
        site.register(License, LicenseAdmin)
    if not site.is_registered(OutboundMessage):
        site.register(OutboundMessage, MessageAdmin)
    if not site.is_registered(WebhookEvent):
        site.register(WebhookEvent, WebhookEventAdmin)
    if not site.is_registered(ReceiptFailure):
        site.register(ReceiptFailure, ReceiptFailureAdmin)


register(admin.site)
