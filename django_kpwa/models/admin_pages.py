"""Pages of the admin that do not show one table: the dashboard, and the registered receipt classes.

They are proxy models, which have no table of their own, so that they appear in the admin's index and in themes' menus,
and have a view permission.
"""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from .license import License
from .receipt_failure import ReceiptFailure


class Dashboard(License):
    """The page that shows whether messages are being sent, and what to do if they are not."""

    class Meta:
        proxy = True
        verbose_name = _("dashboard")
        verbose_name_plural = _("dashboard")
        default_permissions = ("view",)


class RegisteredReceipt(ReceiptFailure):
    """The receipt classes that the site has registered."""

    class Meta:
        proxy = True
        verbose_name = _("receipt")
        verbose_name_plural = _("receipts")
        default_permissions = ("view",)
