"""Filters of the app's own pages in the admin."""

from __future__ import annotations

from django import template

from .. import phone

register = template.Library()


@register.filter
def phone_number(digits: str) -> str:
    """Digits that begin with a country code, written as people in Indonesia write numbers."""
    return phone.written(digits)
