"""Filters of the app's own pages in the admin."""

from __future__ import annotations

from django import template

from .. import phone

register = template.Library()


@register.filter
def phone_number(digits: str) -> str:
    """Digits with the country code, as people here write them."""
    return phone.written(digits)
