"""The app's pages in the Django admin.

Importing this package registers them with the default admin site. For an admin site of your own, call
`register(site)`. `KpwaMessagesInline` shows an object's messages in your own admin classes.
"""

from __future__ import annotations

from django.contrib import admin

from ..models import Dashboard, License, OutboundMessage, ReceiptFailure, RegisteredReceipt, WebhookEvent
from .dashboard_admin import DashboardAdmin
from .event_admin import WebhookEventAdmin
from .license_admin import LicenseAdmin
from .message_admin import MessageAdmin
from .messages_inline import KpwaMessagesInline
from .receipt_admin import ReceiptFailureAdmin, RegisteredReceiptAdmin

__all__ = [
    "DashboardAdmin",
    "KpwaMessagesInline",
    "LicenseAdmin",
    "MessageAdmin",
    "ReceiptFailureAdmin",
    "RegisteredReceiptAdmin",
    "WebhookEventAdmin",
    "register",
]

_ADMINS = {
    Dashboard: DashboardAdmin,
    License: LicenseAdmin,
    OutboundMessage: MessageAdmin,
    WebhookEvent: WebhookEventAdmin,
    RegisteredReceipt: RegisteredReceiptAdmin,
    ReceiptFailure: ReceiptFailureAdmin,
}


def register(site: admin.AdminSite) -> None:
    """Register the app's models with `site`. Models that are already registered there keep their admin class."""
    for model, model_admin in _ADMINS.items():
        if not site.is_registered(model):
            site.register(model, model_admin)


register(admin.site)
