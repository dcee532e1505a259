"""Filters for the templates of the app's admin pages."""

from __future__ import annotations

from django import template

from .. import phone

register = template.Library()


@register.filter
def phone_number(digits: str) -> str:
    """Format digits that begin with a country code the way numbers are written in Indonesia."""
    return phone.written(digits)
