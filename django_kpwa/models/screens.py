"""Proxies without rows of their own: the admin's pages that show no single table.

As models they appear in the admin's index, have a permission to be looked at, and a theme lists them like the others.
"""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from .license import License
from .receipt_failure import ReceiptFailure


class Dashboard(License):
    """Whether receipts are going out, and what to press where they are not."""

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
