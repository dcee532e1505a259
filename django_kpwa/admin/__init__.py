"""The app in the Django admin. It is on the default site by itself; a site of one's own calls `register(site)`.

`KpwaMessagesInline` is for the host's own admin classes.
"""

from __future__ import annotations

from django.contrib import admin

from ..models import Dashboard, License, OutboundMessage, ReceiptFailure, RegisteredReceipt, WebhookEvent
from .dashboard_admin import DashboardAdmin
from .event_admin import WebhookEventAdmin
from .license_admin import LicenseAdmin
from .message_admin import MessageAdmin
from .messages_inline import KpwaMessagesInline
from .receipt_admin import RegisteredReceiptAdmin
from .receipt_failure_admin import ReceiptFailureAdmin

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
    """Put the app's models on `site`. Those that it has already are left as they are."""
    for model, model_admin in _ADMINS.items():
        if not site.is_registered(model):
            site.register(model, model_admin)


register(admin.site)
