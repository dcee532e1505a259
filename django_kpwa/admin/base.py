"""What our admin classes stand on: Django's own, or those of django-unfold where the site uses that theme.

Unfold styles the widgets and tables of its own classes alone; a stock `ModelAdmin` under it looks unfinished.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import apps

UNDER_UNFOLD = apps.is_installed("unfold")

if TYPE_CHECKING:
    from django.contrib import admin

    ModelAdmin = admin.ModelAdmin[Any]
    TabularInline = admin.TabularInline[Any, Any]
elif UNDER_UNFOLD:
    from unfold.admin import ModelAdmin, TabularInline
else:
    from django.contrib.admin import ModelAdmin, TabularInline

__all__ = ["UNDER_UNFOLD", "ModelAdmin", "TabularInline"]
